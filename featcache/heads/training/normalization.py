"""Rows of length 1, for heads whose features are compared by angle (`--normalize l2`)."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

from featcache.features import Features, Streamed
from featcache.heads import unit_rows

Split = TypeVar("Split", Features, Streamed, Features | Streamed)


class _UnitStreamed(Streamed):
    """A split on disk whose rows are scaled to length 1 as they are read."""

    def epoch(
        self, batch_size: int, generator: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield every row once, as `Streamed.epoch`."""
        for x, drawn, rows in super().epoch(batch_size, generator):
            yield unit_rows(x, self.widths), drawn, rows

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield every row once, as `Streamed.blocks`."""
        for x, rows in super().blocks():
            yield unit_rows(x, self.widths), rows


def normalize_rows(split: Split, normalize: str) -> Split:
    """Return a split with its rows as heads of this setting learn from them.

    Args:
        split: its rows as the trunk gave them.
        normalize: "none" (the split itself) or "l2" (rows, or of several features each part of them, of length 1; in
            memory, a copy).
    """
    if normalize == "none":
        return split
    if isinstance(split, Streamed):
        return _UnitStreamed(**{field.name: getattr(split, field.name) for field in fields(split)})
    views = None if split.views is None else np.stack([unit_rows(view, split.widths) for view in split.views])
    return replace(split, x=unit_rows(split.x, split.widths), views=views)
