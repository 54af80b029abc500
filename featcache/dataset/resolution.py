"""From the options of a command to a recipe: what is recognised in a folder, and what flags say of the data."""

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from featcache.errors import CacheError, DataError, UsageError
from featcache.files import StatLog, expand_home
from featcache.files.objects import refuse_few_slashes
from featcache.listing import (
    ANNOTATIONS,
    TABLE_SUFFIXES,
    AssignedSplits,
    find_splits,
    find_views,
    has_split_files,
    is_flat,
    is_of_containers,
    resolve_source,
)
from featcache.recipe import (
    COMMAND_LINE,
    DRIVE_ACT_RECIPE,
    SPLIT_SEEDS,
    ContainerData,
    FolderData,
    Recipe,
    SplitSection,
    check_recipe,
    has_local_recipe,
    name_after,
    resolve_recipe,
    shipped_recipes,
)
from featcache.store import find_stores

_UNIT = re.compile(r"-(subject|clip|image)-seed([0-9]+)$")  # how the variant of a divided data set ends

Division = Mapping[str, object]  # val, test, by and seed, those that are stated


@dataclass(frozen=True, slots=True)
class RecordedDivisions:
    """How a data set of the cache is divided into splits, by the listings in its stores."""

    sections: tuple[SplitSection, ...]
    is_plain: bool  # whether it is there with its own splits, too


def recognize_recipe(pipeline: str | None, data: str | None, name: str | None) -> Recipe:
    """Return the recipe that a command means; where it names a folder alone, what lies in the folder decides.

    A file is a table or a container of images, a folder with Drive&Act's annotations is Drive&Act, one with containers
    and no images is of containers, any other is a folder of images.

    Raises:
        UsageError: no such recipe, or a faulty one; several views of Drive&Act, none of them the recipe's; or a URL
            with a slash too few.
    """
    if data is not None:
        refuse_few_slashes(data, "--data")
    if pipeline is not None or data is None or has_local_recipe():
        return resolve_recipe(pipeline, data=data, name=name)
    path = expand_home(data)
    if is_of_containers(path):
        named = name or name_after(data, is_container=True)
        return check_recipe({"name": named, "data": {"layout": "container", "root": data}}, where=COMMAND_LINE)
    if path.lower().endswith(TABLE_SUFFIXES) and os.path.isfile(path):
        table = {"layout": "table", "root": os.path.dirname(path) or ".", "table": os.path.basename(path)}
        return check_recipe({"name": name or name_after(data), "data": table}, where=COMMAND_LINE)
    views = find_views(os.path.join(path, *ANNOTATIONS.split("/")))
    if not views:
        return resolve_recipe(data=data, name=name)
    shipped = resolve_recipe(str(shipped_recipes() / f"{DRIVE_ACT_RECIPE}.toml"), data=data, name=name)
    document = shipped.model_dump(exclude_unset=True)
    document.pop("trunk", None)  # nobody has stated it here, so that no store is held against it
    if document["data"]["view"] not in views:
        document["data"]["view"] = views[0]
    return check_recipe(document, where=COMMAND_LINE)


def refuse_unnamed(standard: str, data_sets: Mapping[str, str]) -> None:
    """Raise a UsageError that shows how to name a data set, unless the cache has that of the standard recipe.

    Args:
        standard: The standard recipe's data set.
        data_sets: Those of the cache: name -> folder.

    Raises:
        UsageError: the cache does not have it.
    """
    if standard in data_sets:
        return
    here = os.path.join(os.getcwd(), "")
    roots = [root.removeprefix(here) for root in data_sets.values() if os.path.exists(root)]
    examples = [f"--data {shlex.quote(root)}" for root in roots]
    typed = f"type {' or '.join(examples)} (what this cache holds)" if examples else "type it, as in --data photos"
    error = UsageError(
        f"which data set? No folder is named, and there is no featcache.toml here. Name the folder of the images: "
        f"{typed}. Or write it down once: featcache init FOLDER makes a featcache.toml."
    )
    raise error.correct("--data", roots[0]) if roots else error


def list_data_sets(cache: Path, stat_log: StatLog) -> dict[str, str]:
    """Return the data sets that a cache holds: name -> the folder, or the table, that it was extracted from."""
    roots: dict[str, str] = {}
    for store in find_stores(cache, stat_log):
        for key in sorted(store.listings):
            with contextlib.suppress(CacheError):  # `verify` names a damaged listing
                root, settings = store.origin(key)
                below = settings.get("table") or settings.get("files")
                roots[key[0]] = settings.get("source") or (os.path.join(root, below) if below else root)
    return roots


def divide(recipe: Recipe, typed: Division, recorded: Callable[[], RecordedDivisions]) -> tuple[Recipe, str]:
    """Return the recipe with the splits that were asked for, and what a person should know of them; "" where nothing.

    What is not stated is what the cache has: a flat folder that was divided stays divided in the same way, and shares
    that were extracted keep the unit and the seed that they were extracted by. Where the cache has none, the unit is
    the largest that the rows name.

    Args:
        recipe: Its `data.split` is completed.
        typed: The shares val and test, the unit `by` and the seed, as far as they were given.
        recorded: Returns how the cache has the data set divided; called where that matters.

    Raises:
        UsageError: a unit or a seed without shares, or several divisions that could be meant.
    """
    section = recipe.data.split
    if not typed and (section is not None or not _may_be_divided(recipe)):
        return recipe, ""
    wanted = {**({} if section is None else section.model_dump(exclude_unset=True)), **typed}
    has_shares = "val" in wanted or "test" in wanted
    if has_shares and "by" in wanted:
        return recipe.override("data", split=wanted), ""
    sections = _applicable(recipe, wanted, recorded())
    matching = [found for found in sections if _agrees(found, wanted)]
    if len(matching) == 1:
        note = f"{recipe.name} is divided as it was extracted: {describe_division(matching[0])}"
        return _with_division(recipe, matching[0]), "" if has_shares else note
    if matching:
        ways = "; or ".join(describe_division(found) for found in matching)
        error = UsageError(f"the cache has {recipe.name} divided in {len(matching)} ways; type one of them: {ways}")
        for flag, value in division_flags(matching[-1]):
            error = error.correct(flag, value)
        raise error
    if not wanted:
        return recipe, ""
    if not has_shares:
        _refuse_without_shares(recipe.name, wanted, sections)
    same_shares = {name: value for name, value in wanted.items() if name != "seed"}
    units = {found.by for found in sections if _agrees(found, same_shares)}
    unit = units.pop() if len(units) == 1 else _largest_unit(recipe, wanted)
    note = f"no {unit} is divided between two splits; --split-by image divides single images"
    return recipe.override("data", split={**wanted, "by": unit}), note if unit != "image" else ""


