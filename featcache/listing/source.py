"""DataSource: a data set as a recipe lays it out. Each layout is one."""

from collections.abc import Iterable
from typing import Protocol

from featcache.listing.listing import Listing

USUAL_SPLITS = ("train", "val", "test")


class DataSource(Protocol):
    """A data set that can be listed, split by split.

    What its splits share (a table, a folder's classes) is read once, so one source serves one command.
    """

    @property
    def has_disjoint_splits(self) -> bool:
        """Whether no two splits can share a path, a clip or a subject, because each holds its split's name."""

    @property
    def unreadable(self) -> str:
        """Why no image of it can be read, as a sentence; "" where some may be."""

    def splits(self) -> list[str]:
        """Return the names of the splits; train, val and test first.

        Raises:
            UsageError, DataError: as `listing`.
        """

    def listing(self, split: str) -> Listing:
        """Return the rows of one split.

        Args:
            split: Its name, one of `splits`.

        Raises:
            UsageError: the recipe asks for a split that the data set has already, or a table needs a reader that is not
                installed.
            DataError: there is no such split, or what is on disk does not fit the layout.
        """


def order_splits(names: Iterable[str]) -> list[str]:
    """Return the names of splits, each once: train, val and test first, then the others, sorted.

    Args:
        names: In any order; repeated or not.
    """
    different = set(names)
    return [name for name in USUAL_SPLITS if name in different] + sorted(different - set(USUAL_SPLITS))
