"""A recipe, `pipelines/NAME.toml`, read into a checked value. Every problem in it is reported at once.

A recipe is data: nothing in it is executed. A flag of the command line wins over the recipe, the recipe over
the defaults that stand here.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from featcache.arguments import nearest, suggestion
from featcache.errors import UsageError
from featcache.files import NAME, decode_utf8, expand_home, open_file, refuse_larger

_MOST_BYTES = 1 << 24


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _expand(path: str) -> str:
    try:
        return expand_home(path)
    except UsageError as error:
        raise ValueError(str(error)) from None


_Text = Annotated[str, Field(min_length=1)]
_Path = Annotated[str, Field(min_length=1), AfterValidator(_expand)]  # a tilde is the home folder
_Share = Annotated[float, Field(gt=0, lt=1)]  # of the data set's rows


class SplitSection(_Section):
    """The splits that a data set lacks: `val` and `test` are taken from its train split."""

    val: _Share | None = None
    test: _Share | None = None
    by: Literal["subject", "clip", "image"]  # what is never cut: all rows of one go to one split
    seed: Annotated[int, Field(ge=0, lt=10**9)] = 0

    @property
    def shares(self) -> dict[str, float]:
        """What each split gets of the rows, train first; they add up to 1."""
        asked = {name: share for name, share in (("val", self.val), ("test", self.test)) if share is not None}
        return {"train": 1 - sum(asked.values()), **asked}

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "SplitSection":
        if len(self.shares) == 1:
            raise ValueError("expected val, test, or both, each with its share of the rows")
        if self.shares["train"] <= 0:
            raise ValueError("val and test leave nothing to train on; expected less than 1 together")
        return self


FRAME_FIELDS = ("file_id", "participant_id", "annotation_id", "chunk_id", "activity", "view", "frame")
VIDEO_FIELDS = ("file_id", "participant_id", "view")
FRAMES, VIDEOS = "{file_id}/img_{frame:06d}.png", "{view}/{file_id}.mp4"  # where neither is named
_FRAME_SPEC = re.compile(r"(0?[1-9][0-9]?)?d?")  # how a whole number is written: 06d


def _pattern(pattern: str, known: Sequence[str]) -> list[str]:
    """The names of the fields of a pattern of paths below the root; the only ones are those of the annotations."""
    fields = [field.partition(":") for field in re.findall(r"\{([^{}]*)\}", pattern)]
    names = [name for name, _, _ in fields]
    rest = re.sub(r"\{[^{}]*\}", "", pattern)
    if "{" in rest or "}" in rest or "\0" in rest:
        raise ValueError("a brace without its partner, or a NUL")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown field {unknown[0]!r}; expected {', '.join(known)}")
    for name, _, spec in fields:
        if spec and (name != "frame" or not _FRAME_SPEC.fullmatch(spec)):
            raise ValueError(f"{{{name}:{spec}}}; only a frame has a format, such as {{frame:06d}}")
    if pattern.startswith(("/", "~/")) or ".." in pattern.split("/"):
        raise ValueError("expected a path below the root: no leading '/' or '~/', no '..'")
    return names


def _frame_pattern(pattern: str) -> str:
    names = _pattern(pattern, FRAME_FIELDS)
    if names.count("frame") != 1 or "file_id" not in names:
        raise ValueError("expected {frame} once, and {file_id}, which tells the drives apart")
    return pattern


def _video_pattern(pattern: str) -> str:
    if "file_id" not in _pattern(pattern, VIDEO_FIELDS):
        raise ValueError("expected {file_id}, which tells the drives apart")
    return pattern


class DataSection(_Section):
    """Which images: what every layout says."""

    layout: Literal["folder", "drive-act", "table"]
    root: _Path  # relative to the folder that the command is typed in
    split: SplitSection | None = None


class FolderData(DataSection):
    """<root>/<split>/<class>/.../image."""

    layout: Literal["folder"] = "folder"


class DriveActData(DataSection):
    """Drive&Act's annotations, and below the root its frames in folders, or its videos."""

    layout: Literal["drive-act"] = "drive-act"
    annotations: _Path | None = None  # None: <root>/iccv_activities_3s/activities_3s
    view: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,23}$")]
    fold: Annotated[int, Field(ge=0, le=2)]
    frames_per_chunk: Annotated[int, Field(ge=1, le=99_999)] | None = None  # the first ones of a chunk; None: all
    stride: Annotated[int, Field(ge=1, le=99_999)] = 1  # of those, every how-many-th is a row
    frames: Annotated[str, AfterValidator(_frame_pattern)] | None = None  # None: see `videos`
    videos: Annotated[str, AfterValidator(_video_pattern)] | None = None  # neither: what lies at FRAMES or at VIDEOS

    @model_validator(mode="after")
    def _has_one_kind_of_frames(self) -> "DriveActData":
        if self.frames is not None and self.videos is not None:
            raise ValueError("frames and videos are both named; leave one of them out")
        return self


