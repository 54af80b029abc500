"""Splits that a recipe asks for: the rows of the train split, assigned to train, val and test.

What goes to one split is a group: all rows of a subject, of a clip, or of an image file (`by`). scikit-learn's
StratifiedGroupKFold makes n equal folds and starts anew when a group is added; here the shares are the recipe's, and
groups that were assigned before stay where they are. The objective is the same: with C the rows of class c in split s,
N the rows of the class, and f the split's share, the sum over s and c of (C / N - f)². Groups are placed one by one,
the large ones first, in an order that the seed shuffles, each where it adds least; then single groups move while
that lowers the sum.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError, UsageError
from featcache.listing.flat_folder import POOL
from featcache.listing.listing import Listing, draw_number
from featcache.listing.source import DataSource, describe_splits, order_splits
from featcache.listing.spellings import same_name_key
from featcache.recipe import SplitSection

_LEAST_GAIN = 1e-6  # of a group's own weight: what a move must gain, so that moving ends


class AssignedSplits:
    """A data set whose train split is divided as the recipe asks; any other split that it has stays as it is.

    Itself a `DataSource`.
    """

    has_disjoint_splits = False

    def __init__(self, source: DataSource, section: SplitSection, recorded: Mapping[str, str]) -> None:
        """Divide a data set; nothing is listed yet.

        Args:
            source: The data set, whose train split is divided.
            section: The shares, the unit and the seed.
            recorded: Group -> split, as they were assigned before; these stay where they are.
        """
        self.source, self.section, self.recorded = source, section, recorded

    @property
    def unreadable(self) -> str:
        """Why no image of the data set can be read, as a sentence; "" where some may be."""
        return self.source.unreadable

    def splits(self) -> list[str]:
        """Return the data set's own splits and those that the recipe asks for.

        Raises:
            UsageError: the data set has a split that is asked for.
            DataError: what the data set's own layout raises.
        """
        own = self.source.splits()
        for split in self.section.shares:
            if split in own and split != POOL:
                raise UsageError(
                    f"data.split.{split}: the data set has a split {split!r}; leave it out of the recipe, or "
                    f"--{split} out of the command"
                )
        return order_splits([*own, *self.section.shares])

    def listing(self, split: str) -> Listing:
        """Return the rows of one split.

        Args:
            split: Its name, one of `splits`.

        Raises:
            UsageError: the data set has a split that is asked for.
            DataError: no such split; what the data set's own layout raises; too few groups; no row of the split is
                left.
        """
        if split not in self.splits():
            raise DataError(
                f"{self._pool.root}: no split {split!r} in it; {describe_splits(self.splits(), instead_of=split)}"
            )
        if split not in self.section.shares:
            return self.source.listing(split)
        rows = np.flatnonzero([self.groups[group] == split for group in self._group_of_row])
        if not len(rows):
            raise DataError(
                f"{self._pool.root}: none of the images that were assigned to split {split!r} is left; another seed, "
                f"such as --split-seed {self.section.seed + 1}, assigns all of them anew"
            )
        part = dataclasses.replace(self._pool.take(rows), split=split)
        return part if split == POOL else dataclasses.replace(part, ignored=(), left_out=())

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group -> split, to be recorded so that it stays. Groups that are no longer in the data keep their split."""
        groups = self._group_of_row
        recorded = self.recorded if self.section.by == "image" else respell_groups(self.recorded, groups)
        return {**recorded, **assign_groups(groups, self._pool.labels, self.section, recorded, self._pool.root)}

    def largest_unit(self) -> str:
        """Return the largest unit that the rows name and that a split need not cut: "subject", "clip" or "image".

        Raises:
            DataError: what the data set's own layout raises.
        """
        if all(self._pool.subjects):
            return "subject"
        return "clip" if any(self._pool.clips) else "image"

    @cached_property
    def _pool(self) -> Listing:
        """The rows that are assigned to splits."""
        return self.source.listing(POOL)

    @cached_property
    def _group_of_row(self) -> Sequence[str]:
        """The group of each of these rows, (rows,)."""
        return group_rows(self._pool, self.section.by)


def group_rows(listing: Listing, by: str) -> Sequence[str]:
    """Return the group of each row, (rows,): rows of one group go to one split.

    Args:
        listing: The rows.
        by: What a group is: "subject", "clip" (an image that belongs to none is a group of its own), or "image".

    Raises:
        DataError: the data set names no clip, or leaves a row without a subject.
    """
    if by == "image":
        return listing.paths
    names = listing.clips if by == "clip" else listing.subjects
    nameless = names.count("")
    if nameless and (by == "subject" or nameless == len(names)):
        raise DataError(
            f"{listing.root}: data.split.by is {by!r}, but {nameless:,} of {len(names):,} rows name no {by}; "
            f"name it for every row, or keep together by something else (--split-by image)"
        )
    return [name or path for name, path in zip(names, listing.paths, strict=True)] if nameless else names


