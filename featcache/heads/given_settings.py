"""The settings that heads are trained with: the recipe's, with what `--grid` and the flags say in their place."""

from collections.abc import Collection, Mapping

from featcache.errors import UsageError
from featcache.heads.config import SETTINGS
from featcache.heads.grid import parse_grid
from featcache.recipe import HeadSection, Recipe, join_alternatives


def head_section(
    recipe: Recipe, grid: str | None, flags: Mapping[str, object], *, searched: Collection[str] = ()
) -> HeadSection:
    """Return the recipe's head section, with what `--grid` and the flags say in its place.

    A setting that was given and has no effect on any head is refused; one that the recipe states is not.

    Args:
        recipe: The recipe.
        grid: What `--grid` says; None where it was not given.
        flags: Settings by name; None where one was not given.
        searched: The settings that may take any value later.

    Raises:
        UsageError: a setting out of its range, one that is given twice, or one that has no effect.
    """
    in_grid = {} if grid is None else parse_grid(grid)
    if twice := [name for name in in_grid if flags.get(name) is not None]:
        raise UsageError(f"{twice[0]} is given in --grid and by a flag of its own; give it once")
    try:
        section = recipe.override("head", **(dict(flags) | in_grid)).head
    except UsageError as error:
        if in_grid:
            error.corrections = ()  # of flags: a value may stand in --grid
        raise
    if flags.get("momentum") is not None and "sgd" not in section.optimizer and "optimizer" not in searched:
        raise UsageError(f"--momentum has no effect with {' and '.join(section.optimizer)}: it is a setting of sgd")
    given = [name for name in SETTINGS if flags.get(name) is not None or name in in_grid]
    if foreign := [name for name in given if not SETTINGS[name].applies_to(section.head)]:
        raise _foreign_setting(foreign[0], section.head, in_grid)
    if flags.get("augment") is not None and not has_views(section):
        unused = UsageError("--augment has no effect without --views: it names the views that are drawn from")
        raise unused.correct("--augment", None)
    if flags.get("plateau_epochs") is not None and section.schedule != "plateau":
        raise UsageError(
            f"--plateau-epochs has no effect with --schedule {section.schedule}; it belongs to --schedule plateau"
        )
    return section


def has_views(section: HeadSection) -> bool:
    """Return whether a head of this section learns from views; one over clips never does, whatever the recipe says."""
    return SETTINGS["views"].applies_to(section.head) and any(section.views)


def _foreign_setting(name: str, head: str, in_grid: Collection[str]) -> UsageError:
    """Return the error that a setting belongs to another head than the one that is trained."""
    heads, option = SETTINGS[name].declaration.heads, SETTINGS[name].option
    where = f"--grid {name}" if name in in_grid else option
    error = UsageError(f"{where} has no effect with --head {head}: it is a setting of {join_alternatives(heads)}")
    return error.correct("--head", heads[0])
