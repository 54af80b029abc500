"""Many linear heads trained in one pass over the data: SGD, momentum, cosine, clipping.

With X a batch (batch, dim), and W (heads * classes, dim), b (heads * classes,) the parameters of all heads:

    Z = X W' + b                            one product for all heads
    P = softmax(Z) per head and row         (batch, heads, classes)
    G = (P - onehot(y)) / batch
    dW = G' X,  db = sum of G over rows     one product for all heads
    c = min(1, clip_norm / (|dW, db| + 1e-6))        per head, torch's clip_grad_norm_
    V <- momentum V + c dW + weight_decay W          torch.optim.SGD; the bias has no decay
    W <- W - lr(t) V                                 per head

The loop has no autograd and no DataLoader: rows are gathered into one buffer, results are written in place.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import EpochRow, LinearHead, Scores, linear_logits, scores

Weights = npt.NDArray[np.float32]

VAL_LOGITS = 2**20  # held at a time in a val pass, over all heads


def train_heads(
    train: Features,
    val: Features | None,
    configs: Sequence[HeadConfig],
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[LinearHead]:
    """Train one head per config, side by side; each equals itself trained alone.

    Args:
        train: the rows to learn from; held in memory, on the device where there is one.
        val: scored after every epoch; it changes no weight.
        configs: they may differ in lr, momentum, weight_decay and clip_norm. Heads that differ in batch_size,
            epochs or seed see other batches: they are trained in calls of their own.
        device: where torch computes.
        progress: called after every epoch with (epochs done, epochs).

    Returns:
        The heads, in the order of `configs`. One that diverged is among them, with a loss of nan.

    Raises:
        UsageError: the configs disagree in what they must share, a split has no rows, or val does not fit.
    """
    shared = _shared(configs)
    _check_splits(train, val)
    with torch.inference_mode():
        stack = Stack(configs, classes=len(train.classes), dim=train.x.shape[1], rows=len(train.y), device=device)
        x, y = _to(device, train)
        on_val = _to(device, val) if val is not None else None
        buffer = torch.empty(min(shared.batch_size, len(y)), x.shape[1], device=device)
        running = Tally(len(y), len(configs), device)
        history: list[list[EpochRow]] = []  # by epoch, by head
        for epoch, order in enumerate(orders(len(y), shared.epochs, shared.seed), start=1):
            order = order.to(device)
            y_now = y[order]  # once an epoch: the steps take slices
            for start in range(0, len(y), shared.batch_size):
                rows = order[start : start + shared.batch_size]
                batch = torch.index_select(x, 0, rows, out=buffer[: len(rows)])
                stack.step(batch, y_now[start : start + len(rows)], running)
            last = epoch == shared.epochs  # its val pass is the final one, below
            after = [None] * len(configs) if on_val is None or last else _pass(stack, *on_val)
            before = running.scores(y_now, stack.classes)
            history.append([EpochRow(epoch, t, v) for t, v in zip(before, after, strict=True)])
            if progress is not None:
                progress(epoch, shared.epochs)
        weights, biases = stack.weights(), stack.biases()
    return [
        _finish(config, weights[head], biases[head], [rows[head] for rows in history], train, val)
        for head, config in enumerate(configs)
    ]


def orders(rows: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """The order in which each epoch draws the rows, (rows,) int64; on the CPU, so the same for every device.

    These are the draws of torch's `RandomSampler(…, generator=torch.Generator().manual_seed(seed))`.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(rows, generator=generator)


