"""What is said of a split that a data set does not have: its name may be misspelt."""

from collections.abc import Collection

from featcache.listing import USUAL_SPLITS, nearest_split, order_splits


def describe_missing_split(
    data_set: str, split: str, cached: Collection[str], on_disk: Collection[str] | None, command: str
) -> str:
    """Return that a data set has no split of this name, and which one is meant or how to get one.

    Args:
        data_set: Its name.
        split: The name that was given.
        cached: The splits that the cache holds.
        on_disk: The splits that the data set has where it lies; None where that cannot be told.
        command: The command that extracts it, to which shares can be added; "" where its splits are assigned already.

    Returns:
        A sentence; "" where there is such a split, or where it may be on another machine.
    """
    known = order_splits({*cached, *(on_disk or ())})
    if split in known or not known or (on_disk is None and split in USUAL_SPLITS):
        return ""
    has = f"it has {', '.join(known)}"
    close = nearest_split(split, known)
    if close is not None:
        return f"{data_set} has no split {split!r}: did you mean {close}? ({has})"
    if split in ("val", "test") and command:
        return (
            f"{data_set} has no split {split!r} ({has}): `{command} --{split} 0.15` takes it from train, and the "
            f"commands after it need --{split} 0.15 too"
        )
    return f"{data_set} has no split {split!r}; {has}"
