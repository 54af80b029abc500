"""What can go wrong, and with which exit code the command line says so.

0 done; 1 a bug; 2 the command line or the recipe; 3 the cache does not fit what was asked; 4 the data;
5 the machine (disk full, no such device, weights out of reach); 130 interrupted, 143 terminated.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Correction:
    """How a command line that was refused becomes one that works: one of its words, or one option, is another.

    Attributes:
        wrong: a word as it was typed, or an option with its dashes.
        right: what stands in its place, or the value that the option gets; another option, dashes and all, takes the
            place of the option and keeps its value, and so does no text at all; None leaves the option out with its
            value. An option that was not typed is added. Where `wrong` ends in "=", as in `C=`, it stands for the word
            that begins so, and `right` for that word, or for the same beginning of it.
    """

    wrong: str
    right: str | None


class FeatcacheError(Exception):
    """Anything that featcache refuses. The message says what, found, expected, and the way out."""

    exit_code = 1
    corrections: tuple[Correction, ...] = ()

    def correct(self, wrong: str, right: str | None) -> Self:
        """Return the error itself, with one more correction of the command line that led to it.

        Args:
            wrong: As in `Correction`.
            right: As in `Correction`.
        """
        self.corrections = (*self.corrections, Correction(wrong, right))
        return self


class UsageError(FeatcacheError):
    """The command line or the recipe asks for something that cannot be."""

    exit_code = 2


class CacheError(FeatcacheError):
    """The cache does not fit what was asked: another trunk, a missing split, a damaged shard."""

    exit_code = 3


class DataError(FeatcacheError):
    """The images or their labels: a missing folder, too many unreadable files, a single class."""

    exit_code = 4


class MachineError(FeatcacheError):
    """The machine: disk full, no such device, weights out of reach."""

    exit_code = 5


@contextlib.contextmanager
def name_fold_in_errors(fold: int | None) -> Iterator[None]:
    """Return a context that puts the number of a fold before an error; where there is no fold, it stays as it is.

    Args:
        fold: The fold that is worked on; None where the data set is worked on as a whole.

    Raises:
        FeatcacheError: the one that was raised inside.
    """
    try:
        yield
    except FeatcacheError as error:
        if any(correction.wrong == "--folds" for correction in error.corrections):  # of every fold the same is wrong
            error.args = (str(error).replace("--fold", "--folds", int(fold is not None)),)
        elif fold is not None:
            error.args = (f"fold {fold}: {error}",)
        raise


@contextlib.contextmanager
def name_target_in_errors(target: str) -> Iterator[None]:
    """Return a context that puts the word of a target before an error.

    Args:
        target: The one of several that is worked on.

    Raises:
        FeatcacheError: the one that was raised inside.
    """
    try:
        yield
    except FeatcacheError as error:
        error.args = (f"target {target}: {error}",)
        raise
