"""What all commands share: the app, the options, how what goes wrong is told, and how things are printed."""

import contextlib
import errno
import functools
import inspect
import io
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import featcache
from featcache.errors import FeatcacheError, MachineError, UsageError
from featcache.files import expand_home
from featcache.machine import limit_threads
from featcache.os_refusals import PROCESSES, can_start_threads, exhaustion, refusal, require_memory
from featcache.recipe import Stored, Where

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
_OF_STDOUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_TYPED: ContextVar[frozenset[str]] = ContextVar("options that were typed", default=frozenset())
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.",
)

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
Store = Annotated[str | None, typer.Option("--store", help="One store, where several hold this data set.")]
Weights = Annotated[
    str | None, typer.Option("--weights", help="A published name, a .pth or .safetensors file, or random.")
]
Precision = Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]

# A command's parameter of one of these types stands for the options that it is made of; see `command`.
_WHERE = {"pipeline": Pipeline, "data": Data, "cache": Cache, "name": Name}
_GROUPS: dict[Any, dict[str, Any]] = {
    Where: _WHERE,
    Stored: {**_WHERE, "store": Store, "weights": Weights, "precision": Precision},
}


class _Command(TyperCommand):
    """A command that takes an option once, and remembers which options were typed."""

    def make_parser(self, ctx: Any) -> Any:
        """The parser, which refuses an option that stands there twice: the first one would count for nothing."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args)
            options: list[Any] = [parameter for parameter in order if parameter.param_type_name == "option"]
            for option in options:
                several = option.multiple or (option.is_flag and not option.secondary_opts)
                if options.count(option) > 1 and not several:
                    ctx.fail(f"{option.opts[0]} was given {options.count(option)} times; give it once")
                if values.get(option.name) == "":
                    ctx.fail(f"{option.opts[0]} is empty: give it a value, or leave it out")
            _TYPED.set(frozenset(str(option.name) for option in options))
            return values, rest, order

        parser.parse_args = parse_once
        return parser


def refuse_unused(options: Collection[str], why: str) -> None:
    """Refuse options that were typed and have no effect; those of a recipe or the environment are not meant.

    Raises:
        UsageError: one of them was typed.
    """
    typed = [f"--{name.replace('_', '-')}" for name in options if name in _TYPED.get()]
    if typed:
        verb = "has" if len(typed) == 1 else "have"
        raise UsageError(f"{' and '.join(typed)} {verb} no effect {why}")


def main() -> None:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: `featcache info >&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (it lives as long as we do)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows escapes instead of failing
    limit_threads()
    try:
        app(prog_name="featcache")
    except OSError as error:  # --help and --version, which no command wraps
        complain(f"error: {exhaustion(error) or f'the output cannot be written: {error.strerror}'}")
        os._exit(5)


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of the app; what goes wrong in it is told, and its `where` becomes flags."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, cls=_Command)(_with_flags(_told(function)))
        return function

    return register


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with a parameter of type `Where` or `Stored` laid out as its flags, where it stands."""
    taken = inspect.signature(command).parameters
    group = next((name for name, one in taken.items() if one.annotation in _GROUPS), None)
    if group is None:
        return command
    flags = _GROUPS[taken[group].annotation]
    laid_out: list[inspect.Parameter] = []
    for name, one in taken.items():
        if name == group:
            keyword = inspect.Parameter.KEYWORD_ONLY
            laid_out += [
                inspect.Parameter(flag, keyword, default=None, annotation=kind) for flag, kind in flags.items()
            ]
        else:
            laid_out.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        command(**{group: {flag: given.pop(flag) for flag in flags}}, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {one.name: one.annotation for one in laid_out}
    run.__signature__ = inspect.Signature(laid_out)  # type: ignore[attr-defined]
    return run


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what goes wrong into one message on stderr and an exit code; a traceback is for FEATCACHE_DEBUG."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        for ending in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not in the main thread
                if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup
                    signal.signal(ending, signal.default_int_handler)  # a batch system's end is a Ctrl-C
        try:
            with warnings.catch_warnings():  # an engine that failed, memory that ran out
                warnings.showwarning = _tell_once()
                require_memory()
                command(*args, **{name: _expanded(value) for name, value in kwargs.items()})
            sys.stdout.flush()
        except KeyboardInterrupt:
            if not can_start_threads():  # OpenBLAS sends itself a Ctrl-C where it cannot
                complain(f"error: {PROCESSES}")
                raise typer.Exit(MachineError.exit_code) from None
            safe = "; what was committed is safe, and the same command goes on from there"
            complain("interrupted" + (safe if command.__name__ == "extract" else ""))
            raise typer.Exit(INTERRUPTED) from None
        except FeatcacheError as error:
            behind = error if isinstance(error, MachineError) else exhaustion(error) or error
            complain(f"error: {behind}")
            raise typer.Exit(behind.exit_code) from None
        except BrokenPipeError:  # `featcache report | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OF_STDOUT and error.filename is None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                complain(f"error: the output cannot be written: {error.strerror}")
                raise typer.Exit(5) from None
            if os.environ.get("FEATCACHE_DEBUG"):
                traceback.print_exc()
            if (refused := refusal(error)) is not None:
                complain(f"error: {refused}")
                raise typer.Exit(refused.exit_code) from None
            complain(
                f"error: {type(error).__name__}: {error}\nThis is a bug in featcache, not a mistake of yours; "
                f"what was committed is safe. FEATCACHE_DEBUG=1 shows where it happened."
            )
            raise typer.Exit(1) from None

    return run


def _expanded(value: Any) -> Any:
    """A file that a command is to write: no shell expands the tilde of `--csv=~/x.csv`."""
    return Path(expand_home(value)) if isinstance(value, Path) else value


def _tell_once() -> Callable[..., None]:
    """For `warnings.showwarning`: the text alone, and each but once."""
    told: set[str] = set()

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in told:
            told.add(str(message))
            complain(f"warning: {message}")

    return tell


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(f"featcache {featcache.__version__}")
        raise typer.Exit


def console(*, stderr: bool = False) -> "Console":
    """Where tables and progress are drawn."""
    from featcache.report import Plain

    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """A line, or several, on stdout."""
    from featcache.report import printable

    print("\n".join(printable(line) for line in text.split("\n")))


def complain(text: str) -> None:
    """A line, or several, on stderr."""
    try:
        from featcache.report import printable
    except (ImportError, MemoryError, OSError):  # where nothing more can be opened or held, only what is plain is shown

        def printable(name: str) -> str:
            return ascii(name)[1:-1]

    with contextlib.suppress(OSError):  # nobody listens; the exit code says it too
        for line in text.split("\n"):
            print(printable(line), file=sys.stderr)


def print_json(document: Any) -> None:
    """The one document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def short(path: Path) -> str:
    """A path as a person would type it here."""
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
