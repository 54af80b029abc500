"""Where listings come from: a data set as a recipe lays it out. Each layout is one."""

from collections.abc import Iterable
from typing import Protocol

from featcache.listing.listing import Listing

USUAL = ("train", "val", "test")


class Source(Protocol):
    """A data set. What its splits share is read once, so one source serves one command."""

    @property
    def apart(self) -> bool:
        """Whether no two splits can share a path, a clip or a subject, because each holds its split's name."""

    @property
    def absent(self) -> str:
        """Why no image of it can be read, as a sentence; "" where some may be."""

    def splits(self) -> list[str]:
        """The splits that there are; train, val and test first."""

    def listing(self, split: str) -> Listing:
        """The rows of one split."""


def in_order(names: Iterable[str]) -> list[str]:
    """Names of splits, each once: train, val and test first, then the others, sorted."""
    found = set(names)
    return [name for name in USUAL if name in found] + sorted(found - set(USUAL))
