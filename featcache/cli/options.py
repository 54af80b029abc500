"""The options of the command line: those that commands share, and those that a declaration in the recipe stands for."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import typer

from featcache.recipe import (
    DataOptions,
    DeclaredSetting,
    HeadKeywords,
    HeadSettings,
    SelectionSettings,
    StoreOptions,
    TrunkKeywords,
    TrunkSettings,
    declared_settings,
)

HEAD = declared_settings(HeadSettings, SelectionSettings)
TRUNK = declared_settings(TrunkSettings)


def help_of(setting: DeclaredSetting, *, default: bool = True) -> str:
    """Return what --help says of a setting: what it does, its range, and its default."""
    notes = [setting.range] if setting.range else []
    if default and setting.default is not None:
        value = str(setting.default)
        notes.append(f"default: {value.lower() if setting.kind is bool else value}")
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
Data = Annotated[str | None, typer.Option("--data", help="The folder of images: <root>/<split>/<class>/…/image.")]
Cache = Annotated[str | None, typer.Option("--cache", help="The cache folder.  [env: FEATCACHE_CACHE; default: cache]")]
Name = Annotated[str | None, typer.Option("--name", help="The data set's name in the cache.")]
Store = Annotated[str | None, typer.Option("--store", help="Which store: its name, or the start of its fingerprint.")]
Arch = Annotated[str | None, typer.Option("--arch", help=help_of(TRUNK["arch"], default=False))]
Weights = Annotated[str | None, typer.Option("--weights", help=help_of(TRUNK["weights"], default=False))]
Precision = Annotated[str | None, typer.Option("--precision", help=help_of(TRUNK["precision"], default=False))]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
CheckSeconds = Annotated[
    float | None,
    typer.Option(
        "--check-seconds",
        help="Seconds that the check may take.  [default: 5, or a quarter of the training where that is more]",
    ),
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Leave out the comparison with the convex optimum.")]

# A command's parameter of one of these types stands for the options that it is made of; see `expand_options`.
_DATA = {"pipeline": Pipeline, "data": Data, "cache": Cache, "name": Name}
_GROUPS: Mapping[Any, Mapping[str, Any]] = {
    DataOptions: _DATA,
    StoreOptions: {**_DATA, "store": Store, "weights": Weights, "precision": Precision},
    HeadKeywords: {name: declared_option(HEAD[name]) for name in HeadKeywords.__annotations__},
    TrunkKeywords: {name: declared_option(TRUNK[name]) for name in TrunkKeywords.__annotations__},
}


def chosen_check_seconds(check_seconds: float | None, no_check: bool) -> float | str | None:
    """Return what the functions take for `--check-seconds` and `--no-check`."""
    if no_check:
        return None
    return "auto" if check_seconds is None else check_seconds


@dataclass(frozen=True, slots=True)
class Only:
    """Which options of a group a command has: `Annotated[HeadKeywords, Only(("epochs", "seed"))]`."""

    names: tuple[str, ...]


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
        command(**collected, **values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return run


def _options_of(annotation: Any) -> Mapping[str, Any] | None:
    """Return the options that a parameter's type stands for; None where it is no group."""
    group, *notes = get_args(annotation) if get_origin(annotation) is Annotated else [annotation]
    options = _GROUPS.get(group) if isinstance(group, type) else None
    only = next((note for note in notes if isinstance(note, Only)), None)
    return options if options is None or only is None else {name: options[name] for name in only.names}
