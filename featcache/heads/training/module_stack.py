"""Heads that are torch modules, trained side by side on the same batches.

A step reads a batch once; then each head takes its own forward pass, gradient, clipping and optimizer's step, by the
very calls that it makes where it is trained alone. So its bits cannot depend on the heads beside it, as long as torch
computes with the same number of threads. The loss, its gradient by the logits and the scores are those of linear heads
(`training.losses`); what lies below the logits is torch's autograd, and the optimizers are torch's own.

What dropout leaves out is drawn from generators that are seeded before each step by the head's settings, its seed among
them, and the number of the step.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from featcache.heads import EpochRow, HeadConfig, Scores
from featcache.heads.modules import (
    ModuleHead,
    TrainedHead,
    collect_tensors,
    explain_own_failure,
    seed_dropout,
    seeded_module,
)
from featcache.heads.training.losses import LOG2_E, StackLosses
from featcache.heads.training.scores import BatchLogits, RowScores, softmax_and_scores_
from featcache.heads.training.stack import UNSCORED, EpochChunk, HeadStack, LabelledBlocks, TrainingPlan
from featcache.heads.training.threads import one_thread

SMALL = 2**28  # multiplications of a head's forward pass: below that a second thread costs more than it saves
SCORED_ROWS, SCORED_NUMBERS = 1_024, 2**24  # at most at a time, rows and numbers in them


class TrainedModule:
    """One head of a stack: its module, and all that a step of it takes.

    Attributes:
        config: the head's settings.
        module: (rows, width) -> (rows, classes), on the device.
    """

    def __init__(self, config: HeadConfig, plan: TrainingPlan) -> None:
        counts = plan.statistics.class_counts
        self.config = config
        self.module = seeded_module(config, embedding_width(plan), len(counts)).to(plan.device)
        self.parameters = list(self.module.parameters())
        self.losses = StackLosses([config], counts, plan.device)
        self.optimizer = make_optimizer(config, self.module, plan.device)
        self.normalized = [layer for layer in self.module.modules() if isinstance(layer, nn.BatchNorm1d)]
        self.generators = [torch.default_generator, *_generators(plan.device)]
        changed = {name: value for name, value in config.changed.items() if name != "views"}
        self.identity = json.dumps(changed, sort_keys=True)  # without views: one of the plain image changes nothing
        self.module.train()

    def step(self, number: int, lr: float, x: Tensor, y: Tensor, kept: BatchLogits) -> None:
        """Take one step.

        Args:
            number: of the step, over all epochs: it and the head's settings seed dropout.
            lr: the learning rate.
            x: (rows, width) the batch.
            y: (rows,) its classes.
            kept: where what its scores take is noted.
        """
        self._seed_dropout(number)
        for layer in self.normalized:
            layer.train(len(x) > 1)  # one row has no deviation: the running statistics stand in
        with torch.enable_grad(), explain_own_failure(self.config, x):
            logits = self.module(x)
        truth = y.view(1, 1, -1)
        z = (logits.detach() * LOG2_E).t().contiguous().unsqueeze(0)
        p = softmax_and_scores_(z, truth, kept, self.losses.offset)
        logits.backward(self.losses.softmax_grad_(p, y, truth)[0].t() / len(x))
        if self.config.clip_norm is not None:
            clip_gradient(self.parameters, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _seed_dropout(self, step: int) -> None:
        """Seed whatever a step of this head draws random numbers from."""
        digest = hashlib.sha256(f"{self.identity} {step}".encode()).digest()
        seed_dropout(self.module, int.from_bytes(digest, "little"))
        for generator in self.generators:
            generator.manual_seed(int.from_bytes(digest[:7], "little"))


class ModuleStack(HeadStack):
    """Heads that are torch modules; each takes its own steps on the batches that all of them see."""

    can_be_recorded = False
    kind: type[TrainedModule] = TrainedModule

    def __init__(self, plan: TrainingPlan) -> None:
        super().__init__(plan)
        with own_gradients():
            self.device = torch.device(plan.device)
            self.members = [self.kind(config, plan) for config in self.configs]
            self.row_scores = RowScores(plan.rows, self.heads, plan.device)
            self.embedding_width = embedding_width(plan)
            self.scored_rows = max(1, min(SCORED_ROWS, SCORED_NUMBERS // self.dim))
            self.x = torch.zeros(max(self.batch_size, self.scored_rows), self.dim, device=plan.device)
        self.exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        largest = max(sum(value.numel() for value in member.parameters) for member in self.members)
        is_small = self.device.type == "cpu" and self.batch_size * largest < SMALL
        self.exits.enter_context(one_thread(where=is_small))
        self.exits.enter_context(torch.random.fork_rng(devices=_indices(self.device)))
        return self

    def __exit__(self, *why: object) -> None:
        """Leave torch's generators and threads as they were."""
        self.exits.close()

    def _set_rates(self, epoch: int, minus_lr: Tensor) -> None:
        self.epoch, self.rates = epoch, (-minus_lr).tolist()

    def train_epoch(self, chunks: Iterable[EpochChunk]) -> list[Tensor]:
        """Take an epoch's steps, and return the labels that they saw, in their order."""
        self.row_scores.reset()
        step, labels = 0, []
        with own_gradients():
            for x, rows, y in chunks:
                labels.append(y)
                for start in range(0, len(y), self.batch_size):
                    drawn = rows[start : start + self.batch_size]
                    batch = torch.index_select(x, 0, drawn, out=self.x[: len(drawn)])
                    self._step(step, self._standardized(batch), y[start : start + self.batch_size])
                    step += 1
        return labels

    def train_scores(self, y: Tensor) -> list[Scores]:
        """Return the running scores of the last epoch, by config."""
        return self.by_config(self.row_scores.compute(y, self.classes))

    def score(self, blocks: LabelledBlocks, rows: int) -> list[Scores]:
        """Return the scores on so many rows, by config."""
        labels = []
        with for_inference(self.members):
            row_scores = RowScores(rows, self.heads, self.device)
            for x, y in blocks:
                labels.append(y)
                for start in range(0, len(y), self.scored_rows):
                    truth = y[start : start + self.scored_rows]
                    block = self.x[: len(truth)]
                    block.copy_(x[start : start + self.scored_rows])
                    self._score_block(self._standardized(block), truth.view(1, 1, -1), row_scores)
        return self.by_config(row_scores.compute(torch.cat(labels), self.classes))

    def copy_weights(self, head: int) -> Any:
        """Return a copy of the tensors of a config's head, for `restore_weights`."""
        state = self.members[self.position(head)].module.state_dict()
        return {name: value.clone() for name, value in state.items()}

    def restore_weights(self, head: int, weights: Any) -> None:
        """Give a config's head the tensors that it had when they were copied."""
        with own_gradients():
            self.members[self.position(head)].module.load_state_dict(weights)

    def trained_heads(
        self, histories: Sequence[Sequence[EpochRow]], best_epochs: Sequence[int | None]
    ) -> list[TrainedHead]:  # fmt: skip
        """Return the heads, by config, with their histories and best epochs; they have no scores yet."""
        members = self.by_config(self.members)
        return [
            ModuleHead(
                member.config, self.embedding_width, self.classes, self._tensors(member), self.steps * len(history),
                tuple(history), UNSCORED, None, best_epoch,
            )
            for member, history, best_epoch in zip(members, histories, best_epochs, strict=True)
        ]  # fmt: skip

    def _tensors(self, member: TrainedModule) -> dict[str, Any]:
        """Return what is kept of a head."""
        if self.standardizer is None:
            return collect_tensors(member.module)
        return collect_tensors(member.module, (self.standardizer.mean_parts, self.standardizer.inverse_std))

    def _step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Take step 0, 1, … of an epoch, for every head that has not stopped."""
        kept = self.row_scores.reserve(len(x))
        for number, (member, lr) in enumerate(zip(self.members, self.rates[step], strict=True)):
            if lr:
                own = BatchLogits(*(values[number : number + 1] for values in kept))
                member.step(self.epoch * self.steps + step, lr, x, y, own)

    def _score_block(self, x: Tensor, truth: Tensor, row_scores: RowScores) -> None:
        """Note the scores of all heads on some rows."""
        kept = row_scores.reserve(len(x))
        for number, member in enumerate(self.members):
            z = (member.module(x) * LOG2_E).t().contiguous().unsqueeze(0)
            softmax_and_scores_(z, truth, BatchLogits(*(values[number : number + 1] for values in kept)))

    def _standardized(self, rows: Tensor) -> Tensor:
        """Return rows as the heads learn from them, in place."""
        if self.standardizer is not None:
            self.standardizer.standardize_(rows)
        return rows


def embedding_width(plan: TrainingPlan) -> int:
    """Return the width of an embedding: of heads over clips, a row is several embeddings and their number."""
    config, width = plan.configs[0], len(plan.statistics.mean)
    return (width - 1) // config.frames if config.is_over_clips else width


def make_optimizer(config: HeadConfig, module: nn.Module, device: str) -> torch.optim.Optimizer:
    """Return torch's optimizer of a head: weight decay is for matrices, not for biases and what normalises.

    Args:
        config: the head's settings.
        module: its module, on the device.
        device: where it is.
    """
    free = [value for value in module.parameters() if value.ndim < 2]
    decayed = [value for value in module.parameters() if value.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = torch.device(device).type in ("cpu", "cuda")  # one pass over the weights instead of some ten
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, fused=fused)


def clip_gradient(parameters: Sequence[Tensor], max_norm: float) -> None:
    """Scale the gradient of a head so that its norm is at most so much, as torch's `clip_grad_norm_` does.

    A gradient that is within the bound is not touched: that pass over it would multiply by 1.

    Args:
        parameters: of one head.
        max_norm: above 0.
    """
    gradients = [value.grad for value in parameters if value.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    share = max_norm / (norm + 1e-6)
    if not share >= 1:  # nan, too: the head has diverged, and shall show it
        torch._foreach_mul_(gradients, share)


@contextlib.contextmanager
def own_gradients() -> Iterator[None]:
    """Have tensors that autograd may use, in a training that runs in inference mode; gradients only where enabled."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@contextlib.contextmanager
def for_inference(members: Sequence[TrainedModule]) -> Iterator[None]:
    """Have modules compute as they will once they are saved."""
    for member in members:
        member.module.eval()
    try:
        with own_gradients():
            yield
    finally:
        for member in members:
            member.module.train()


def _generators(device: str) -> list[torch.Generator]:
    """Return the generators that a GPU draws from; none on the CPU, which has torch's default generator."""
    return [torch.cuda.default_generators[index] for index in _indices(torch.device(device))]


def _indices(device: torch.device) -> list[int]:
    """Return the number of a GPU in a list, nothing for other devices."""
    return [device.index or 0] if device.type == "cuda" else []
