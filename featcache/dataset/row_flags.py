"""Flags that say which rows of a data set are meant: their ranges, and those that few layouts have."""

from collections.abc import Mapping
from typing import NoReturn

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.listing import refuse_unnamed_target
from featcache.recipe import LEVELS, MOST_FOLD, SPLIT_SEEDS, DriveActData, Recipe, TableData
from featcache.text import enumerate_words

UNITS = ("subject", "clip", "image")
FOLDS = (0, 1, 2)
DRIVE_ACT_FLAGS = {  # settings of the layout drive-act that are flags too, and what they choose among
    "fold": "folds", "view": "views", "stride": "strides", "level": "levels", "target": "target columns",
}  # fmt: skip


def pick_drive_act_settings(options: object) -> dict[str, object]:
    """Return those settings of Drive&Act that were given: name -> value.

    Args:
        options: Has them as attributes; None where one was not given.
    """
    return {name: value for name in DRIVE_ACT_FLAGS if (value := getattr(options, name)) is not None}


def refuse_bad_flags(flags: Mapping[str, object]) -> None:
    """Refuse a value of a flag of the data that is out of its range, by the flag's name.

    Args:
        flags: the values that were given: val, test, by, seed, fold, level.

    Raises:
        UsageError: one is none of what is expected.
    """
    for name, value in flags.items():
        if name in ("val", "test") and not (isinstance(value, int | float) and 0 < value < 1):
            share = value / 100 if isinstance(value, int | float) and 5 <= value < 100 else 0.15
            raise UsageError(f"--{name}: found {value}, expected a share above 0 and below 1, such as 0.15").correct(
                f"--{name}", f"{share:g}"
            )
        if name == "by" and value not in UNITS:
            raise UsageError(f"--split-by: found {value!r}, expected {', '.join(UNITS[:-1])} or {UNITS[-1]}").correct(
                "--split-by", nearest_name(str(value), UNITS) or UNITS[-1]
            )
        if name == "seed" and value not in SPLIT_SEEDS:
            raise UsageError(f"--split-seed: found {value}, expected a whole number from 0 to {SPLIT_SEEDS[-1]:,}")
        if name == "level" and value not in LEVELS:
            _refuse_unknown_level(str(value))
    if sum(float(str(flags.get(name, 0))) for name in ("val", "test")) >= 1:
        raise UsageError("--val and --test leave nothing to train on; expected shares that add up to less than 1")


def _refuse_bad_fold(fold: object, *, of_table: bool) -> None:
    """Refuse the number of a fold that no data set of its layout has."""
    if fold is not None and fold not in (range(MOST_FOLD + 1) if of_table else FOLDS):
        expected = f"a whole number from 0 to {MOST_FOLD}" if of_table else "0, 1 or 2"
        raise UsageError(f"--fold: found {fold}, expected {expected}").correct("--fold", "0")


def _refuse_unknown_level(level: str) -> NoReturn:
    """Refuse a level that Drive&Act does not have, with the nearest one."""
    levels = {known.removesuffix("level"): known for known in LEVELS}  # mid, task, object
    close = nearest_name(level, LEVELS) or levels.get(nearest_name(level, levels) or "")
    meant = f"; did you mean {close}?" if close else ""
    error = UsageError(f"--level: found {level!r}, expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}{meant}")
    raise error.correct("--level", close or LEVELS[0])


def override_drive_act(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """Return the recipe with those of `DRIVE_ACT_FLAGS` that were given.

    Args:
        recipe: Of any layout.
        settings: The values that were given, by name.

    Raises:
        UsageError: one was given and the data set is not Drive&Act's (nor, of a fold, a table with folds); it is out of
            its range; or the level has several columns that can be predicted, and none of them is named.
    """
    data, others = recipe.data, {name: value for name, value in settings.items() if name != "fold"}
    has_folds = isinstance(data, TableData) and data.fold_column is not None
    if has_folds or isinstance(data, DriveActData):
        _refuse_bad_fold(settings.get("fold"), of_table=has_folds)
    if not isinstance(data, DriveActData) and (others if has_folds else settings):
        _refuse_drive_act_flags(recipe, others if has_folds else settings)
    recipe = recipe.override("data", **settings) if settings else recipe
    if isinstance(recipe.data, DriveActData):
        refuse_unnamed_target(recipe.data, data_set=recipe.name)
    return recipe


def _refuse_drive_act_flags(recipe: Recipe, settings: Mapping[str, object]) -> NoReturn:
    """Refuse flags of Drive&Act for another data set."""
    flags = enumerate_words([f"--{name}" for name in settings])
    lacking = " or ".join(DRIVE_ACT_FLAGS[name] for name in settings)
    where = "only the layout drive-act has them"
    if "fold" in settings and isinstance(recipe.data, TableData):
        where = "a table has folds where its recipe names their column, as fold_column, and one of them, as fold"
    error = UsageError(
        f"{flags}: {recipe.name} has no {lacking}; {where}. Leave {'it' if len(settings) == 1 else 'them'} out."
    ).correct("--folds", None)
    for name in settings:
        error = error.correct(f"--{name}", None)
    raise error