def _refuse_without_shares(data_set: str, wanted: Division, sections: Sequence[SplitSection]) -> NoReturn:
    """Refuse a unit or a seed without shares, where the cache has no division with it."""
    typed = [f"--split-{name} {wanted[name]}" for name in ("by", "seed") if name in wanted]
    if sections:
        ways = "; or ".join(describe_division(found) for found in sections)
        raise UsageError(
            f"the cache has {data_set} divided by {ways}, and not by {' '.join(typed)}. Type one of these; or, for "
            f"another division, the shares too: --val 0.15 --test 0.15 {' '.join(typed)}"
        )
    flags = [flag.rpartition(" ")[0] for flag in typed]
    have_none = f"{' and '.join(flags)} {'has' if len(flags) == 1 else 'have'} no effect"
    error = UsageError(f"{have_none} without --val or --test: type a share, such as --val 0.15")
    raise error.correct("--val", "0.15").correct("--test", "0.15")


def describe_division(section: SplitSection) -> str:
    """Return a division as flags: "--val 0.15 --test 0.15 --split-by image".

    Args:
        section: The division.
    """
    return " ".join(f"{flag} {value}" for flag, value in division_flags(section))


def division_flags(section: SplitSection) -> list[tuple[str, str]]:
    """Return the flags of a command that divide a data set like this, with their values."""
    shares = [(f"--{name}", f"{share:g}") for name, share in section.shares.items() if name != "train"]
    seed = [("--split-seed", str(section.seed))] if section.seed != SPLIT_SEEDS.start else []
    return [*shares, ("--split-by", section.by), *seed]


def read_divisions(cache: Path, stat_log: StatLog, data_set: str) -> RecordedDivisions:
    """Return the divisions in which a cache holds a data set; each once."""
    sections: dict[str, SplitSection] = {}
    is_plain = False
    for store in find_stores(cache, stat_log):
        for key in store.listings:
            if key[0] != data_set or key[1] in sections:
                continue
            match = _UNIT.search(key[1])
            if match is None:
                is_plain = True
                continue
            with contextlib.suppress(CacheError):  # `verify` names a damaged one
                settings = store.origin(key)[1]
                shares = {name: float(settings[name]) for name in ("val", "test") if name in settings}
                sections[key[1]] = SplitSection.model_validate({**shares, "by": match[1], "seed": int(match[2])})
    return RecordedDivisions(tuple(sections.values()), is_plain)


def _may_be_divided(recipe: Recipe) -> bool:
    """Return whether a data set has no splits of its own, by what is on disk; True where it is not on this machine."""
    data = recipe.data
    if isinstance(data, ContainerData):
        return not has_split_files(data.root)
    if not isinstance(data, FolderData):
        return False
    return not os.path.isdir(data.root) or is_flat_folder(recipe)


def is_flat_folder(recipe: Recipe) -> bool:
    """Return whether the data set is a folder without splits of its own, `<root>/<class>/…/image`, that is here.

    Args:
        recipe: Of the data set.
    """
    if not isinstance(recipe.data, FolderData):
        return False
    try:
        return is_flat(recipe.data.root, find_splits(recipe.data.root))
    except DataError:  # nothing in it, or it cannot be read: listing it says so
        return False


def _applicable(recipe: Recipe, wanted: Division, recorded: RecordedDivisions) -> tuple[SplitSection, ...]:
    """Return the divisions that may be meant; none where the data set itself is: undivided containers, or no folder."""
    may_be_whole = isinstance(recipe.data, ContainerData) or not os.path.isdir(recipe.data.root)
    return () if not wanted and recorded.is_plain and may_be_whole else recorded.sections


def _agrees(section: SplitSection, wanted: Division) -> bool:
    """Return whether a division is what was asked for: what was stated of shares, unit and seed is the same."""
    shares = {name: wanted[name] for name in ("val", "test") if name in wanted}
    own = {name: share for name, share in section.shares.items() if name != "train"}
    has_shares = not shares or shares == own
    return has_shares and all(
        wanted.get(name, getattr(section, name)) == getattr(section, name) for name in ("by", "seed")
    )


def _with_division(recipe: Recipe, section: SplitSection) -> Recipe:
    stated = section.model_dump(exclude_none=True)
    return recipe.override("data", split=stated)


def _largest_unit(recipe: Recipe, wanted: Division) -> str:
    """Return the largest unit that the rows name; "image" where they cannot be listed, which is reported elsewhere."""
    source = resolve_source(recipe.override("data", split={**wanted, "by": "image"}))
    try:
        return source.largest_unit() if isinstance(source, AssignedSplits) else "image"
    except DataError:
        return "image"
