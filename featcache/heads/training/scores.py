"""Loss and hits of all heads over one pass, kept where they were computed: nothing is waited for until the end."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import Scores
from featcache.heads.training.losses import LN_2

ClassCounts = npt.NDArray[np.int64]  # (classes,)


class BatchLogits(NamedTuple):
    """What is kept of a batch's logits, in bits; each (heads, 1, rows).

    log2(total) + top - own is a row's loss in bits.
    """

    own: Tensor  # the logit of the row's class
    top: Tensor  # the highest
    total: Tensor  # the sum of 2^(z - top) over the classes
    answer: Tensor  # int64, the first class with the highest logit


def softmax_and_scores_(z: Tensor, truth: Tensor, kept: BatchLogits, offset: Tensor | None = None) -> Tensor:
    """Turn a batch's logits into probabilities, in place, note what its scores take, and return them.

    Args:
        z: (heads, classes, rows) logits in bits.
        truth: (heads, 1, rows) the class of each row.
        kept: where the scores are noted.
        offset: (heads, classes, 1), added before the softmax: of the loss, and of no answer.
    """
    own, top, total, answer = kept
    torch.gather(z, 1, truth, out=own)
    torch.argmax(z, 1, keepdim=True, out=answer)  # the first of equals; nan is higher than any number
    torch.gather(z, 1, answer, out=top)
    if offset is not None:
        z.add_(offset)
        torch.gather(z, 1, truth, out=own)
        torch.amax(z, 1, keepdim=True, out=top)
    z.sub_(top).exp2_()
    torch.sum(z, 1, keepdim=True, out=total)
    return z.div_(total)


class RowScores:
    """The `BatchLogits` of every row and head of a pass, kept on the device, for up to so many rows."""

    def __init__(self, rows: int, heads: int, device: str | torch.device) -> None:
        self.heads = heads
        self.bits = torch.empty(3, heads * rows, device=device)
        self.answers = torch.empty(heads * rows, dtype=torch.int64, device=device)
        self.reset()

    def reset(self) -> None:
        """Forget the last pass: the next batch is the first."""
        self.batches: list[list[int]] = []  # rows, how many such batches one after the other
        self.rows_seen = 0

    def reserve(self, rows: int) -> BatchLogits:
        """Return the memory of the next batch, to be written to."""
        start = self.rows_seen * self.heads
        self.rows_seen += rows
        if self.batches and self.batches[-1][0] == rows:
            self.batches[-1][1] += 1
        else:
            self.batches.append([rows, 1])
        end = self.rows_seen * self.heads
        own, top, total = self.bits[:, start:end].view(3, self.heads, 1, rows)
        return BatchLogits(own, top, total, self.answers[start:end].view(self.heads, 1, rows))

    def compute(self, y: Tensor, classes: int) -> list[Scores]:
        """Return the scores of every head; y (rows seen,) are the labels in the order in which the rows came."""
        own, top, total = self.bits[:, : self.rows_seen * self.heads]
        loss_bits = self._by_head(total.log2() + top - own)
        is_hit = self._by_head(self.answers[: self.rows_seen * self.heads]) == y
        hits = [torch.bincount(y[of_head], minlength=classes).cpu().numpy() for of_head in is_hit]
        return compute_scores(loss_bits.sum(1).tolist(), hits, torch.bincount(y, minlength=classes).cpu().numpy())

    def _by_head(self, flat: Tensor) -> Tensor:
        """Return (heads, rows seen), the rows in the order in which they came."""
        sizes = [rows * count * self.heads for rows, count in self.batches]
        return torch.cat(
            [
                part.view(count, self.heads, rows).transpose(0, 1).reshape(self.heads, -1)
                for part, (rows, count) in zip(torch.split(flat, sizes), self.batches, strict=True)
            ],
            dim=1,
        )


class ScoreCounts:
    """The loss and the hits of all heads, counted as they come, on the host.

    Attributes:
        loss_bits: (blocks, heads) float64, bits of loss; each block of a batch's rows for itself, so that the order of
            their sum depends on nothing else.
        hits: (members, heads, classes) int64, rows of each class that were right; each member of a thread team counts
            for itself.
    """

    def __init__(self, blocks: int, members: int, heads: int, classes: int) -> None:
        self.loss_bits = np.zeros((blocks, heads))
        self.hits = np.zeros((members, heads, classes), np.int64)

    def reset(self) -> None:
        """Forget the last pass."""
        self.loss_bits[:], self.hits[:] = 0, 0

    def compute(self, y: npt.NDArray[np.int64]) -> list[Scores]:
        """Return the scores of every head; y (rows,) are the labels of all rows."""
        support = np.bincount(y, minlength=self.hits.shape[2])
        in_turn = [sum(of_head) for of_head in self.loss_bits.T.tolist()]  # NumPy's order depends on the shape
        return compute_scores(in_turn, self.hits.sum(0), support)


def compute_scores(loss_bits: Sequence[float], hits: Iterable[ClassCounts], support: ClassCounts) -> list[Scores]:
    """Return the scores of each head from its bits of loss and its hits of each class; support (classes,) rows."""
    occurs, rows = support > 0, support.sum()
    return [
        Scores(
            float(of_head.sum() / rows), float((of_head[occurs] / support[occurs]).mean()), bits * LN_2 / float(rows)
        )
        for of_head, bits in zip(hits, loss_bits, strict=True)
    ]
