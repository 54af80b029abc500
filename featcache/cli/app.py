"""The app that all commands belong to, and what becomes of an error: one message and an exit code."""

import contextlib
import errno
import functools
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

import featcache
from featcache.cli.corrections import error_text
from featcache.cli.help import CommandGroup, example_lines, name_values, write_parameters
from featcache.cli.options import expand_options
from featcache.cli.output import echo_stderr
from featcache.cli.typed_words import read_words, use_own_names
from featcache.cli.usage import superfluous_words, unknown_command, usage_error
from featcache.errors import FeatcacheError, MachineError, UsageError
from featcache.files import expand_home
from featcache.machine import limit_threads
from featcache.os_refusals import PROCESSES, can_start_threads, require_memory, translate_exhaustion, translate_refusal
from featcache.recipe import option_of

INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of SIGINT, of SIGTERM
_RESEND_SECONDS = 0.01
_STDOUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_TYPED: ContextVar[frozenset[str]] = ContextVar("options that were typed", default=frozenset())


class _Group(CommandGroup):
    """The app: what is wrong with a command line is said as other errors are, with the command to type instead."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that was typed; one that there is not is refused with the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown_command(args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line, and end with its code."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except FeatcacheError as error:  # of the parser; a command's own ended it already
            _echo_error(error)
            code = error.exit_code
        except typer.TyperException as error:
            error.show()  # type: ignore[attr-defined]
            code = error.exit_code
        except typer.Abort:
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.",
)


class _Command(TyperCommand):
    """A command that takes an option once, and remembers which options were typed.

    A name that other tools have for an option stands for it (`--learning-rate` for `--lr`), and several numbers of an
    option that may be repeated can stand behind one comma: `--lr 0.01,0.03`.
    """

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        name_values(self.params)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words of the command line; what the command does not take is refused in our words."""
        words = read_words(args, self)
        ctx.allow_extra_args = True  # they are refused here
        try:
            extra: list[str] = super().parse_args(ctx, [*words])
        except typer.TyperException as error:
            raise usage_error(error, self, ctx, words) from None
        if extra and not ctx.resilient_parsing:
            raise superfluous_words(extra, self, ctx)
        return extra

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options."""
        write_parameters(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write an example of the command under its options."""
        for line in example_lines(self.name):
            formatter.write_paragraph()
            formatter.write(f"{line}\n")

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser, which refuses an option that was typed twice: the first one would count for nothing."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(use_own_names(args, {name for option in self.params for name in option.opts}))
            options: list[Any] = [parameter for parameter in order if parameter.param_type_name == "option"]
            for option in options:
                repeatable = option.multiple or (option.is_flag and not option.secondary_opts)
                if options.count(option) > 1 and not repeatable:
                    ctx.fail(f"{option.opts[0]} was given {options.count(option)} times; give it once")
                if values.get(option.name) == "":
                    ctx.fail(f"{option.opts[0]} is empty: give it a value, or leave it out")
                if option.multiple and get_args(option.type_descriptor.annotation) in ((float,), (int,)):
                    values[option.name] = [number for text in values[option.name] for number in text.split(",")]
            _TYPED.set(frozenset(str(option.name) for option in options))
            return values, rest, order

        parser.parse_args = parse_once
        return parser


def refuse_unused(options: Collection[str], why: str) -> None:
    """Refuse options that were typed and have no effect; those of a recipe or the environment are not meant.

    Raises:
        UsageError: one of them was typed.
    """
    typed = [option_of(name) for name in options if name in _TYPED.get()]
    if typed:
        verb = "has" if len(typed) == 1 else "have"
        error = UsageError(f"{' and '.join(typed)} {verb} no effect {why}")
        for option in typed:
            error = error.correct(option, None)
        raise error


def main() -> None:
    """Run the command that was typed: the console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: `featcache info >&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (it lives as long as we do)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows escapes instead of failing
    limit_threads()
    _resend_lost_interrupts()
    try:
        app(prog_name="featcache")
    except OSError as error:  # --help and --version, which no command wraps
        echo_stderr(f"error: {translate_exhaustion(error) or f'the output cannot be written: {error.strerror}'}")
        os._exit(5)


def _echo_error(error: FeatcacheError) -> None:
    """Print an error on stderr, with the command that comes next."""
    names = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    echo_stderr(error_text(error, use_own_names(sys.argv[1:], ()), names))


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of the app: its groups of options are expanded, and its errors become exit codes."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, cls=_Command)(_exit_with_code(expand_options(function)))
        return function

    return register


def _exit_with_code(command: Callable[..., None]) -> Callable[..., None]:
    """Turn an exception into one message on stderr and an exit code; a traceback is for FEATCACHE_DEBUG."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        received = _interrupt_on_signals()
        try:
            with warnings.catch_warnings():  # an engine that failed, memory that ran out
                warnings.showwarning = _show_each_warning_once()
                require_memory()
                command(*args, **{name: _with_home(value) for name, value in kwargs.items()})
            sys.stdout.flush()
        except KeyboardInterrupt:
            if not can_start_threads():  # OpenBLAS sends itself a Ctrl-C where it cannot
                echo_stderr(f"error: {PROCESSES}")
                raise typer.Exit(MachineError.exit_code) from None
            safe = "; what was committed is safe, and the same command continues from there"
            echo_stderr("interrupted" + (safe if command.__name__ in ("extract", "finetune") else ""))
            raise typer.Exit(TERMINATED if signal.SIGTERM in received else INTERRUPTED) from None
        except FeatcacheError as error:
            cause = error if isinstance(error, MachineError) else translate_exhaustion(error) or error
            _echo_error(cause)
            raise typer.Exit(cause.exit_code) from None
        except BrokenPipeError:  # `featcache report | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _STDOUT_ERRORS and error.filename is None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                echo_stderr(f"error: the output cannot be written: {error.strerror}")
                raise typer.Exit(5) from None
            if os.environ.get("FEATCACHE_DEBUG"):
                traceback.print_exc()
            if (refused := translate_refusal(error)) is not None:
                echo_stderr(f"error: {refused}")
                raise typer.Exit(refused.exit_code) from None
            echo_stderr(
                f"error: {type(error).__name__}: {error}\nThis is a bug in featcache, not a mistake of yours; "
                f"what was committed is safe. FEATCACHE_DEBUG=1 shows where it happened."
            )
            raise typer.Exit(1) from None

    return run


def _interrupt_on_signals() -> list[int]:
    """Make a batch system's end, and that of a terminal, the interruption that Ctrl-C is; return which ones came."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    for ending in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # not in the main thread
            if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup
                signal.signal(ending, interrupt)
    return received


def _resend_lost_interrupts() -> None:
    """Interrupt again where an interruption fell into a destructor or a callback, in which Python drops exceptions."""
    shown = sys.unraisablehook

    def resend(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, _RESEND_SECONDS)  # not here: it would be dropped once more
        else:
            shown(dropped)

    sys.unraisablehook = resend


def _with_home(value: Any) -> Any:
    """Return the path of a file to write with its tilde expanded: no shell does it in `--csv=~/x.csv`."""
    return Path(expand_home(value)) if isinstance(value, Path) else value


def _show_each_warning_once() -> Callable[..., None]:
    """Return a function for `warnings.showwarning` that prints the text alone, and each text once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            echo_stderr(f"warning: {message}")

    return show


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"featcache {featcache.__version__}")
        raise typer.Exit
