"""The heads of a training by torch's operations, for GPUs."""

from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor

from featcache.heads import Scores
from featcache.heads.training.losses import LOG2_E
from featcache.heads.training.optimizers import OPTIMIZER_CLASSES
from featcache.heads.training.scores import RowScores, softmax_and_scores_
from featcache.heads.training.stack import EpochChunk, HeadStack, LabelledBlocks, TrainingPlan

MAX_SCORED_LOGITS = 2**20  # held at a time where rows are only scored, over all heads


class TorchStack(HeadStack):
    """Heads by torch's operations; `step` is the arithmetic at the top of `stack`."""

    def __init__(self, plan: TrainingPlan) -> None:
        super().__init__(plan)
        device, columns = plan.device, self.heads * self.classes
        self.row_scores = RowScores(plan.rows, self.heads, device)
        self.x = torch.zeros(self.batch_size, self.width, device=device)
        self.x[:, self.dim] = 1
        self.w = torch.zeros(self.heads, self.classes, self.width, device=device)
        self.z = torch.empty(columns * self.batch_size, device=device)
        self.d = torch.empty_like(self.w)
        self.optimizers = []
        kinds = [OPTIMIZER_CLASSES[config.optimizer] for config in self.configs]
        for kind, group in groupby(range(self.heads), key=kinds.__getitem__):
            neighbours = list(group)
            part = slice(neighbours[0], neighbours[-1] + 1)
            self.optimizers.append((part, kind(self.configs[part], self.w[part], self.dim, self.steps)))

    def _set_rates(self, epoch: int, minus_lr: Tensor) -> None:
        for part, optimizer in self.optimizers:
            optimizer.begin_epoch(epoch, minus_lr[:, part, None, None])

    def train_epoch(self, chunks: Iterable[EpochChunk]) -> list[Tensor]:
        """Take an epoch's steps, and return the labels that they saw, in their order."""
        self.row_scores.reset()
        step, labels = 0, []
        for x, rows, y in chunks:
            labels.append(y)
            for start in range(0, len(y), self.batch_size):
                drawn = rows[start : start + self.batch_size]
                batch = torch.index_select(x, 0, drawn, out=self.x[: len(drawn), : self.dim])
                if self.standardizer is not None:
                    self.standardizer.standardize_(batch)
                self.step(step, self.x[: len(drawn)], y[start : start + self.batch_size])
                step += 1
        return labels

    def train_scores(self, y: Tensor) -> list[Scores]:
        """Return the running scores of the last epoch, by config."""
        return self.by_config(self.row_scores.compute(y, self.classes))

    def score(self, blocks: LabelledBlocks, rows: int) -> list[Scores]:
        """Return the scores on so many rows, by config."""
        row_scores = RowScores(rows, self.heads, self.x.device)
        size = min(self.batch_size, max(1, MAX_SCORED_LOGITS // (self.heads * self.classes)))
        labels, w = [], self.effective_weights()
        for x, y in blocks:
            labels.append(y)
            for start in range(0, len(y), size):
                block, truth = x[start : start + size], y[start : start + size]
                self.x[: len(block), : self.dim] = block
                self._softmax(w, self.x[: len(block)], truth.expand(self.heads, 1, -1), row_scores, adjust=False)
        return self.by_config(row_scores.compute(torch.cat(labels), self.classes))

    def step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Take step 0, 1, … of an epoch, for every head, on x (rows, width), with its column of ones, and y (rows,)."""
        truth = y.expand(self.heads, 1, -1)
        g = self.losses.softmax_grad_(self._softmax(self.w, x, truth, self.row_scores), y, truth)
        d, rows_of_d = self.d, self.d.view(-1, self.width)
        torch.addmm(rows_of_d, g.view(len(rows_of_d), -1), x, beta=0, alpha=1 / len(x), out=rows_of_d)
        if self.clip_norm is not None:
            clip_each_head(d, self.clip_norm)
        for part, optimizer in self.optimizers:
            optimizer.step(step, d[part])

    def _softmax(self, w: Tensor, x: Tensor, truth: Tensor, row_scores: RowScores, *, adjust: bool = True) -> Tensor:
        """Return P (heads, classes, rows), and note the rows' scores on the way; truth (heads, 1, rows)."""
        kept = row_scores.reserve(len(x))
        w = w.view(-1, self.width)
        z = self.z[: len(w) * len(x)].view(len(w), -1)
        torch.addmm(z, w, x.t(), beta=0, alpha=LOG2_E, out=z)
        offset = self.losses.offset if adjust else None
        return softmax_and_scores_(z.view(self.heads, self.classes, -1), truth, kept, offset)


def clip_each_head(d: Tensor, max_norm: Tensor) -> None:
    """Clip every head by its own norm, in place; d (heads, classes, width), bias included, max_norm (heads, 1, 1).

    One norm over the stack would let a diverging head shrink its neighbours' steps, and a head in a sweep would no
    longer equal the same head alone.
    """
    norm = torch.linalg.vector_norm(d, dim=(1, 2), keepdim=True)
    d.mul_((max_norm / norm.add_(1e-6)).clamp_(max=1))
