"""The options of the command line: those that commands share, and those that a declaration in the recipe stands for."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import typer

from featcache.cli.output import echo_stderr
from featcache.cli.typed_data import remember_data_set
from featcache.errors import UsageError
from featcache.recipe import (
    SPLIT_SEEDS,
    DataOptions,
    DeclaredSetting,
    DeviceSettings,
    FeatureSettings,
    FinetuneKeywords,
    FinetuneSettings,
    HeadKeywords,
    HeadSettings,
    KeptHeadOptions,
    SelectionSettings,
    StoreOptions,
    TrunkKeywords,
    TrunkSettings,
    ViewSettings,
    declared_settings,
)

HEAD = declared_settings(HeadSettings, DeviceSettings, ViewSettings, SelectionSettings)
TRUNK = declared_settings(TrunkSettings)
FEATURES = declared_settings(FeatureSettings)
FINETUNE = declared_settings(FinetuneSettings)


def help_of(setting: DeclaredSetting, *, default: bool = True) -> str:
    """Return what --help says of a setting: what it does, its range, and its default."""
    notes = [setting.range] if setting.range else []
    if default and setting.default_text:
        notes.append(f"default: {setting.default_text}")
    return f"{setting.declaration.help}  [{'; '.join(notes)}]" if notes else setting.declaration.help


def declared_option(setting: DeclaredSetting) -> Any:
    """Return the type of a command's parameter: the option of one declared setting.

    Its default is None, which leaves the setting to the recipe.
    """
    kind: Any = list[setting.kind] if setting.declaration.repeated else setting.kind  # type: ignore[name-defined]
    names = f"{setting.option}/--no-{setting.option[2:]}" if setting.kind is bool else setting.option
    return Annotated[kind | None, typer.Option(names, help=help_of(setting))]


Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline", "-p", envvar="FEATCACHE_PIPELINE", help="A recipe: the path of a .toml file, or a name.",
        rich_help_panel=None,
    ),
]  # fmt: skip
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="The folder of images (<split>/<class>/…/image, or <class>/…/image), of Drive&Act, a table, or tar files.",
    ),
]
Folder = Annotated[str | None, typer.Argument(metavar="FOLDER", help="The data set: the same as --data.")]
Val = Annotated[
    float | None, typer.Option("--val", help="Where there is no val split: the share of the images that becomes it.")
]
Test = Annotated[
    float | None, typer.Option("--test", help="Where there is no test split: the share of the images that becomes it.")
]
SplitBy = Annotated[
    str | None,
    typer.Option(
        "--split-by",
        help="With --val or --test, what is never divided: subject, clip or image; by default the first of these that "
        "the images have.",
    ),
]
SplitSeed = Annotated[
    int | None,
    typer.Option(
        "--split-seed",
        help="With --val or --test: another seed, another division.  "
        f"[from {SPLIT_SEEDS.start} to {SPLIT_SEEDS[-1]:,}; default: {SPLIT_SEEDS.start}]",
    ),
]
Fold = Annotated[
    int | None,
    typer.Option("--fold", help="The fold: of Drive&Act the published one, 0, 1 or 2; of a table with folds any."),
]
View = Annotated[str | None, typer.Option("--view", help="Of Drive&Act: the camera, such as kinect_color.")]
Stride = Annotated[int | None, typer.Option("--stride", help="Of Drive&Act: take every Nth frame of a chunk only.")]
Level = Annotated[
    str | None,
    typer.Option("--level", help="Of Drive&Act: which annotations, midlevel (activities), tasklevel or objectlevel."),
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Of Drive&Act: the column to predict, where a level has several: --target object."),
]
Folds = Annotated[
    str | None,
    typer.Option("--folds", help="Several folds, one after the other, such as 0,1,2: of Drive&Act, or of a table."),
]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="The cache: a folder, or s3://, gs:// or az://BUCKET/PREFIX.  [env: FEATCACHE_CACHE; default: cache]",
    ),
]
LocalCache = Annotated[
    str | None,
    typer.Option(
        "--local-cache",
        help="Of a cache in an object store: a folder that keeps copies of what is read.  [env: FEATCACHE_LOCAL_CACHE]",
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="The data set's name in the cache; by default that of its folder.")
]
Store = Annotated[str | None, typer.Option("--store", help="Which store: its name, or the start of its fingerprint.")]
Arch = Annotated[str | None, typer.Option("--arch", help=help_of(TRUNK["arch"], default=False))]
Layer = Annotated[
    str | None, typer.Option("--layer", help="Which of the layers that were extracted, such as cls, mean or pooled.")
]
Weights = Annotated[str | None, typer.Option("--weights", help=help_of(TRUNK["weights"], default=False))]
Precision = Annotated[str | None, typer.Option("--precision", help=help_of(TRUNK["precision"], default=False))]
Features = Annotated[str | None, typer.Option("--features", help=help_of(FEATURES["features"], default=False))]
HeadClass = Annotated[
    str | None,
    typer.Option(
        "--head-class",
        help="Of a head that is a module of your own: its class, package.module:Class, which is imported only so.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Where to compute.  [auto, cpu, cuda, cuda:N or mps]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Work on the nodes of a Ray cluster: auto (the one that this machine is a node of), local (this machine "
        "alone), or HOST:PORT of its head node.",
    ),
]
RayGpus = Annotated[
    float | None,
    typer.Option(
        "--ray-gpus",
        help="With --ray, the GPUs of each worker, or a share of one, such as 0.5; by default 1 where the cluster has "
        "any.",
    ),
]
RayCpus = Annotated[
    float | None,
    typer.Option("--ray-cpus", help="With --ray, the cores of each worker; by default an equal share of its node's."),
]
RayWorkers = Annotated[
    int | None,
    typer.Option("--ray-workers", help="With --ray, how many workers; by default one a GPU, else one a node."),
]
CheckSeconds = Annotated[
    float | None,
    typer.Option(
        "--check-seconds",
        help="Seconds that the check may take.  [above 0 to 86,400; default: 5, or a quarter of the training where "
        "that is more]",
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option("--head-name", help="A name of your own for the best head; every command takes it from now on."),
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Leave out the comparison with the convex optimum.")]

# A command's parameter of one of these types stands for the options that it is made of; see `expand_options`.
_DATA = {
    "pipeline": Pipeline, "data": Data, "cache": Cache, "local_cache": LocalCache, "name": Name,
    "val": Val, "test": Test, "split_by": SplitBy, "split_seed": SplitSeed,
    "fold": Fold, "view": View, "stride": Stride, "level": Level, "target": Target,
}  # fmt: skip
_STORE = {
    **_DATA, "store": Store, "arch": Arch, "layer": Layer, "weights": Weights, "precision": Precision,
    "features": Features,
}  # fmt: skip
_GROUPS: Mapping[Any, Mapping[str, Any]] = {
    DataOptions: _DATA,
    StoreOptions: _STORE,
    KeptHeadOptions: {**_STORE, "head_class": HeadClass},
    HeadKeywords: {name: declared_option(HEAD[name]) for name in HeadKeywords.__annotations__},
    TrunkKeywords: {name: declared_option(TRUNK[name]) for name in TrunkKeywords.__annotations__},
    FinetuneKeywords: {name: declared_option(FINETUNE[name]) for name in FinetuneKeywords.__annotations__},
}  # fmt: skip


def chosen_check_seconds(check_seconds: float | None, no_check: bool) -> float | str | None:
    """Return what the functions take for `--check-seconds` and `--no-check`."""
    if no_check:
        return None
    return "auto" if check_seconds is None else check_seconds


@dataclass(frozen=True, slots=True)
class Only:
    """Which options of a group a command has: `Annotated[HeadKeywords, Only(("epochs", "seed"))]`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WithFolder:
    """A group that also takes the data set as the command's argument: `Annotated[DataOptions, WithFolder()]`."""


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the same command with each parameter that stands for a group of options replaced by those options.

    typer reads the options from the signature. The command gets the values of a group as one dict.
    """
    parameters = inspect.signature(command).parameters
    groups = {
        name: options
        for name, parameter in parameters.items()
        if (options := _options_of(parameter.annotation)) is not None
    }
    if not groups:
        return command
    expanded: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            expanded += [
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
                for option, kind in groups[name].items()
            ]
        else:
            expanded.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**values: Any) -> None:
        collected = {name: {option: values.pop(option) for option in options} for name, options in groups.items()}
        for group in collected.values():
            _take_folder(group)
            _say_local_recipe(group)
            if "data" in group:
                remember_data_set(group)
        command(**collected, **values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return run


def _take_folder(group: dict[str, Any]) -> None:
    """Put the folder that stands behind a command in the place of --data."""
    folder = group.pop("folder", None)
    if folder is not None and group["data"] is not None:
        error = UsageError(f"the data set was given twice, as {folder} and as --data {group['data']}; give it once")
        raise error.correct("--data", None)
    if folder is not None:
        group["data"] = folder


def _say_local_recipe(group: Mapping[str, Any]) -> None:
    """Say on stderr that a featcache.toml lies in this folder and is read: nobody has typed it."""
    if "pipeline" in group and group["pipeline"] is None and os.path.lexists("featcache.toml"):
        replaced = "" if group["data"] is None else f" for {group['data']}"
        echo_stderr(f"note: using the recipe ./featcache.toml{replaced}")


def _options_of(annotation: Any) -> Mapping[str, Any] | None:
    """Return the options that a parameter's type stands for; None where it is no group."""
    group, *notes = get_args(annotation) if get_origin(annotation) is Annotated else [annotation]
    options = _GROUPS.get(group) if isinstance(group, type) else None
    if options is None:
        return None
    only = next((note for note in notes if isinstance(note, Only)), None)
    chosen = options if only is None else {name: options[name] for name in only.names}
    return {"folder": Folder, **chosen} if any(isinstance(note, WithFolder) for note in notes) else chosen
