"""What stands on both sides of a split: people, clips and images that a figure would be flattered by."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

_NAMED = 5


class Part(Protocol):
    """One split: a Listing, or its Features."""

    @property
    def split(self) -> str:
        """Its name."""

    @property
    def paths(self) -> tuple[str, ...]:
        """(rows,)."""

    @property
    def clips(self) -> tuple[str, ...]:
        """(rows,), "" where an image belongs to none."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """(rows,), "" where nobody is named."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Two splits of one data set that are not apart; what each has no name for is not counted."""

    one: str
    other: str
    subjects: tuple[str, ...]  # that stand in both, sorted
    clips: tuple[str, ...]
    paths: tuple[str, ...]

    def __str__(self) -> str:
        """A sentence."""
        named = ", ".join(self.subjects[:_NAMED]) + (", …" if len(self.subjects) > _NAMED else "")
        parts = [
            f"{len(found):,} {what if len(found) == 1 else what + 's'}" + (f" ({named})" if what == "subject" else "")
            for what, found in (("subject", self.subjects), ("clip", self.clips), ("image", self.paths))
            if found
        ]
        shared = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
        return f"splits {self.one!r} and {self.other!r} share {shared}: a figure on one flatters a head from the other"


def find_leaks(parts: Sequence[Part]) -> list[Leak]:
    """Every two splits that a subject, a clip or an image stands in both of; none where the splits are apart."""
    names = [(set(part.subjects) - {""}, set(part.clips) - {""}, set(part.paths)) for part in parts]
    found = []
    for one, other in combinations(range(len(parts)), 2):
        shared = [tuple(sorted(mine & yours)) for mine, yours in zip(names[one], names[other], strict=True)]
        if any(shared):
            found.append(Leak(parts[one].split, parts[other].split, *shared))
    return found
