"""Which recipe a command means, and how its file is read."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from featcache.arguments import nearest_name
from featcache.containers import is_hub_name, is_streamed, parse_streamed, stem_of
from featcache.errors import UsageError
from featcache.files import decode_utf8, expand_home, nearest_path, open_file, refuse_larger
from featcache.recipe.modules import is_own_head
from featcache.recipe.recipe import COMMAND_LINE, Recipe, check_recipe
from featcache.recipe.trunk import is_import_path

_MOST_BYTES = 1 << 24
LOCAL_RECIPE = "featcache.toml"  # of the folder that a command is typed in
DRIVE_ACT_RECIPE = "daa"


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in one file.

    Args:
        path: the TOML file; a link is followed, a pipe or a device refused.

    Raises:
        UsageError: it cannot be read, is not valid TOML, or does not say what a recipe must.
    """
    try:
        document = tomllib.loads(_read_text(path))
    except FileNotFoundError as error:
        raise _no_file_error(path, error) from None
    except OSError as error:
        raise UsageError(f"{path}: the recipe cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, a number of 5,000 digits, brackets without end
        raise UsageError(f"{path}: this is not valid TOML: {error}") from None
    recipe = check_recipe(document, where=str(path))
    if is_import_path(recipe.trunk.arch):
        raise UsageError(
            f"{path}: trunk.arch = {recipe.trunk.arch!r} would import a module, which runs its code, and a recipe runs "
            f"none; leave it out, and type --arch {recipe.trunk.arch}"
        )
    if is_own_head(recipe.head.head):
        raise UsageError(
            f"{path}: head.head = {recipe.head.head!r} would import a module, which runs its code, and a recipe runs "
            f"none; leave it out, and type --head {recipe.head.head}"
        )
    return recipe


def _no_file_error(path: Path, error: OSError) -> UsageError:
    """Return the error that there is no such recipe, with the one beside it that may be meant."""
    close = nearest_path(str(path), suffixes=(".toml",))
    meant = "" if close is None else f"; did you mean {close}?"
    refused = UsageError(f"{path}: the recipe cannot be read: {error.strerror}{meant}")
    return refused if close is None else refused.correct("--pipeline", close)


def resolve_recipe(pipeline: str | None = None, *, data: str | None = None, name: str | None = None) -> Recipe:
    """Return the recipe that a command means.

    Args:
        pipeline: a path to a recipe, or a name that is looked up in `./pipelines/`, then among the recipes that ship
            with featcache. None: `./featcache.toml` where it exists; else, with `data`, an image folder with the
            defaults, named after the folder; else `daa`.
        data: wins over the recipe's root; a file wins over the root and the table of a recipe that has one.
        name: wins over the recipe's name.

    Raises:
        UsageError: no such recipe, or a faulty one.
    """
    if pipeline is not None:
        recipe = read_recipe(_find(pipeline))
    elif os.path.lexists(LOCAL_RECIPE):
        recipe = read_recipe(Path(LOCAL_RECIPE))
    elif data is not None:
        folder: dict[str, Any] = {"name": name or name_after(data), "data": {"root": data}}
        return check_recipe(folder, where=COMMAND_LINE)
    else:
        recipe = read_recipe(_find(DRIVE_ACT_RECIPE))
    document = recipe.model_dump(exclude_unset=True)
    document["name"] = name or document["name"]
    if data is not None:
        document["data"].update(_place(data, is_table=recipe.data.layout == "table"))
    return check_recipe(document, where=COMMAND_LINE)


def _place(data: str, *, is_table: bool) -> dict[str, str]:
    """Return the settings that say where the data set lies, by the folder or the table that was typed."""
    path = expand_home(data)
    if is_table and not os.path.isdir(path) and (os.path.isfile(path) or os.path.splitext(path)[1]):
        return {"root": os.path.dirname(data) or ".", "table": os.path.basename(data)}
    return {"root": data}


def has_local_recipe() -> bool:
    """Return whether there is a `featcache.toml` in this folder, which a command takes where it names no pipeline."""
    return os.path.lexists(LOCAL_RECIPE)


def name_after(path: str, *, is_container: bool = False) -> str:
    """Return the name in the cache of a data set that nobody named: that of its folder; a table's without suffix.

    That of containers of images has their suffix, so that `photos.tar` stands beside the folder `photos`.

    Args:
        path: The folder, the table, or the containers.
        is_container: Whether it names containers.
    """
    resolved = Path(expand_home(path)).resolve()
    if is_streamed(path):
        return _as_name(parse_streamed(path).repository.rpartition("/")[2])
    if is_hub_name(path):
        return _as_name(resolved.name.partition("@")[0])
    if is_container and not resolved.is_dir():
        return _as_name(f"{stem_of(path)}{resolved.suffix}")
    name = f"{resolved.parent.name}-{resolved.stem}" if resolved.is_file() else resolved.name
    return _as_name(name)


def _as_name(text: str) -> str:
    """Return a text as a name in the cache."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-._")[:100] or "data"


def absolute_pipeline(pipeline: str | None, *, data: str | None) -> str | None:
    """Return what `--pipeline` takes in any folder for the recipe that `resolve_recipe` means in this one.

    None where it means none: an image folder with the defaults.

    Args:
        pipeline: as for `resolve_recipe`, in the current folder.
        data: as for `resolve_recipe`; here it matters only whether there is one.

    Raises:
        UsageError: no recipe of this name.
    """
    if pipeline is None:
        local = Path(LOCAL_RECIPE)
        return str(local.absolute()) if local.is_file() else None if data is not None else DRIVE_ACT_RECIPE
    path = _find(pipeline)
    return pipeline if path.parent == shipped_recipes() else str(path.absolute())


def shipped_recipes() -> Path:
    """Return the folder of the recipes that ship: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "pipelines"
    return inside if inside.is_dir() else package.parent / "pipelines"


def _read_text(path: Path) -> str:
    """Return the text of a regular file, without a byte order mark; opening a pipe would block for ever.

    Raises:
        UsageError: it is not UTF-8.
    """
    with os.fdopen(open_file(path, follow_links=True), "rb") as file:
        refuse_larger(file.fileno(), _MOST_BYTES)
        try:
            return decode_utf8(file.read())
        except UsageError as error:
            raise UsageError(f"{path}: this is not TOML in UTF-8: {error}") from None


def _find(pipeline: str) -> Path:
    pipeline = expand_home(pipeline)
    if pipeline.endswith(".toml") or "/" in pipeline:
        return Path(pipeline)
    folders = (Path("pipelines"), shipped_recipes())
    for folder in folders:
        if (folder / f"{pipeline}.toml").is_file():
            return folder / f"{pipeline}.toml"
    names = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    file = nearest_path(f"{pipeline}.toml", suffixes=(".toml",))
    close = file or nearest_name(pipeline, names)
    meant = "" if close is None else f"did you mean {close}? Else "
    error = UsageError(
        f"no recipe {pipeline!r} in ./pipelines or among those that ship with featcache "
        f"({', '.join(names) or 'none'}); {meant}name one of them, or the path of a .toml file"
    )
    raise error if close is None else error.correct("--pipeline", close)
