"""What is typed against a command's signature: unknown options, missing or superfluous words, wrong types."""

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any, get_args

import typer

from featcache.arguments import nearest_name
from featcache.cli.typed_folder import is_data_folder, typed_root
from featcache.cli.typed_words import typed_value
from featcache.errors import FeatcacheError, UsageError

_COMMANDS = {  # what other tools call it, or what it is about
    "train": "fit-head", "fit_head": "fit-head", "probe": "fit-head", "embed": "extract", "encode": "extract",
    "features": "extract", "evaluate": "report", "eval": "report", "test": "report", "score": "report",
    "results": "report", "list": "compare", "ls": "compare", "heads": "compare", "sweep": "search", "tune": "search",
    "classify": "predict", "infer": "predict", "convert": "export-model", "export_model": "export-model",
    "check": "verify", "status": "info", "new": "init", "clean": "gc", "prune": "gc",
}  # fmt: skip
_EXAMPLES = {"val": "0.15", "test": "0.15", "fold": "0", "top": "5", "trials": "50", "workers": "2", "jobs": "2"}
_FILES = {"export": "test.npz", "export-model": "model.pt"}  # for --to
_FIRST_WORDS = {"fit": "logreg", "export": "test"}  # for an argument that was left out
_NOUNS = {float: "a number", int: "a whole number"}


def unknown_command(name: str, names: Sequence[str]) -> UsageError:
    """Return the error that there is no command of this name, with the one that is meant, or all.

    Args:
        name: As it was typed.
        names: Those of all commands.
    """
    meant = _COMMANDS.get(name.lower()) or nearest_name(name, names) or _fit_of(name)
    if meant is None:
        return UsageError(f"there is no command {name!r}; expected {', '.join(names)}")
    return UsageError(f"there is no command {name!r}; did you mean {meant}?").correct(name, meant)


def _fit_of(name: str) -> str | None:
    """Return the command that fits a classifier of this name, or of nearly this one; None where there is none."""
    from featcache.heads.classifiers import nearest_classifier

    classifier = nearest_classifier(name)
    return None if classifier is None else f"fit {classifier}"


def usage_error(error: typer.TyperException, command: Any, ctx: Any, words: Sequence[str]) -> FeatcacheError:
    """Return what is wrong with a command line, in our words.

    Args:
        error: As typer's parser raised it.
        command: The command that was typed.
        ctx: Its context.
        words: Those behind the command.
    """
    parameter = getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        return _unknown_option(str(getattr(error, "option_name", "")), command, ctx, words)
    if parameter is not None and hasattr(error, "param_type"):
        return _missing(parameter, command, words)
    if parameter is not None:
        return _bad_value(parameter, words, error.message)
    if match := re.fullmatch(r"Option '(.*)' requires an argument", error.message.rstrip(".")):
        return UsageError(f"{match[1]} needs a value behind it: type one, or leave {match[1]} out")
    return UsageError(error.message.rstrip("."))


def superfluous_words(extra: Sequence[str], command: Any, ctx: Any) -> UsageError:
    """Return the error that a command takes fewer words, with the option that one of them may belong to.

    Args:
        extra: The words that the command has no argument for.
        command: The command that was typed.
        ctx: Its context, with the arguments that were taken.
    """
    shown = ", ".join(map(repr, extra))
    head = ctx.params.get("head")
    if command.name == "report" and len(extra) == 1 and head is not None and "--data" not in ctx.args:
        return _two_words_of_report(str(head), extra[0])
    arguments = [parameter.metavar for parameter in command.params if parameter.param_type_name == "argument"]
    takes = f"{' and '.join(arguments)} and options" if arguments else "options"
    error = UsageError(f"{command.name} takes {takes} alone, found {shown} too".replace("FOLDER", "one folder"))
    for word in extra:
        error = error.correct(word, None)
    return error


def _two_words_of_report(head: str, other: str) -> UsageError:
    for folder in (head, other):
        if is_data_folder(folder):
            return (
                UsageError(f"{folder!r} is a folder: beside a head, report takes the data set behind --data")
                .correct(folder, None)
                .correct("--data", folder)
            )
    error = UsageError(f"report takes one head, found {head!r} and {other!r}; the second one goes behind --against")
    return error.correct(other, None).correct("--against", other)