def respell_groups(recorded: Mapping[str, str], groups: Sequence[str]) -> dict[str, str]:
    """Return the recorded assignment, with each of today's groups also under today's spelling.

    So a data set whose names were corrected (a blank, a Unicode form) keeps its splits.

    Args:
        recorded: Group -> split.
        groups: The names of the groups today; repeated or not.
    """
    keys = {same_name_key(name): split for name, split in recorded.items()}
    respelled = {name: keys.get(same_name_key(name)) for name in set(groups) - recorded.keys()}
    return {**recorded, **{name: split for name, split in sorted(respelled.items()) if split is not None}}


def assign_groups(
    groups: Sequence[str], labels: npt.NDArray[np.int64], section: SplitSection, recorded: Mapping[str, str], root: str
) -> dict[str, str]:
    """Return group -> split for every group that occurs. Every split gets a group.

    Where every group is recorded, nothing is computed.

    Args:
        groups: (rows,), the group of each row.
        labels: (rows,), the class of each row.
        section: The shares of the splits, and the seed.
        recorded: Group -> split; these stay where they are.
        root: The data set's folder, for the message.

    Raises:
        DataError: fewer groups than splits.
    """
    splits = list(section.shares)
    names = list(dict.fromkeys(groups))
    assigned = {name: recorded[name] for name in names if recorded.get(name) in splits}
    if len(assigned) == len(names):
        return assigned
    if len(names) < len(splits):
        raise DataError(f"{root}: {len(names)} different by {section.by!r}: too few for {', '.join(splits)}")
    class_rows = _count_classes(names, groups, labels)
    balance = _Balance(tuple(section.shares.values()), np.bincount(labels).tolist())
    for name, split in assigned.items():
        balance.add(class_rows[name], splits.index(split))
    new = [name for name in names if name not in assigned]
    new.sort(
        key=lambda name: (
            -sum(rows for _, rows in class_rows[name]).bit_length(),
            draw_number(name, section.seed),
        )
    )
    placed = balance.place([class_rows[name] for name in new])
    assigned |= {name: splits[split] for name, split in zip(new, placed, strict=True)}
    return {name: assigned[name] for name in names}


_ClassRows = list[tuple[int, int]]  # of one group, for each class that it has: (class, number of rows)


def _count_classes(names: Sequence[str], groups: Sequence[str], labels: npt.NDArray[np.int64]) -> dict[str, _ClassRows]:
    """Return how many rows of each class each group has; `names` are the different ones of `groups`, (rows,)."""
    code = {name: number for number, name in enumerate(names)}
    classes = int(labels.max()) + 1
    cells = np.array([code[name] for name in groups], dtype=np.int64) * classes + labels
    counts: dict[str, _ClassRows] = {name: [] for name in names}
    for cell, rows in zip(*(column.tolist() for column in np.unique(cells, return_counts=True)), strict=True):
        counts[names[cell // classes]].append((cell % classes, rows))
    return counts


class _Balance:
    """How far each split is from its share of each class, while groups are placed."""

    def __init__(self, shares: Sequence[float], totals: Sequence[int]) -> None:
        self.excess = [[-share * total for total in totals] for share in shares]  # rows too many; below 0: too few
        self.weight = [1 / total**2 if total else 0.0 for total in totals]
        self.groups = [0] * len(shares)  # in each split

    def place(self, groups: Sequence[_ClassRows]) -> list[int]:
        """Return the split of each new group, placed in this order; moving a single one would not lower the cost."""
        splits = range(len(self.groups))
        placed = []
        for number, group in enumerate(groups):
            empty = [split for split in splits if not self.groups[split]]
            allowed = empty if len(groups) - number <= len(empty) else splits  # the last ones fill what is empty
            split = min(allowed, key=lambda split: self.cost(group, split))
            self.add(group, split)
            placed.append(split)
        moving = True
        while moving:
            moving = False
            for number, group in enumerate(groups):
                split = self._better_split(group, placed[number])
                if split != placed[number]:
                    self.add(group, placed[number], sign=-1)
                    self.add(group, split)
                    placed[number], moving = split, True
        return placed

    def _better_split(self, group: _ClassRows, current: int) -> int:
        """Return where a group should be: where it is, unless a move lowers the cost and leaves no split empty."""
        if self.groups[current] == 1:
            return current
        own = sum(rows * rows * self.weight[label] for label, rows in group)
        # Taking it out gives back what it would cost to add it to what is left.
        saved = self.cost(group, current) - 2 * own
        others = [split for split in range(len(self.groups)) if split != current]
        best = min(others, key=lambda split: self.cost(group, split))
        return best if self.cost(group, best) < saved - _LEAST_GAIN * own else current

    def cost(self, group: _ClassRows, split: int) -> float:
        """Return what adding a group to a split adds to the sum."""
        excess, weight = self.excess[split], self.weight
        return sum(rows * (2 * excess[label] + rows) * weight[label] for label, rows in group)

    def add(self, group: _ClassRows, split: int, *, sign: int = 1) -> None:
        """Add a group to a split; with `sign` -1, take it out."""
        for label, rows in group:
            self.excess[split][label] += sign * rows
        self.groups[split] += sign
