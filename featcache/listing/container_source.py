"""A data set whose images stand in containers; each row's path names its container and its key there."""

import dataclasses
from functools import cached_property

import numpy as np

from featcache.errors import DataError
from featcache.listing.container_collection import CollectedRows, collect_rows
from featcache.listing.listing import Listing
from featcache.listing.source import describe_splits, order_splits
from featcache.listing.spellings import note_look_alikes
from featcache.recipe import ContainerData


class Containers:
    """The splits of a data set in containers; rows stand as they do there. A `DataSource`."""

    has_disjoint_splits = False
    unreadable = ""

    def __init__(self, data: ContainerData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant

    def splits(self) -> list[str]:
        """Return the splits that the names of containers, a column or the folders of keys say; else `train` alone.

        Raises:
            DataError: as `listing`.
        """
        return order_splits(self._rows.columns["split"])

    def listing(self, split: str) -> Listing:
        """Return the rows of one split; the classes are those of all splits, sorted.

        Raises:
            DataError: no such split, no container, or a damaged one, images without a label, or keys that stand there
                twice: each is named.
        """
        splits = self._rows.columns["split"]
        rows = np.flatnonzero(np.array([name == split for name in splits], dtype=bool))
        if not len(rows):
            there = describe_splits(order_splits(splits), instead_of=split)
            raise DataError(f"{self.data.root}: no image of split {split!r} in it; {there}")
        return dataclasses.replace(self._listing.take(rows), split=split)

    @cached_property
    def _listing(self) -> Listing:
        """Every row, of all splits."""
        rows = self._rows
        classes = sorted(set(rows.columns["label"]))
        index = {name: label for label, name in enumerate(classes)}
        looks = [note for role in ("label", "split", "subject") for note in note_look_alikes(role, rows.columns[role])]
        return Listing(
            data_set=self.data_set,
            variant=self.variant,
            split="",
            root=rows.root,
            classes=tuple(classes),
            paths=tuple(rows.paths),
            members=rows.are_members,
            stats=np.array(rows.stats, np.int64) if rows.stats else None,
            labels=np.array([index[name] for name in rows.columns["label"]], dtype=np.int64),
            clips=tuple(rows.columns["clip"]),
            subjects=tuple(rows.columns["subject"]),
            left_out=tuple(rows.left_out),
            notes=(*rows.notes, *looks),
        )

    @cached_property
    def _rows(self) -> CollectedRows:
        return collect_rows(self.data)