def _unknown_option(option: str, command: Any, ctx: Any, words: Sequence[str]) -> UsageError:
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    others = [
        name
        for name, other in (ctx.parent.command.commands if ctx.parent else {}).items()
        if any(option in parameter.opts for parameter in other.params)
    ]
    if option == "--folds" and others:
        fold = typed_value(option, words).partition(",")[0]
        return (
            UsageError(
                f"{command.name} has no --folds: name one fold at a time with --fold ({_several(others)} take it)"
            )
            .correct(option, None)
            .correct("--fold", fold if fold.isdecimal() else "0")
        )
    if command.name == "copy" and option == "--cache":
        return _cache_of_copy(words)
    arguments = {parameter.name for parameter in command.params if parameter.param_type_name == "argument"}
    if option[2:] in arguments:
        return UsageError(f"{option}: no option names the {option[2:]}; type it behind the command").correct(option, "")
    if others and option.startswith("--"):
        error = UsageError(f"{command.name} has no option {option}; it is one of {_several(others)}")
        return error.correct(option, None)
    names = {name[2:] for name in own if name.startswith("--")}
    close = nearest_name(option[2:], sorted(names))
    if close is not None and option.startswith("--"):
        return UsageError(f"{command.name} has no option {option}; did you mean --{close}?").correct(
            option, f"--{close}"
        )
    return UsageError(f"{command.name} has no option {option}")


def _cache_of_copy(words: Sequence[str]) -> UsageError:
    """Return the error that copy takes no --cache: what was typed for it is its first word."""
    value = typed_value("--cache", words)
    error = UsageError("copy has no option --cache: the cache is its first word, and its copy the second")
    error = error.correct("--cache", None)
    has_both = len([word for word in words if not word.startswith("-")]) - words.count("--cache") > 1
    return error if has_both or not value else error.correct("copy", f"copy {shlex.quote(value)}")


def _missing(parameter: Any, command: Any, words: Sequence[str]) -> UsageError:
    """Return the error that an argument or an option was left out, with a command line that has it."""
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
    if command.name == "predict":
        error = _missing_of_predict(words)
    elif parameter.param_type_name == "option":
        error = UsageError(f"{command.name} needs {name}: the file to write").correct(name, _FILES[command.name])
    else:
        error = UsageError(f"{command.name} needs {name.strip('{}')} behind it")
        if command.name in _FIRST_WORDS:
            error = error.correct(command.name, f"{command.name} {_FIRST_WORDS[command.name]}")
    return _with_data_set(error, words) if error.corrections else error


def _missing_of_predict(words: Sequence[str]) -> UsageError:
    first = next(iter(words), "")
    if first and (os.path.exists(first) or "." in os.path.basename(first)):
        return UsageError(f"predict needs a head and images: {first!r} was typed alone, without a head").correct(
            first, f"best {shlex.quote(first)}"
        )
    return UsageError("predict needs a head and images, such as: featcache predict best new.jpg")


def _with_data_set(error: UsageError, words: Sequence[str]) -> UsageError:
    """Return the error with --data added to its command line, where none is typed: the data set of the images that
    are named, else the only one of the cache.
    """
    from featcache.recipe import has_local_recipe

    if has_local_recipe() or {"--data", "--pipeline", "-p"} & {word.partition("=")[0] for word in words}:
        return error
    from featcache.dataset import DatasetRequest

    try:
        roots = list(DatasetRequest(cache=typed_value("--cache", words) or None).data_sets().values())
    except FeatcacheError:
        return error
    above = {os.path.abspath(word) for word in words if os.path.exists(word)} | {w for w in words if "://" in w}
    holding = [root for root in roots if any(path.startswith(os.path.join(root, "")) for path in above)]
    meant = holding or roots
    return error.correct("--data", typed_root(meant[0])) if len(meant) == 1 else error


def _bad_value(parameter: Any, words: Sequence[str], reason: str) -> UsageError:
    """Return the error that a value is none of its option's type, with a value that is."""
    option = parameter.opts[0]
    kinds = get_args(parameter.type_descriptor.annotation) or (parameter.type_descriptor.annotation,)
    kind = next((kind for kind in kinds if kind in _NOUNS), None)
    if parameter.param_type_name != "option" or kind is None:
        return UsageError(f"{option}: {reason[0].lower()}{reason[1:].rstrip('.')}")
    value = typed_value(option, words)
    right = _as_number(value, kind) or _EXAMPLES.get(parameter.name) or _default_of(parameter)
    error = UsageError(f"{option}: found {value!r}, expected {_NOUNS[kind]}")
    return error.correct(option, right) if right else error


def _as_number(text: str, kind: type) -> str:
    """Return the number that a text means: "0.2" for "20%" and for "0,2"; "" where that cannot be told."""
    try:
        if text.endswith("%"):
            return f"{float(text[:-1]) / 100:g}"
        number = float(text.replace(",", "."))
    except ValueError:
        return ""
    return f"{number:g}" if kind is float else f"{number:.0f}"


def _default_of(parameter: Any) -> str:
    """Return the default that an option's help states, a number; "" where it states none."""
    match = re.search(r"; default: ([0-9.e+-]+)\]$", getattr(parameter, "help", None) or "")
    return "" if match is None else match[1]


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
