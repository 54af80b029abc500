"""Loss and hits of all heads over one pass, kept where they were computed: nothing is waited for until the end."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads.linear import Scores

Classes = npt.NDArray[np.int64]  # (classes,)

LN_2 = math.log(2)


class Tally:
    """Of each row and head: the logit of its class, the highest, and the sum of 2^(z - highest); all in bits.

    log2(sum) + highest - own is the row's loss in bits, and own >= highest a hit, exactly as argmax has it but where
    two logits are equal to the last bit.
    """

    def __init__(self, rows: int, heads: int, device: str | torch.device) -> None:
        self.heads = heads
        self.bits = torch.empty(3, heads * rows, device=device)
        self.hits = torch.empty(heads * rows, dtype=torch.bool, device=device)
        self.begin()

    def begin(self) -> None:
        """Forget the last pass: the next block is the first."""
        self.blocks: list[list[int]] = []  # rows, how many such blocks in a row
        self.seen = 0

    def room(self, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the next block goes: own, highest, sum and hit, each (heads, 1, rows)."""
        start = self.seen * self.heads
        self.seen += rows
        if self.blocks and self.blocks[-1][0] == rows:
            self.blocks[-1][1] += 1
        else:
            self.blocks.append([rows, 1])
        end = self.seen * self.heads
        own, top, total = self.bits[:, start:end].view(3, self.heads, 1, rows)
        return own, top, total, self.hits[start:end].view(self.heads, 1, rows)

    def scores(self, y: Tensor, classes: int, level: int = 0) -> list[Scores]:
        """The scores of every head, with the labels y in the order they came in.

        Before the first step all logits are equal: of the first `level` rows those of class 0 are the hits.
        """
        own, top, total = self.bits[:, : self.seen * self.heads]
        lost = self._by_head(total.log2() + top - own)
        hits = self._by_head(self.hits[: self.seen * self.heads])
        hits[:, :level] = y[:level] == 0
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

    def scores(self, y: npt.NDArray[np.int64], level: int = 0) -> list[Scores]:
        """The scores of every head; y and level as in `Tally.scores`."""
        classes = self.right.shape[2]
        early = np.bincount(y[:level], minlength=classes)  # all of them equal, and so all counted
        early[0] = 0
        return scores_of(self.lost.sum(0).tolist(), self.right.sum(0) - early, np.bincount(y, minlength=classes))


def scores_of(lost: Sequence[float], right: Iterable[Classes], support: Classes) -> list[Scores]:
    """Scores of each head by its bits of loss and its hits of each class; support (classes,) rows."""
    occurs, rows = support > 0, support.sum()
    return [
        Scores(float(hits.sum() / rows), float((hits[occurs] / support[occurs]).mean()), bits * LN_2 / float(rows))
        for hits, bits in zip(right, lost, strict=True)
    ]
