"""A recipe, `pipelines/NAME.toml`, read into a checked value. Every problem in it is reported at once.

A recipe is data: nothing in it is executed. A flag of the command line wins over the recipe, the recipe over
the defaults that stand here.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from featcache.errors import UsageError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # names become folder names: no separator, no leading dot


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSection(_Section):
    """Which images."""

    layout: Literal["folder"] = "folder"  # <root>/<split>/<class>/.../image
    root: Annotated[str, Field(min_length=1)]  # relative to the folder that the command is typed in


class TrunkSection(_Section):
    """Which frozen network, and how it is run."""

    arch: str = "vit_b_16"
    weights: Annotated[str, Field(min_length=1)] = "IMAGENET1K_V1"  # a torchvision name, a file, or "random"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation
    stored: Literal["float32", "float16"] = "float32"  # of the embeddings on disk
    exif: Literal["ignore", "apply"] = "ignore"  # what is done with a photograph's orientation tag


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HeadSection(_Section):
    """How linear heads are trained; the defaults are the ViT paper's transfer recipe (see docs)."""

    optimizer: Literal["sgd"] = "sgd"
    lr: Annotated[tuple[_Rate, ...], BeforeValidator(lambda v: tuple(_as_list(v))), Field(min_length=1)] = (0.003,)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    schedule: Literal["cosine"] = "cosine"
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=1)] = 90
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Recipe(_Section):
    """One data set, one trunk, one way to train heads."""

    name: Annotated[str, Field(pattern=NAME)]
    data: DataSection
    trunk: TrunkSection = TrunkSection()
    head: HeadSection = HeadSection()

    def override(self, section: str, **flags: object) -> "Recipe":
        """The same recipe with the flags that are not None put into `section`, checked like the file itself."""
        given = {key: value for key, value in flags.items() if value is not None}
        document = self.model_dump()
        document[section] = {**document[section], **given}
        return check(document, where="the command line")


def check(document: Mapping[str, Any], *, where: str) -> Recipe:
    """Turn a parsed document into a recipe.

    Raises:
        UsageError: with every problem in it, a line each.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        problems = [_problem(found) for found in error.errors()]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError("\n  ".join([f"{where}: {count}", *problems])) from None


def read(path: Path) -> Recipe:
    """Read one recipe file.

    Raises:
        UsageError: it cannot be read, is no TOML, or does not say what a recipe must.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: the recipe cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of 5,000 digits, brackets without end
        raise UsageError(f"{path}: this is no TOML: {error}") from None
    return check(document, where=str(path))


def resolve(pipeline: str | None = None, *, data: str | None = None, name: str | None = None) -> Recipe:
    """The recipe that a command means.

    `pipeline` is a path to a recipe, or a name that is looked up in `./pipelines/`, then among the recipes that
    ship with the package. Without one: `./featcache.toml` where it stands; else, with `data`, an image folder
    with the defaults, named after the folder; else `daa`. `data` wins over the recipe's root, `name` over its name.

    Raises:
        UsageError: no such recipe, or a faulty one.
    """
    local = Path("featcache.toml")
    if pipeline is not None:
        recipe = read(_find(pipeline))
    elif local.is_file():
        recipe = read(local)
    elif data is not None:
        folder_name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).resolve().name).lstrip("-._")[:100]
        return check({"name": name or folder_name or "data", "data": {"root": data}}, where="the command line")
    else:
        recipe = read(_find("daa"))
    document = recipe.model_dump()
    document["name"] = name or document["name"]
    document["data"]["root"] = data or document["data"]["root"]
    return check(document, where="the command line")


def shipped() -> Path:
    """The folder of the recipes that come with featcache: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parent
    inside = package / "pipelines"
    return inside if inside.is_dir() else package.parent / "pipelines"


def _find(pipeline: str) -> Path:
    if pipeline.endswith(".toml") or "/" in pipeline:
        return Path(pipeline)
    folders = (Path("pipelines"), shipped())
    for folder in folders:
        if (folder / f"{pipeline}.toml").is_file():
            return folder / f"{pipeline}.toml"
    names = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise UsageError(
        f"no recipe {pipeline!r} in ./pipelines or among those that ship with featcache "
        f"({', '.join(names) or 'none'}); name one of them, or the path of a .toml file"
    )


def _problem(found: Any) -> str:
    """One of pydantic's findings as: where, what was found, what was expected."""
    place = ".".join(str(part) for part in found["loc"])
    kind, value = found["type"], found["input"]
    if kind == "extra_forbidden":
        known = _keys(found["loc"][:-1])
        close = difflib.get_close_matches(str(found["loc"][-1]), known, n=1)
        return f"{place}: unknown key; " + (f"did you mean {close[0]}?" if close else f"expected {', '.join(known)}")
    if kind == "missing":
        return f"{place}: missing"
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
    return f"{place}: found {shown}; {found['msg'][0].lower()}{found['msg'][1:]}"


def _keys(location: tuple[str | int, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {"data": DataSection, "trunk": TrunkSection, "head": HeadSection}
    model = sections.get(str(location[0]), Recipe) if location else Recipe
    return list(model.model_fields)
