"""`report --against`: two heads, not one twice."""

from featcache.errors import UsageError


def refuse_same_head(handle: str, against: str) -> None:
    """Refuse to hold a head against itself.

    Args:
        handle: how `compare` lists the head.
        against: what was typed for the other one.

    Raises:
        UsageError: always, with the way out.
    """
    raise UsageError(
        f"--against {against}: both are head {handle}, and a head differs from itself by nothing. Name another one; "
        f"`featcache compare` lists them."
    ).correct("--against", None)