class TableData(DataSection):
    """A CSV or Parquet file that names images and labels; relative paths are relative to it."""

    layout: Literal["table"] = "table"
    table: _Path  # below the root, or an absolute path
    path_column: _Text = "path"
    label_column: _Text = "label"
    split_column: _Text | None = None  # None: the column "split", where there is one; else all rows are train
    clip_column: _Text | None = None  # None: the column "clip", where there is one
    subject_column: _Text | None = None  # None: the column "subject", where there is one


class _UnknownData(DataSection):
    """A layout that there is none of: said with what else is wrong, and no word about keys that may belong to it."""

    model_config = ConfigDict(extra="ignore")


_LAYOUTS: dict[str, type[DataSection]] = {"folder": FolderData, "drive-act": DriveActData, "table": TableData}


def _layout(data: object) -> str:
    found = data.get("layout", "folder") if isinstance(data, Mapping) else getattr(data, "layout", "folder")
    return found if isinstance(found, str) and found in _LAYOUTS else "unknown"


_Data = Annotated[
    Annotated[FolderData, Tag("folder")]
    | Annotated[DriveActData, Tag("drive-act")]
    | Annotated[TableData, Tag("table")]
    | Annotated[_UnknownData, Tag("unknown")],  # never passes: its layout is none of the three
    Discriminator(_layout),
]


class TrunkSection(_Section):
    """Which frozen network, and how it is run."""

    arch: str = "vit_b_16"
    weights: _Path = "IMAGENET1K_V1"  # a torchvision name, a file, or "random"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation
    stored: Literal["float32", "float16"] = "float32"  # of the embeddings on disk
    exif: Literal["ignore", "apply"] = "ignore"  # what is done with a photograph's orientation tag
    # Of images: fast and gpu are not bit-equal to torchvision's transform, and make stores of their own.
    decode: Literal["exact", "fast", "gpu"] = "exact"


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Value = TypeVar("Value")
# A setting that may be a list in a recipe: one head for each value.
_Several = Annotated[tuple[Value, ...], BeforeValidator(lambda v: tuple(_as_list(v))), Field(min_length=1)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Smoothing = Annotated[float, Field(ge=0, lt=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]


class HeadSection(_Section):
    """How linear heads are trained; the defaults are the ViT paper's transfer recipe (see docs).

    Settings that are tuples may be lists in a recipe: a head is trained for every combination (see `GRID`).
    """

    optimizer: _Several[Literal["sgd", "adam", "adamw"]] = ("sgd",)
    lr: _Several[_Rate] = (0.003,)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: _Several[_Amount] = (0.0,)
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: _Amount = 0.0  # epochs
    plateau_epochs: Annotated[int, Field(ge=1)] = 10
    patience: Annotated[int, Field(ge=1)] | None = None  # epochs; None: every epoch is trained
    class_weights: _Several[Literal["none", "balanced"]] = ("none",)
    sampler: _Several[Literal["uniform", "balanced"]] = ("uniform",)
    logit_adjustment: _Several[_Amount] = (0.0,)
    label_smoothing: _Several[_Smoothing] = (0.0,)
    standardize: _Several[bool] = (False,)
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.0
    batch_size: Annotated[int, Field(ge=1, le=2**31)] = 1024
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 90
    seed: _Several[_Seed] = (0,)
    select: Literal["macro_recall", "accuracy", "loss"] = "macro_recall"  # what chooses the best head, on val

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "HeadSection":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup takes {self.warmup:g} of {self.epochs} epochs; expected fewer")
        return self


GRID = (
    "optimizer", "lr", "weight_decay", "class_weights", "sampler", "logit_adjustment", "label_smoothing",
    "standardize", "seed",
)  # fmt: skip


# Classifiers by a short name; knn and ridge are ours. A recipe may name scikit-learn's public classes, and nothing
# else: importing a package runs it, and a recipe is data.
SHORT_NAMES = {
    "logreg": "sklearn.linear_model:LogisticRegression",
    "linear-svm": "sklearn.svm:LinearSVC",
    "lda": "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
    "centroid": "sklearn.neighbors:NearestCentroid",
    "mlp": "sklearn.neural_network:MLPClassifier",
}
SKLEARN = r"sklearn(\.(?!tests\b|conftest\b|externals\b)[a-z][a-z0-9_]*)+:[A-Z][A-Za-z0-9]*"


def _classifier(name: str) -> str:
    if name not in ("knn", "ridge", *SHORT_NAMES) and not re.fullmatch(SKLEARN, name):
        known = ("knn", "ridge", *SHORT_NAMES)
        close = nearest(name, known)
        raise ValueError(
            f"{f'did you mean {close}? ' if close else ''}expected {', '.join(known)}, or a class of scikit-learn such "
            f"as sklearn.svm:SVC; other packages are named at the command line, never in a recipe"
        )
    return name


def _setting(value: object) -> object:
    """A number, a word, or a list of them to choose among; a list in a list is one value of several numbers."""
    for part in value if isinstance(value, list) else [value]:
        if not all(isinstance(item, bool | int | float | str) for item in (part if isinstance(part, list) else [part])):
            raise ValueError("expected a number, a word, true, false, or a list of them")
    return value


_Settings = dict[
    Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)],
    Annotated[Any, AfterValidator(_setting)],
]


