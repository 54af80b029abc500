"""Loss and hits of all heads over one pass, kept where they were computed: nothing is waited for until the end."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import Scores

Classes = npt.NDArray[np.int64]  # (classes,)

LN_2 = math.log(2)


class Tally:
    """Of each row and head: the logit of its class, the highest, the sum of 2^(z - highest), all in bits; the answer.

    log2(sum) + highest - own is the row's loss in bits; the answer is the first class with the highest logit.
    """

    def __init__(self, rows: int, heads: int, device: str | torch.device) -> None:
        self.heads = heads
        self.bits = torch.empty(3, heads * rows, device=device)
        self.answers = torch.empty(heads * rows, dtype=torch.int64, device=device)
        self.begin()

    def begin(self) -> None:
        """Forget the last pass: the next block is the first."""
        self.blocks: list[list[int]] = []  # rows, how many such blocks in a row
        self.seen = 0

    def room(self, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the next block goes: own, highest, sum and answer, each (heads, 1, rows)."""
        start = self.seen * self.heads
        self.seen += rows
        if self.blocks and self.blocks[-1][0] == rows:
            self.blocks[-1][1] += 1
        else:
            self.blocks.append([rows, 1])
        end = self.seen * self.heads
        own, top, total = self.bits[:, start:end].view(3, self.heads, 1, rows)
        return own, top, total, self.answers[start:end].view(self.heads, 1, rows)

    def scores(self, y: Tensor, classes: int) -> list[Scores]:
        """The scores of every head, with the labels y in the order they came in."""
        own, top, total = self.bits[:, : self.seen * self.heads]
        lost = self._by_head(total.log2() + top - own)
        hits = self._by_head(self.answers[: self.seen * self.heads]) == y
        right = [torch.bincount(y[hit], minlength=classes).cpu().numpy() for hit in hits]
        return scores_of(lost.sum(1).tolist(), right, torch.bincount(y, minlength=classes).cpu().numpy())

    def _by_head(self, flat: Tensor) -> Tensor:
        """(heads, rows seen), rows in the order they came in."""
        sizes = [rows * count * self.heads for rows, count in self.blocks]
        return torch.cat(
            [
                part.view(count, self.heads, rows).transpose(0, 1).reshape(self.heads, -1)
                for part, (rows, count) in zip(torch.split(flat, sizes), self.blocks, strict=True)
            ],
            dim=1,
        )


class Counts:
    """The same, counted as it comes: of each head the bits lost, and the hits of each class. On the host."""

    def __init__(self, members: int, heads: int, classes: int) -> None:
        self.lost = np.zeros((members, heads))  # each member of a crew counts for itself
        self.right = np.zeros((members, heads, classes), np.int64)

    def begin(self) -> None:
        """Forget the last pass."""
        self.lost[:], self.right[:] = 0, 0

    def scores(self, y: npt.NDArray[np.int64]) -> list[Scores]:
        """The scores of every head, with the labels y of all rows."""
        support = np.bincount(y, minlength=self.right.shape[2])
        return scores_of(self.lost.sum(0).tolist(), self.right.sum(0), support)


def scores_of(lost: Sequence[float], right: Iterable[Classes], support: Classes) -> list[Scores]:
    """Scores of each head by its bits of loss and its hits of each class; support (classes,) rows."""
    occurs, rows = support > 0, support.sum()
    return [
        Scores(float(hits.sum() / rows), float((hits[occurs] / support[occurs]).mean()), bits * LN_2 / float(rows))
        for hits, bits in zip(right, lost, strict=True)
    ]