class Stack:
    """The parameters of all heads and their optimizer; `step` is the arithmetic at the top of this file."""

    def __init__(self, configs: Sequence[HeadConfig], *, classes: int, dim: int, rows: int, device: str) -> None:
        self.heads, self.classes, self.dim = len(configs), classes, dim
        self.done = 0
        wide = self.heads * classes
        self.w, self.b = torch.zeros(wide, dim, device=device), torch.zeros(wide, device=device)
        self.dw, self.db = torch.empty_like(self.w), torch.empty_like(self.b)
        self.vw, self.vb = torch.zeros_like(self.w), torch.zeros_like(self.b)
        size = min(configs[0].batch_size, rows)
        self.z = torch.empty(size, wide, device=device)
        self.logp = torch.empty(size, self.heads, classes, device=device)
        self.minus_one = torch.full((size, self.heads, 1), -1.0, device=device)

        def per_head(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

        self.momentum = per_head([config.momentum for config in configs])
        decays = [config.weight_decay for config in configs]
        self.weight_decay = per_head(decays) if any(decays) else None
        clips = [config.clip_norm for config in configs]
        self.clip_norm = (
            per_head([float("inf") if c is None else c for c in clips]) if clips.count(None) < len(clips) else None
        )
        steps = configs[0].steps(rows)
        cosine = 1 + np.cos(np.pi * np.arange(steps) / steps)  # `HeadConfig.lr_at`, all steps at once
        rates = cosine[:, None] * [-config.lr / 2 for config in configs]
        self.minus_lr = torch.tensor(rates, dtype=torch.float32, device=device)[:, :, None, None]

    def step(self, x: Tensor, y: Tensor, running: "Tally") -> None:
        """One step of every head on x (batch, dim), y (batch,); `running` takes in the logits before it."""
        size, heads = len(x), self.heads
        z, logp = self.z[:size], self.logp[:size]
        torch.addmm(self.b, x, self.w.t(), out=z)
        torch.log_softmax(z.view(size, heads, self.classes), 2, out=logp)
        truth = running.add(logp, y)
        g = logp.exp_().scatter_add_(2, truth, self.minus_one[:size]).mul_(1 / size).view(size, -1)
        torch.mm(g.t(), x, out=self.dw)
        torch.sum(g, 0, out=self.db)
        self._update(self.minus_lr[self.done])
        self.done += 1

    def _update(self, minus_lr: Tensor) -> None:
        w, dw, vw = (t.view(self.heads, self.classes, self.dim) for t in (self.w, self.dw, self.vw))
        b, db, vb = (t.view(self.heads, self.classes, 1) for t in (self.b, self.db, self.vb))
        clip = self._clip_scale(dw, db)
        for v, d in ((vw, dw), (vb, db)):
            v.mul_(self.momentum)
            if clip is None:
                v.add_(d)
            else:
                v.addcmul_(d, clip)
        if self.weight_decay is not None:  # after clipping, as torch's order has it; never on the bias
            vw.addcmul_(w, self.weight_decay)
        w.addcmul_(vw, minus_lr)
        b.addcmul_(vb, minus_lr)

    def _clip_scale(self, dw: Tensor, db: Tensor) -> Tensor | None:
        """Every head's own factor, (heads, 1, 1).

        One norm over the stack would let a diverging head shrink its neighbours' steps, and a head in a sweep
        would no longer equal the same head alone.
        """
        if self.clip_norm is None:
            return None
        norm = torch.hypot(
            torch.linalg.vector_norm(dw.flatten(1), dim=1), torch.linalg.vector_norm(db.flatten(1), dim=1)
        )
        return (self.clip_norm / norm.add_(1e-6)[:, None, None]).clamp_(max=1)

    def log_softmax(self, x: Tensor) -> Tensor:
        """Log-probabilities (rows, heads, classes) of x (rows, dim)."""
        z = torch.addmm(self.b, x, self.w.t())
        return torch.log_softmax(z.view(len(x), self.heads, self.classes), 2)

    def weights(self) -> Weights:
        """(heads, classes, dim) float32."""
        return _array(self.w.view(self.heads, self.classes, self.dim))

    def biases(self) -> Weights:
        """(heads, classes) float32."""
        return _array(self.b.view(self.heads, self.classes))


class Tally:
    """Loss and hits of all heads over one pass, kept on the device: nothing is waited for until `scores`."""

    def __init__(self, rows: int, heads: int, device: str | torch.device) -> None:
        self.hits = torch.empty(heads, rows, dtype=torch.bool, device=device)
        self.losses: list[Tensor] = []  # (heads,) a block
        self.seen = 0

    def add(self, logp: Tensor, y: Tensor) -> Tensor:
        """Take in a block's log-probabilities (rows, heads, classes) and labels (rows,).

        Returns the labels as an index into the classes, (rows, heads, 1).
        """
        until = self.seen + len(y)
        torch.eq(logp.argmax(2).t(), y, out=self.hits[:, self.seen : until])
        truth = y[:, None, None].expand(-1, logp.shape[1], 1)
        self.losses.append(logp.gather(2, truth).sum(0).squeeze(1))
        self.seen = until
        return truth

    def scores(self, y: Tensor, classes: int) -> list[Scores]:
        """The scores of every head on what was added, with `y` in that order; the tally is empty after it."""
        support = torch.bincount(y, minlength=classes).cpu().numpy()
        hits = [torch.bincount(y[hit], minlength=classes).cpu().numpy() for hit in self.hits]
        losses = -torch.stack(self.losses).cpu().numpy().sum(axis=0, dtype=np.float64) / self.seen
        self.losses, self.seen = [], 0
        occurs = support > 0
        return [
            Scores(float(hit.sum() / support.sum()), float((hit[occurs] / support[occurs]).mean()), float(loss))
            for hit, loss in zip(hits, losses, strict=True)
        ]


def _pass(stack: Stack, x: Tensor, y: Tensor) -> list[Scores]:
    tally = Tally(len(y), stack.heads, x.device)
    block = max(1, VAL_LOGITS // (stack.heads * stack.classes))
    for start in range(0, len(y), block):
        tally.add(stack.log_softmax(x[start : start + block]), y[start : start + block])
    return tally.scores(y, stack.classes)


def _array(values: Tensor) -> Weights:
    return np.array(values.cpu().numpy())  # a copy: the stack's own memory goes with it


def _finish(
    config: HeadConfig,
    weight: Weights,
    bias: Weights,
    history: list[EpochRow],
    train: Features,
    val: Features | None,
) -> LinearHead:
    """Score the final weights in NumPy, as a loaded head will be, so that both give the same numbers."""
    logits = partial(linear_logits, weight=weight, bias=bias)
    on_train, on_val = scores(logits, train), None if val is None else scores(logits, val)
    rows = (*history[:-1], replace(history[-1], val=on_val))
    return LinearHead(config, weight, bias, config.steps(len(train.y)), rows, on_train, on_val)


def _shared(configs: Sequence[HeadConfig]) -> HeadConfig:
    if not configs:
        raise UsageError("no heads to train: expected at least one learning rate.")
    for name in ("batch_size", "epochs", "seed"):
        found = sorted({getattr(config, name) for config in configs})
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise UsageError(
                f"heads side by side see the same batches: {name} is {listed}, expected one value. "
                f"Train them in separate calls."
            )
    return configs[0]


def _check_splits(train: Features, val: Features | None) -> None:
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    if val is None:
        return
    if not len(val.y):
        raise UsageError("the val split has 0 rows, expected at least one; train without it.")
    if val.classes != train.classes:
        raise UsageError(f"val has {len(val.classes)} classes, train {len(train.classes)}: expected the same list.")
    if val.x.shape[1] != train.x.shape[1]:
        raise UsageError(
            f"val has embeddings of {val.x.shape[1]}, train of {train.x.shape[1]}: expected the same trunk."
        )


def _to(device: str, features: Features) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # A memory-mapped store is read-only, and torch has no such tensors. Nothing here writes to x or y.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        x = torch.from_numpy(np.ascontiguousarray(features.x, dtype=np.float32))
        y = torch.from_numpy(np.ascontiguousarray(features.y, dtype=np.int64))
    return x.to(device), y.to(device)
