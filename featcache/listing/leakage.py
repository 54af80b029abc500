"""Leakage between splits: subjects, clips and images that stand in two of them, and flatter a score on one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from featcache.listing.columns import distinct_texts
from featcache.text import counted

_NAMED = 5


class SplitRows(Protocol):
    """The rows of one split: a Listing, or its Features."""

    @property
    def split(self) -> str:
        """The split's name."""

    @property
    def paths(self) -> Sequence[str]:
        """(rows,)."""

    @property
    def clips(self) -> Sequence[str]:
        """(rows,), "" where an image belongs to none."""

    @property
    def subjects(self) -> Sequence[str]:
        """(rows,), "" where nobody is named."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What two splits of one data set share; rows without a subject or a clip count for none."""

    split: str
    other_split: str
    subjects: tuple[str, ...]  # that stand in both, sorted
    clips: tuple[str, ...]
    paths: tuple[str, ...]

    def __str__(self) -> str:
        """Say what is shared, in one sentence."""
        subjects = ", ".join(self.subjects[:_NAMED]) + (", …" if len(self.subjects) > _NAMED else "")
        parts = [
            counted(len(names), what) + (f" ({subjects})" if what == "subject" else "")
            for what, names in (("subject", self.subjects), ("clip", self.clips), ("image", self.paths))
            if names
        ]
        shared = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
        return (
            f"splits {self.split!r} and {self.other_split!r} share {shared}: a figure on one flatters a head from the "
            f"other"
        )


def find_leaks(splits: Sequence[SplitRows]) -> list[Leak]:
    """Return a leak for every two splits that share a subject, a clip or an image; none where they share nothing.

    Args:
        splits: The rows of each split of one data set; every two of them are compared.
    """
    names = [
        (distinct_texts(rows.subjects) - {""}, distinct_texts(rows.clips) - {""}, set(rows.paths)) for rows in splits
    ]
    leaks = []
    for i, j in combinations(range(len(splits)), 2):
        shared = [tuple(sorted(mine & theirs)) for mine, theirs in zip(names[i], names[j], strict=True)]
        if any(shared):
            leaks.append(Leak(splits[i].split, splits[j].split, *shared))
    return leaks
