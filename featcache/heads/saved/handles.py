"""The short names of models: #1, #2, … in the order of their training, and names that a person gave with --head-name.

A number is recorded in the log of runs with the model's first run, so it never changes, whatever is trained, repaired
or removed later. Models of earlier versions have no recorded number: they are counted in the order of their runs, and
the next run that is recorded keeps these numbers too.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.heads.saved.run_log import FitRun  # which records the numbers

NEAREST = 3  # models that a misspelt name may mean
_NEAR = 0.25  # how much of two names must be the same, of 0 to 1
_LONGEST = 40  # characters of a given name
_GIVEN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,39}")
_DIGEST = re.compile(r"-[0-9a-f]{8}$")  # how the names that featcache makes end
_OWN_NAME = re.compile(rf"^lr[0-9]|{_DIGEST.pattern}")  # how they begin or end
_RESERVED = ("best", "latest")


@dataclass(frozen=True, slots=True)
class Handles:
    """The numbers and the given names of all models of a data set, over all stores of a cache."""

    numbers: Mapping[str, int] = field(default_factory=dict)  # by the model's name
    given: Mapping[str, str] = field(default_factory=dict)  # the model's name, by the name that a person gave it
    moved_from: str = ""  # the model that had the name which the newest run gave to another

    def handle(self, name: str) -> str:
        """Return "#3" for a model, "" for one that no run knows.

        Args:
            name: The model's name.
        """
        return f"#{self.numbers[name]}" if name in self.numbers else ""

    def given_name(self, name: str) -> str:
        """Return the name that a person gave to a model last, "" where nobody did.

        Args:
            name: The model's name.
        """
        return next((given for given, model in reversed(tuple(self.given.items())) if model == name), "")

    def describe(self, name: str) -> str:
        """Return how a model is listed: "#3 baseline (lr0.1-1a2b3c4d)", or "#3 lr0.1-1a2b3c4d".

        Args:
            name: The model's name.
        """
        given = self.given_name(name)
        return " ".join(filter(None, (self.handle(name), f"{given} ({name})" if given else name)))

    def note_on_moved(self, given_name: str) -> tuple[str, ...]:
        """Return a note where a given name stood for another model before the newest run; none elsewhere.

        Args:
            given_name: The name that the newest run gave.
        """
        if not self.moved_from:
            return ()
        moved = f"{given_name} stood for head {self.handle(self.moved_from)} ({self.moved_from}) until now"
        return (f"{moved}; it stands for {self.handle(self.given[given_name])} from here on",)

    def matches(self, word: str, names: Iterable[str]) -> list[str]:
        """Return the models that a word means: a whole name, a given name, #3 or 3, else the start of a name.

        Args:
            word: As a person typed it.
            names: The models that may be meant.
        """
        names = list(names)
        if word in names:
            return [word]
        if self.given.get(word) in names:
            return [self.given[word]]
        if is_number(word):
            return [name for name in names if self.numbers.get(name) == int(word.removeprefix("#"))]
        return [name for name in names if name.startswith(word)]

    def ranges(self, names: Iterable[str]) -> str:
        """Return the numbers of models in words: "#1 to #4, #7".

        Args:
            names: The models.
        """
        numbers = sorted(self.numbers[name] for name in names if name in self.numbers)
        starts = [number for number in numbers if number - 1 not in numbers]
        ends = [number for number in numbers if number + 1 not in numbers]
        return ", ".join(
            f"#{start}" if start == end else f"#{start} to #{end}" for start, end in zip(starts, ends, strict=True)
        )

    def nearest(self, word: str, names: Iterable[str]) -> list[str]:
        """Return the models that a misspelt word may mean, the nearest first: at most `NEAREST`, or none.

        Args:
            word: As a person typed it.
            names: The models that may be meant.
        """
        spellings = {name: name for name in names}
        spellings |= {given: model for given, model in self.given.items() if model in spellings}
        begins = any(spelling.startswith(word[:2]) for spelling in spellings)
        if not begins and not difflib.get_close_matches(word, spellings, n=1, cutoff=_NEAR):
            return []
        close = difflib.get_close_matches(word, spellings, n=len(spellings), cutoff=0.0)
        return list(dict.fromkeys(spellings[spelling] for spelling in close))[:NEAREST]


def handles_of(runs: "Sequence[FitRun]") -> Handles:
    """Return the handles of all models of a data set.

    Args:
        runs: Those of all stores of the cache, oldest first.
    """
    recorded: dict[str, int] = {}
    given: dict[str, str] = {}
    for run in runs:
        recorded = dict(run.numbers) | recorded  # the first record of a model counts
        if run.given_name and run.best is not None:
            given.pop(run.given_name, None)  # the newest model of a name has it, and stands last
            given[run.given_name] = run.best
    numbers: dict[str, int] = {}
    taken = set(recorded.values())
    last = 0
    for name in (name for run in runs for name in run.heads):
        if name in numbers:
            continue
        number = recorded.get(name)
        if number is None:
            number = next(free for free in range(last + 1, last + len(taken) + 2) if free not in taken)
        numbers[name] = number
        last = max(last, number)
    return Handles(numbers, given)


def is_number(word: str) -> bool:
    """Return whether a word is a model's number: "#3" or "3".

    Args:
        word: As a person typed it.
    """
    return re.fullmatch(r"#?[0-9]{1,18}", word) is not None


def refuse_given_name(name: str | None) -> None:
    """Raise a UsageError unless a model may have this name; None is no name.

    Args:
        name: As a person typed it.

    Raises:
        UsageError: it has other characters than a name may have, or stands, or may stand, for something else already.
    """
    if name is None:
        return
    permitted = _DIGEST.sub("", re.sub(r"[^A-Za-z0-9._-]+", "-", name))
    other = f"my-{permitted}"[:_LONGEST]
    if name in _RESERVED:
        error = UsageError(f"--head-name: {name!r} already stands for a head; choose another name")
        raise error.correct("--head-name", other)
    if not _GIVEN_NAME.fullmatch(name):
        error = UsageError(
            f"--head-name: found {name!r}, expected a letter, then up to {_LONGEST - 1} letters, digits, dots, "
            f"underscores or hyphens"
        )
        raise error.correct("--head-name", permitted[:_LONGEST] if permitted[:1].isalpha() else other)
    if _OWN_NAME.search(name):
        error = UsageError(
            f"--head-name: {name!r} may be the name of another head, or its start: featcache names heads by their "
            f"settings; choose another name"
        )
        raise error.correct("--head-name", other)
