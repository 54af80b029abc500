"""Splits that a recipe asks for: the rows of the train split, dealt to train, val and test.

What goes to one split is a group: all rows of a subject, of a clip, or of an image file (`by`). scikit-learn's
StratifiedGroupKFold deals n equal folds and starts anew when a group is added; here the shares are the recipe's, and
groups that were dealt before stay where they are. The objective is the same: with C the rows of class c in split s,
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
from featcache.listing.listing import Listing, draw
from featcache.listing.source import Source, in_order
from featcache.listing.spellings import same_name_key
from featcache.recipe import SplitSection

POOL = "train"
_LEAST = 1e-6  # of a group's own weight: what a move must gain, so that moving ends


class Dealt:
    """A data set whose train split is dealt as the recipe asks; a split that it has besides stays what it is."""

    apart = False

    def __init__(self, source: Source, asked: SplitSection, before: Mapping[str, str]) -> None:
        self.source, self.asked, self.before = source, asked, before

    @property
    def absent(self) -> str:
        """What the data set itself says."""
        return self.source.absent

    def splits(self) -> list[str]:
        """The data set's own splits, and those that are asked for.

        Raises:
            UsageError: the data set has a split that is asked for.
        """
        laid = self.source.splits()
        for split in self.asked.shares:
            if split in laid and split != POOL:
                raise UsageError(f"data.split.{split}: the data set has a split {split!r}; leave it out of the recipe")
        return in_order([*laid, *self.asked.shares])

    def listing(self, split: str) -> Listing:
        """The rows of one split.

        Raises:
            UsageError: the data set has a split that is asked for.
            DataError: what the data set's own layout says; too few groups; no row of the split is left.
        """
        if split not in self.splits() or split not in self.asked.shares:
            return self.source.listing(split)
        rows = np.flatnonzero([self.groups[group] == split for group in self._group])
        if not len(rows):
            raise DataError(
                f"{self._pool.root}: no image of those that were dealt to split {split!r} is left; another seed in "
                f"data.split deals anew"
            )
        part = dataclasses.replace(self._pool.take(rows), split=split)
        return part if split == POOL else dataclasses.replace(part, ignored=(), left_out=())

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group -> split: what is written down, so that it stays. Groups that are away keep their place."""
        before = self.before if self.asked.by == "image" else in_new_spelling(self.before, self._group)
        return {**before, **deal(self._group, self._pool.labels, self.asked, before, self._pool.root)}

    @cached_property
    def _pool(self) -> Listing:
        return self.source.listing(POOL)

    @cached_property
    def _group(self) -> Sequence[str]:
        return groups_of(self._pool, self.asked.by)


def groups_of(listing: Listing, by: str) -> Sequence[str]:
    """What each row must not be parted from, (rows,); an image that belongs to no clip is a group of its own.

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
            f"name it for every row, or keep together by something else"
        )
    return [name or path for name, path in zip(names, listing.paths, strict=True)] if nameless else names


def in_new_spelling(before: Mapping[str, str], groups: Sequence[str]) -> dict[str, str]:
    """What was written down, and in it each group of today under its spelling of today.

    A data set whose names were corrected (a blank, a Unicode form) keeps its splits.
    """
    keys = {same_name_key(name): split for name, split in before.items()}
    known = {name: keys.get(same_name_key(name)) for name in set(groups) - before.keys()}
    return {**before, **{name: split for name, split in sorted(known.items()) if split is not None}}


def deal(
    group: Sequence[str], labels: npt.NDArray[np.int64], asked: SplitSection, before: Mapping[str, str], root: str
) -> dict[str, str]:
    """The split of every group that occurs; those in `before` stay. `group` and `labels` are (rows,).

    Every split gets a group. Where there is nothing new, nothing is computed.

    Raises:
        DataError: fewer groups than splits.
    """
    splits = list(asked.shares)
    names = list(dict.fromkeys(group))
    dealt = {name: before[name] for name in names if before.get(name) in splits}
    if len(dealt) == len(names):
        return dealt
    if len(names) < len(splits):
        raise DataError(f"{root}: {len(names)} different by {asked.by!r}: too few for {', '.join(splits)}")
    contents = _contents(names, group, labels)
    balance = _Balance(tuple(asked.shares.values()), np.bincount(labels).tolist())
    for name, split in dealt.items():
        balance.put(contents[name], splits.index(split))
    new = [name for name in names if name not in dealt]
    new.sort(key=lambda name: (-sum(rows for _, rows in contents[name]).bit_length(), draw(name, asked.seed)))
    places = balance.place([contents[name] for name in new])
    dealt |= {name: splits[place] for name, place in zip(new, places, strict=True)}
    return {name: dealt[name] for name in names}


_Contents = list[tuple[int, int]]  # a group's rows of each class that it has: (class, rows)


def _contents(names: Sequence[str], group: Sequence[str], labels: npt.NDArray[np.int64]) -> dict[str, _Contents]:
    code = {name: number for number, name in enumerate(names)}
    classes = int(labels.max()) + 1
    cells = np.array([code[name] for name in group], dtype=np.int64) * classes + labels
    found: dict[str, _Contents] = {name: [] for name in names}
    for cell, rows in zip(*(column.tolist() for column in np.unique(cells, return_counts=True)), strict=True):
        found[names[cell // classes]].append((cell % classes, rows))
    return found


class _Balance:
    """How far each split is from its share of each class, while groups are placed."""

    def __init__(self, shares: Sequence[float], totals: Sequence[int]) -> None:
        self.off = [[-share * total for total in totals] for share in shares]  # rows too many, or (below 0) too few
        self.weight = [1 / total**2 if total else 0.0 for total in totals]
        self.groups = [0] * len(shares)

    def place(self, new: Sequence[_Contents]) -> list[int]:
        """The split of each new group, placed in this order; no single one of them would lie better elsewhere."""
        splits = range(len(self.groups))
        places = []
        for number, contents in enumerate(new):
            empty = [split for split in splits if not self.groups[split]]
            must = empty if len(new) - number <= len(empty) else splits  # the last ones fill what is empty
            place = min(must, key=lambda split: self.cost(contents, split))
            self.put(contents, place)
            places.append(place)
        moving = True
        while moving:
            moving = False
            for number, contents in enumerate(new):
                place = self._better(contents, places[number])
                if place != places[number]:
                    self.put(contents, places[number], sign=-1)
                    self.put(contents, place)
                    places[number], moving = place, True
        return places

    def _better(self, contents: _Contents, here: int) -> int:
        """Where a group should stand; `here`, unless it gains by a move and does not leave its split empty."""
        if self.groups[here] == 1:
            return here
        own = sum(rows * rows * self.weight[label] for label, rows in contents)
        # Taking it out gives back what it would cost to add it to what is left.
        left = self.cost(contents, here) - 2 * own
        others = [split for split in range(len(self.groups)) if split != here]
        best = min(others, key=lambda split: self.cost(contents, split))
        return best if self.cost(contents, best) < left - _LEAST * own else here

    def cost(self, contents: _Contents, split: int) -> float:
        """What adding a group to a split adds to the sum."""
        off, weight = self.off[split], self.weight
        return sum(rows * (2 * off[label] + rows) * weight[label] for label, rows in contents)

    def put(self, contents: _Contents, split: int, *, sign: int = 1) -> None:
        """Add a group to a split, or take it out."""
        for label, rows in contents:
            self.off[split][label] += sign * rows
        self.groups[split] += sign
