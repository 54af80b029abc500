"""DataSource: a data set as a recipe lays it out. Each layout is one."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from featcache.arguments import nearest_name
from featcache.listing.listing import Listing
from featcache.listing.paths import shown_path

USUAL_SPLITS = ("train", "val", "test")
_NAMED = 10  # splits in a message
_SYNONYMS = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}


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


def usual_split(name: str) -> str:
    """Return the usual name of a split that others call otherwise, such as `validation`; any other name as it is.

    Args:
        name: Of a split, in upper or lower case.
    """
    word = name.casefold()
    return _SYNONYMS.get(word, word if word in USUAL_SPLITS else name)


def find_split_word(path: str) -> str:
    """Return the split that a path names with one of its folders, or with a word of its file's name; "" where none.

    Args:
        path: Relative, without the suffix of the file: `train/a`, or `photos-val-0003`.
    """
    *folders, file = path.split("/")
    for word in (*folders, *re.split(r"[^A-Za-z]+", file)):
        if usual_split(word) in USUAL_SPLITS:
            return usual_split(word)
    return ""


def order_splits(names: Iterable[str]) -> list[str]:
    """Return the names of splits, each once: train, val and test first, then the others, sorted.

    Args:
        names: In any order; repeated or not.
    """
    different = set(names)
    return [name for name in USUAL_SPLITS if name in different] + sorted(different - set(USUAL_SPLITS))


def nearest_split(split: str, names: Iterable[str]) -> str | None:
    """Return the split that a misspelt name most likely means; None where none is near.

    Args:
        split: The name that was given.
        names: The splits that there are.
    """
    names = list(names)
    synonym = _SYNONYMS.get(split.casefold())
    return synonym if synonym in names else nearest_name(split, names)


def note_misspelt_splits(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note for each split that may be train, val or test under another name, and which there is not.

    Args:
        names: Of all splits of a data set.
    """
    splits = set(names)
    absent = [name for name in USUAL_SPLITS if name not in splits]
    meant = {split: nearest_split(split, absent) for split in order_splits(splits - set(USUAL_SPLITS))}
    return tuple(
        f"there is a split {shown_path(split)}, and none called {usual}: if it is that one, rename it to {usual}"
        for split, usual in meant.items()
        if usual is not None
    )


def describe_splits(names: Sequence[str], *, instead_of: str) -> str:
    """Return which splits there are, and which one a name that is none of them means, as the end of a message."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    close = nearest_split(instead_of, names)
    meant = f"did you mean {shown_path(close)}? " if close else ""
    return f"{meant}found {', '.join(map(shown_path, names[:_NAMED]))}{more}"
