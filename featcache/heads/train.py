"""Train linear heads side by side: one read of a batch, one matrix product, every head its own settings.

What a step computes is in `stack`; which rows it sees in `draws`; what an epoch's score does in `courses`.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.courses import Course
from featcache.heads.draws import draws
from featcache.heads.linear import EpochRow, LinearHead, Scores, scores
from featcache.heads.stack import Batch, Moments, Stack
from featcache.heads.tally import Tally

PASS_LOGITS = 2**20  # held at a time when a split is scored, over all heads
LEAST_STD = 1e-12  # of a dimension's size: below it a dimension counts as constant

# Told the epoch and every head's scores on val so far; the heads that it names (by index) are stopped.
Watch = Callable[[int, Sequence[Scores | None]], Collection[int]]


def train_heads(
    train: Features,
    val: Features | None,
    configs: Sequence[HeadConfig],
    *,
    select: str = "macro_recall",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> list[LinearHead]:
    """Train one head per config; each equals itself trained alone.

    Args:
        train: the rows to learn from; held in memory, on the device where there is one.
        val: scored after every epoch; it decides what patience and a plateau ask for, and changes no other weight.
        configs: heads that agree in batch_size, epochs, seed and sampler see the same batches and are trained in one
            pass; the others in passes of their own.
        select: the metric that patience goes by: macro_recall, accuracy or loss.
        device: where torch computes.
        progress: called after every epoch with (epochs done, epochs), over all passes.
        watch: called after every epoch of a single pass; it may stop heads, which then keep what they have.

    Returns:
        The heads, in the order of `configs`. One that diverged is among them, with a loss of nan.

    Raises:
        UsageError: no heads, a split without rows, a val that does not fit, patience without val, or a watch over
            several passes.
    """
    _check(train, val, configs)
    passes: dict[tuple[object, ...], list[int]] = {}
    for index, config in enumerate(configs):
        passes.setdefault(config.batches, []).append(index)
    if watch is not None and len(passes) > 1:
        raise UsageError(f"heads that are watched see the same batches; these need {len(passes)} passes.")
    done, total = 0, sum(configs[which[0]].epochs for which in passes.values())

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    heads: dict[int, LinearHead] = {}
    with torch.inference_mode():
        data = _to(device, train)
        on_val = None if val is None else _to(device, val)
        moments = moments_of(train, configs)
        for which in passes.values():
            several = [configs[index] for index in which]
            trained = _one_pass(data, on_val, several, moments, select, told, watch)
            heads.update(zip(which, trained if val is None else [_scored(head, val) for head in trained], strict=True))
    return [heads[index] for index in range(len(configs))]


def _one_pass(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor] | None, configs: Sequence[HeadConfig], moments: Moments,
    select: str, told: Callable[[], None], watch: Watch | None,
) -> list[LinearHead]:  # fmt: skip
    """Heads that see the same batches."""
    (x, y), first = train, configs[0]
    device, rows = str(x.device), len(y)
    batch = Batch(min(first.batch_size, rows), x.shape[1], device)
    stack = Stack(configs, moments, batch, first.steps(rows), device)
    tally = Tally(rows, stack.heads, device)
    courses = [Course(config, select) for config in configs]
    needs_val = watch is not None or any(c.patience or c.schedule == "plateau" for c in configs)
    history: list[list[EpochRow]] = [[] for _ in configs]
    kept: dict[int, Tensor] = {}  # the best epoch's weights of heads with patience
    for epoch, order in enumerate(draws(y.cpu(), first), start=1):
        order = order.to(device)
        y_now = y[order]  # once an epoch: the steps take slices
        for start in range(0, rows, first.batch_size):
            drawn = order[start : start + first.batch_size]
            stack.step(batch.gather(x, drawn), y_now[start : start + len(drawn)], tally)
        level = min(first.batch_size, rows) if epoch == 1 else 0
        before = stack.by_head(tally.scores(y_now, stack.classes, level))
        last = epoch == first.epochs and not needs_val  # else this pass is the final score
        after = [None] * len(configs) if val is None or last else _pass(stack, *val)
        for head, course in enumerate(courses):
            if not course.stopped:
                history[head].append(EpochRow(epoch, before[head], after[head]))
                if course.after(epoch, before[head], after[head]):
                    kept[head] = stack.w[stack.place(head)].clone()
        if watch is not None:
            for head in watch(epoch, after):
                courses[head].stop()
        stack.set_pace([course.pace for course in courses])
        told()
        if all(course.stopped for course in courses):
            break
    for head, weights in kept.items():
        stack.w[stack.place(head)] = weights
    on_train = _pass(stack, x, y)
    weight, bias = stack.answers()
    steps = first.steps(rows) // first.epochs
    return [
        LinearHead(
            config, weight[head], bias[head], steps * len(history[head]), tuple(history[head]), on_train[head], None,
            best_epoch=courses[head].best_epoch,
        )
        for head, config in enumerate(configs)
    ]  # fmt: skip


def _scored(head: LinearHead, val: Features) -> LinearHead:
    """The head with its val score: in NumPy, as a loaded head will be scored, so that both give the same numbers."""
    on_val = scores(head.logits, val)
    last = head.history[-1]
    ended = last if last.val is not None else replace(last, val=on_val)
    return replace(head, val=on_val, history=(*head.history[:-1], ended))


def moments_of(train: Features, configs: Sequence[HeadConfig]) -> Moments:
    """Rows of each class, and mean and deviation of each dimension where a head standardises."""
    counts = np.bincount(train.y, minlength=len(train.classes))
    if not any(config.standardize for config in configs):
        blank = np.zeros(train.x.shape[1], np.float32)
        return Moments(counts, blank, blank + 1)
    mean = train.x.mean(axis=0, dtype=np.float64)
    square = np.zeros(len(mean))
    for start in range(0, len(train.x), 16_384):
        square += np.square(train.x[start : start + 16_384] - mean).sum(axis=0)
    std = np.sqrt(square / len(train.x))
    std[std <= LEAST_STD * np.abs(mean)] = 1
    return Moments(counts, mean.astype(np.float32), std.astype(np.float32))


def _pass(stack: Stack, x: Tensor, y: Tensor) -> list[Scores]:
    """Every head's scores on a split, by config."""
    tally = Tally(len(y), stack.heads, x.device)
    block = Batch(
        min(len(y), max(1, PASS_LOGITS // (stack.heads * stack.classes)), stack.rows), stack.dim, str(x.device)
    )
    for start in range(0, len(y), len(block.x)):
        now = y[start : start + len(block.x)]
        stack.score(block.copy(x[start : start + len(block.x)]), now, tally)
    return stack.by_head(tally.scores(y, stack.classes))


def _check(train: Features, val: Features | None, configs: Sequence[HeadConfig]) -> None:
    if not configs:
        raise UsageError("no heads to train: expected at least one learning rate.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    if val is None:
        if any(config.patience for config in configs):
            raise UsageError("patience waits for a better score on val, and there is no val split; leave it out.")
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
