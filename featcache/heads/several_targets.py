"""Heads for several target columns of Drive&Act by one call: the embeddings are read once, and each target is scored.

A target is a level, a column of the recipe's level, or LEVEL:COLUMN. Each has its listing and its heads, as where it is
named alone, and is trained on its own rows in its own order: every head equals itself trained alone, to the bit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Unpack, cast

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError, name_target_in_errors
from featcache.features import EmbeddingPool
from featcache.heads.check_seconds import CHECK_SECONDS
from featcache.heads.fit_linear import fit_with_pool
from featcache.heads.fit_result import Fit
from featcache.heads.grid import HeadOptions
from featcache.recipe import ACTIVITY, LEVELS, DriveActData, StoreOptions, pick_options


@checked
def fit_targets(
    targets: Sequence[str],
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    check_seconds: float | str | None = CHECK_SECONDS,
    progress: Callable[[str, str, int, int], None] = lambda *_: None,
    on_fit: Callable[[str, Fit], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> Mapping[str, Fit]:
    """Train heads for each of several targets of Drive&Act, as `fit_head` trains them for one.

    Args:
        targets: Levels ("tasklevel"), columns of the recipe's level ("object"), or both ("objectlevel:object").
        lr: As of `fit_head`.
        grid: As of `fit_head`.
        device: As of `fit_head`.
        check_seconds: As of `fit_head`, for each target.
        progress: Gets the target, then what that of `fit_head` gets.
        on_fit: Gets each target with its heads, as they are done.
        **settings: As of `fit_head`, without `level` and `target`.

    Returns:
        The fit of each target, by its word.

    Raises:
        UsageError: as `fit_head`; no Drive&Act, a level or target beside them, or one twice.
        CacheError: as `fit_head`.
        DataError: as `fit_head`.
        MachineError: as `fit_head`.
    """
    options = [options_of_target(word, settings) for word in refuse_bad_targets(targets, settings)]
    pool, fits = EmbeddingPool(), {}
    for word, of_target in zip(targets, options, strict=True):

        def show(stage: str, done: int, total: int, word: str = word) -> None:
            progress(word, stage, done, total)

        with name_target_in_errors(word):
            fits[word] = fit_with_pool(
                pool, lr, grid=grid, device=device, check_seconds=check_seconds, from_disk=False, head_name=None,
                cluster=None, progress=show, **of_target,
            )  # fmt: skip
        on_fit(word, fits[word])
    return fits


def refuse_bad_targets(targets: Sequence[str], settings: HeadOptions) -> Sequence[str]:
    """Return the targets, once it is clear that they can be told apart and that the data set has such.

    Args:
        targets: As `fit_targets` takes them.
        settings: Likewise.

    Raises:
        UsageError: they cannot, or it has not.
    """
    for name in ("level", "target"):
        if settings.get(name) is not None:
            raise UsageError(f"--{name} and --targets were both given; leave one out").correct(f"--{name}", None)
    if not targets or len(set(targets)) < len(targets) or not all(targets):
        different = ",".join(dict.fromkeys(filter(None, targets))) or LEVELS[1]
        error = UsageError(f"--targets: found {','.join(targets)!r}, expected each target once, with commas between")
        raise error.correct("--targets", different)
    data = DatasetRequest(**pick_options(settings, StoreOptions)).recipe.data
    if not isinstance(data, DriveActData):
        raise UsageError(
            f"--targets is for Drive&Act, whose annotations have several levels and columns; this data set has the "
            f"layout {data.layout}. Of a table, target_columns in the recipe names several labels or numbers"
        ).correct("--targets", None)
    return targets


def options_of_target(word: str, settings: HeadOptions) -> HeadOptions:
    """Return the options of one target's run.

    Args:
        word: A level, a column, or LEVEL:COLUMN.
        settings: Of all of them.
    """
    level, colon, column = word.partition(":")
    if not colon and level not in LEVELS:
        return {**settings, "target": level}
    if not colon and level != LEVELS[2]:
        column = ACTIVITY
    return {**settings, "level": level, "target": column or None}


def data_options_of_target(word: str, options: StoreOptions) -> StoreOptions:
    """Return the options with which another command names the data set of one target.

    Args:
        word: As for `options_of_target`.
        options: Of all targets.
    """
    named = pick_options(options_of_target(word, cast("HeadOptions", options)), StoreOptions)
    if named.get("target") == ACTIVITY and named.get("level") in LEVELS[:2]:
        named["target"] = None  # the only one of such a level
    return named