class Recipe(_Section):
    """One data set, one trunk, one way to train heads."""

    name: Annotated[str, Field(pattern=NAME)]
    data: _Data
    trunk: TrunkSection = TrunkSection()
    head: HeadSection = HeadSection()
    fit: dict[Annotated[str, AfterValidator(_classifier)], _Settings] = {}  # what `featcache fit` fits, with settings

    def override(self, section: str, **flags: object) -> "Recipe":
        """The same recipe with the flags that are not None put into `section`, checked like the file itself."""
        given = {key: value for key, value in flags.items() if value is not None}
        document = self.model_dump(exclude_unset=True)  # what nobody stated stays unstated
        document[section] = {**document.get(section, {}), **given}
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
        document = tomllib.loads(_text(path))
    except OSError as error:
        raise UsageError(f"{path}: the recipe cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, a number of 5,000 digits, brackets without end
        raise UsageError(f"{path}: this is no TOML: {error}") from None
    return check(document, where=str(path))


def _text(path: Path) -> str:
    """What a regular file says, without a byte order mark; a pipe would be waited for without end.

    Raises:
        UsageError: it is not UTF-8.
    """
    with os.fdopen(open_file(path, follow_links=True), "rb") as file:
        refuse_larger(file.fileno(), _MOST_BYTES)
        try:
            return decode_utf8(file.read())
        except UsageError as error:
            raise UsageError(f"{path}: this is no TOML in UTF-8: {error}") from None


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
    elif os.path.lexists(local):
        recipe = read(local)
    elif data is not None:
        folder_name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(expand_home(data)).resolve().name).lstrip("-._")[:100]
        return check({"name": name or folder_name or "data", "data": {"root": data}}, where="the command line")
    else:
        recipe = read(_find("daa"))
    document = recipe.model_dump(exclude_unset=True)
    document["name"] = name or document["name"]
    document["data"]["root"] = data or document["data"]["root"]
    return check(document, where="the command line")


def as_named_anywhere(pipeline: str | None, *, data: str | None) -> str | None:
    """What `--pipeline` takes in any folder for the recipe that `resolve` means here; None where it means none."""
    if pipeline is None:
        local = Path("featcache.toml")
        return str(local.absolute()) if local.is_file() else None if data is not None else "daa"
    path = _find(pipeline)
    return pipeline if path.parent == shipped() else str(path.absolute())


def shipped() -> Path:
    """The folder of the recipes that come with featcache: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "pipelines"
    return inside if inside.is_dir() else package.parent / "pipelines"


def _find(pipeline: str) -> Path:
    pipeline = expand_home(pipeline)
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
    location = found["loc"]
    layout = location[1] if location[:1] == ("data",) and len(location) > 1 else ""
    if layout in {*_LAYOUTS, "unknown"}:  # which layout it was read as is no part of the place
        location = (location[0], *location[2:])
    place = ".".join(str(part) for part in location)
    kind, value = found["type"], found["input"]
    if kind == "extra_forbidden":
        known = _keys(location[:-1], layout)
        word = str(location[-1])
        own = ".".join(str(part) for part in location[:-1])
        homes = dict.fromkeys(name for name, section in _SECTIONS if word in section.model_fields and name != own)
        if nearest(word, known) is None and homes:
            return f"{place}: unknown key; it belongs to {' or '.join(f'[{name}]' for name in homes)}"
        return f"{place}: unknown key; {suggestion(word, known)}"
    if kind == "missing":
        return f"{place}: missing"
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
    message = found["msg"].removeprefix("Value error, ")
    return f"{place}: found {shown}; {message[0].lower()}{message[1:]}"


_SECTIONS: Sequence[tuple[str, type[BaseModel]]] = (
    ("data", FolderData), ("data", DriveActData), ("data", TableData), ("data.split", SplitSection),
    ("trunk", TrunkSection), ("head", HeadSection),
)  # fmt: skip


def _keys(location: tuple[str | int, ...], layout: str) -> list[str]:
    sections: dict[tuple[str | int, ...], type[BaseModel]] = {
        (): Recipe,
        ("data",): _LAYOUTS.get(layout, DataSection),
        ("data", "split"): SplitSection,
        ("trunk",): TrunkSection,
        ("head",): HeadSection,
    }
    return list(sections[location].model_fields)
