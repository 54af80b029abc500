"""The folds that a command line names, and the options of each one's run."""

from collections.abc import Mapping
from typing import Any

from featcache.errors import UsageError


def parse_folds(folds: str) -> list[int]:
    """Return the numbers of --folds, such as those of "0,1,2".

    Raises:
        UsageError: they are no numbers, or one stands there twice.
    """
    try:
        numbers = [int(number) for number in folds.split(",")]
    except ValueError:
        error = UsageError(f"--folds: found {folds!r}, expected numbers separated by commas: 0,1,2")
        raise error.correct("--folds", "0,1,2") from None
    if len(set(numbers)) != len(numbers):
        different = ",".join(map(str, dict.fromkeys(numbers)))
        raise UsageError(f"--folds: found {folds!r}, expected each fold once: 0,1,2").correct("--folds", different)
    return numbers


def options_of_folds(folds: str | None, options: Mapping[str, Any]) -> list[tuple[int | None, dict[str, Any]]]:
    """Return each fold of --folds with the options of its run; the options as they are, and None, without --folds.

    Raises:
        UsageError: --folds is no list of numbers, or --fold was given too.
    """
    if folds is None:
        return [(None, dict(options))]
    if options["fold"] is not None:
        raise UsageError("--fold and --folds were both given; leave one out").correct("--fold", None)
    return [(fold, {**options, "fold": fold}) for fold in parse_folds(folds)]
