"""The heads of a training on a CPU: their steps are those of `kernels`, by a team of threads.

Weights lie as (columns, width), columns being heads x classes. Python asks for some hundred steps at a time. A head's
bits depend neither on the heads beside it nor on the number of threads (docs/decisions/102-a-head-equals-itself.md).
Heads whose products are in bfloat16 train in float32 otherwise, and are scored in it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import Scores
from featcache.heads.training.kernels import (
    BLOCK_ROWS,
    COUNTS_PER_CACHE_LINE,
    LINE,
    BfloatPairs,
    LossTerms,
    StackBuffers,
    StepInputs,
    ThreadTeam,
    UpdateRule,
    precompile,
    score_rows,
    train_steps,
)  # fmt: skip
from featcache.heads.training.optimizers import ADAM_OPTIMIZERS, BETA_1, BETA_2, EPS, bias_corrections
from featcache.heads.training.scores import ScoreCounts
from featcache.heads.training.stack import EpochChunk, HeadStack, LabelledBlocks, TrainingPlan

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

MIN_SLICE_ROWS = 64  # of a member: with fewer, the members are busy meeting
LEAST_SHARED_STEP = 2**21  # multiplications of a product: with fewer, a meeting costs what a member saves
CALL_MULTIPLICATIONS = 2**33  # asked for at a time, at least a step: a quarter of a second without a Ctrl-C


class NumbaStack(HeadStack):
    """Heads by the compiled loops of `kernels`."""

    def __init__(self, plan: TrainingPlan) -> None:
        super().__init__(plan)
        columns, rows = self.heads * self.classes, -(-self.batch_size // BLOCK_ROWS) * BLOCK_ROWS
        members = max(1, min(torch.get_num_threads(), self.batch_size // MIN_SLICE_ROWS))
        if self.batch_size * self.width * columns < LEAST_SHARED_STEP:
            members = 1
        self.loss_terms, self.rule = self._loss_terms(), self._update_rule()
        w, batch = aligned_zeros(columns, self.width), aligned_zeros(rows, self.width)
        batch[:, self.dim] = 1
        self.buffers = StackBuffers(
            w=w,
            first_moment=aligned_zeros(*w.shape),
            second_moment=aligned_zeros(self.rule.adam_heads * self.classes, self.width),
            batch=batch,
            z=aligned_zeros(columns, rows),
            gradient=aligned_zeros(*w.shape),
            squares=np.zeros((columns, self.width // LINE)),
        )
        self.pairs = self._bfloat_pairs() if self.configs[0].matmul_precision == "bf16" else None
        self.w = torch.from_numpy(w).view(self.heads, self.classes, self.width)
        self.counts = self._new_counts(members)
        self.team = ThreadTeam(members)
        self._precompile(plan.on_compile)

    def _bfloat_pairs(self) -> BfloatPairs:
        """Return memory for the operands of the products as bfloat16s."""
        (columns, width), rows = self.buffers.w.shape, len(self.buffers.batch)
        words_of_row = -(-width // (2 * LINE)) * LINE
        return BfloatPairs(
            w=aligned_words(columns, words_of_row),
            rows=aligned_words(rows, words_of_row),
            row_pairs=aligned_words(rows // 2, width),
            gradient=aligned_words(columns, rows // 2),
        )

    def _new_counts(self, members: int) -> ScoreCounts:
        """Return counts at zero."""
        return ScoreCounts(len(self.buffers.batch) // BLOCK_ROWS, members, self.heads, self.classes)

    def _precompile(self, on_compile: Callable[[], None]) -> None:
        """Compile what the team will do, or load it where that was done before."""
        nobody, counts = np.zeros((1, COUNTS_PER_CACHE_LINE), np.int64), (self.counts.loss_bits, self.counts.hits)
        x, rows = np.zeros((0, self.dim), np.float32), np.zeros(0, np.int64)
        precompile(
            train_steps, 0, nobody, self._inputs(x, rows, rows), self.loss_terms, self.buffers, self.pairs,
            self.rule, 0, 0, *counts, when_slow=on_compile,
        )  # fmt: skip
        precompile(score_rows, 0, 1, x, rows, 1, self.loss_terms, self.buffers, *counts)

    def __enter__(self) -> Self:
        self.team.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        self.team.__exit__(*why)

    def _loss_terms(self) -> LossTerms:
        """Return the losses as the kernels take them."""
        losses, nothing = self.losses, torch.zeros(self.heads, self.classes)
        return LossTerms(
            heads=self.heads,
            plain=losses.plain,
            offset=np.zeros(0, np.float32) if losses.offset is None else losses.offset.flatten().numpy(),
            class_weights=np.ascontiguousarray(losses.class_weights.numpy()),  # one layout: compiled once
            one_minus_smoothing=losses.one_minus_smoothing.flatten().numpy(),
            smoothed_weights=(nothing if losses.smoothed_weights is None else losses.smoothed_weights)
            .flatten()
            .numpy(),
            smoothed_weights_sum=losses.smoothed_weights_sum.flatten().numpy(),
        )

    def _update_rule(self) -> UpdateRule:
        """Return the optimizers' settings as the kernels take them, with room for an epoch's rates.

        Raises:
            ValueError: an optimizer that the kernels have no loop for.
        """
        if unknown := {config.optimizer for config in self.configs} - {*ADAM_OPTIMIZERS, "sgd"}:
            raise ValueError(f"the compiled loops have no optimizer {', '.join(sorted(unknown))}")

        configs, rates = self.configs, np.zeros((2, self.steps, self.heads), np.float32)
        coupled = [0.0 if config.optimizer == "adamw" else config.weight_decay for config in configs]
        decoupled = [config.weight_decay if config.optimizer == "adamw" else 0.0 for config in configs]
        return UpdateRule(
            adam_heads=sum(config.optimizer in ADAM_OPTIMIZERS for config in configs),
            clip_norm=np.zeros(0, np.float32) if self.clip_norm is None else self.clip_norm.flatten().numpy(),
            momentum=np.array([config.momentum for config in configs], np.float32),
            decay=np.array(coupled, np.float32),
            decoupled=np.array(decoupled, np.float32),
            minus_lr=rates[0],
            minus_lr_of_m=rates[1],
            share_of_s=np.ones(self.steps, np.float32),
            beta_1=BETA_1,
            beta_2=BETA_2,
            eps=EPS,
        )

    def _inputs(self, x: Floats, rows: Longs, y: Longs) -> StepInputs:
        """Return rows as the kernels take them."""
        if self.standardizer is None:
            return StepInputs(x, rows, y, self.batch_size, np.zeros((2, 0), np.float32), np.zeros(0, np.float32))
        return StepInputs(x, rows, y, self.batch_size, self.standardizer.mean_parts, self.standardizer.inverse_std)

    def _set_rates(self, epoch: int, minus_lr: Tensor) -> None:
        of_m, of_s = bias_corrections(epoch, self.steps)
        self.rule.minus_lr[:], self.rule.minus_lr_of_m[:] = minus_lr.numpy(), (minus_lr / of_m[:, None]).numpy()
        self.rule.share_of_s[:] = of_s.numpy()

    def train_epoch(self, chunks: Iterable[EpochChunk]) -> list[Tensor]:
        """Take an epoch's steps, and return the labels that they saw, in their order."""
        self.counts.reset()
        step, labels = 0, []
        rows_of_call = self.batch_size * max(1, CALL_MULTIPLICATIONS // (2 * self.batch_size * self.buffers.w.size))
        for x, rows, y in chunks:
            labels.append(y)
            for start in range(0, len(y), rows_of_call):
                part = slice(start, start + rows_of_call)
                inputs = self._inputs(x.numpy(), rows[part].numpy(), y[part].numpy())
                steps = -(-len(inputs.y) // self.batch_size)
                self.team.run(partial(self._train_steps, inputs, step, steps))
                step += steps
        return labels

    def _train_steps(self, inputs: StepInputs, step: int, steps: int, member: int) -> None:
        """Take one member's share of some steps."""
        train_steps(
            member, self.team.barrier_counts, inputs, self.loss_terms, self.buffers, self.pairs, self.rule, step, steps,
            self.counts.loss_bits, self.counts.hits,
        )  # fmt: skip

    def train_scores(self, y: Tensor) -> list[Scores]:
        """Return the running scores of the last epoch, by config."""
        return self.by_config(self.counts.compute(y.numpy()))

    def score(self, blocks: LabelledBlocks, rows: int) -> list[Scores]:  # noqa: ARG002 (counts need no room for them)
        """Return the scores on so many rows, by config."""
        buffers, counts = self.buffers, self._new_counts(self.team.members)
        if self.standardizer is not None:
            w = aligned_zeros(*buffers.w.shape)
            w[:] = self.effective_weights().reshape(w.shape).numpy()
            buffers = buffers._replace(w=w)
        labels, size = [], self.batch_size * max(1, CALL_MULTIPLICATIONS // (self.batch_size * buffers.w.size))
        for x, y in blocks:
            labels.append(y)
            for start in range(0, len(y), size):
                part = slice(start, start + size)
                self.team.run(partial(self._score_rows, buffers, counts, x[part].numpy(), y[part].numpy()))
        return self.by_config(counts.compute(torch.cat(labels).numpy()))

    def _score_rows(self, buffers: StackBuffers, counts: ScoreCounts, x: Floats, y: Longs, member: int) -> None:
        """Score one member's share of some rows."""
        score_rows(
            member, self.team.members, x, y, self.batch_size, self.loss_terms, buffers, counts.loss_bits, counts.hits
        )


def aligned_zeros(rows: int, columns: int) -> Floats:
    """Return zeros, (rows, columns), that begin with a cache line: a vector that lies in two of them loads slowly."""
    memory = np.zeros(rows * columns + LINE, np.float32)
    start = -memory.ctypes.data // memory.itemsize % LINE
    return memory[start : start + rows * columns].reshape(rows, columns)


def aligned_words(rows: int, columns: int) -> Words:
    """Return zeros, (rows, columns) uint32, that begin with a cache line."""
    return aligned_zeros(rows, columns).view(np.uint32)
