"""Loss and hits of all heads over one pass, kept where they were computed: nothing is waited for until the end."""

import math

import torch
from torch import Tensor

from featcache.heads.linear import Scores

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

    def take(self, rows: int, count: int = 1) -> int:
        """Where so many blocks of so many rows begin in `bits` and `hits`, one after the other, each (heads, rows)."""
        start = self.seen * self.heads
        self.seen += rows * count
        if self.blocks and self.blocks[-1][0] == rows:
            self.blocks[-1][1] += count
        else:
            self.blocks.append([rows, count])
        return start

    def room(self, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the next block goes: own, highest, sum and hit, each (heads, 1, rows)."""
        start = self.take(rows)
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
        losses = (lost.sum(1) * (LN_2 / self.seen)).tolist()
        support = torch.bincount(y, minlength=classes).cpu().numpy()
        right = [torch.bincount(y[hit], minlength=classes).cpu().numpy() for hit in hits]
        occurs = support > 0
        return [
            Scores(float(hit.sum() / support.sum()), float((hit[occurs] / support[occurs]).mean()), loss)
            for hit, loss in zip(right, losses, strict=True)
        ]

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
