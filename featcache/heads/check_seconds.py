"""How long the check of a linear head against the optimum may take."""

from featcache.errors import UsageError
from featcache.recipe import LINEAR

CHECK_SECONDS = "auto"
LEAST_CHECK, CHECK_SHARE = 5.0, 0.25  # "auto": seconds, and of what the training took; the larger of the two
LONGEST_CHECK = 86_400.0


def refuse_check_seconds(check_seconds: float | str | None) -> None:
    """Raise a UsageError unless a check may take so many seconds; None stands for no check.

    Raises:
        UsageError: it is neither "auto" nor above 0, or longer than a day.
    """
    if check_seconds is None or check_seconds == CHECK_SECONDS:
        return
    if isinstance(check_seconds, str) or not 0 < check_seconds <= LONGEST_CHECK:
        raise UsageError(
            f"--check-seconds: found {check_seconds}, expected {CHECK_SECONDS!r}, or above 0 and at most "
            f"{LONGEST_CHECK:,.0f}"
        )


def refuse_check_of_module(head: str, check_seconds: float | str | None) -> None:
    """Raise a UsageError where somebody gives the check of a head that has none a number of seconds.

    Raises:
        UsageError: the head is no linear one.
    """
    if head != LINEAR and check_seconds not in (None, CHECK_SECONDS):
        raise UsageError(
            f"--check-seconds has no effect with --head {head}: only a linear head has a convex optimum to be held "
            f"against; leave it out"
        ).correct("--check-seconds", None)


def seconds_of_check(check_seconds: float | str, training_seconds: float) -> float:
    """Return how long a check may take after a training of so many seconds."""
    return max(LEAST_CHECK, CHECK_SHARE * training_seconds) if isinstance(check_seconds, str) else check_seconds
