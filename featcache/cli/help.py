"""What --help shows beside the options: an example of each command, and short words for the values of options."""

import typing
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from typer.core import TyperGroup

# One command that can be typed as it is, by the name of its command; `tests/end_to_end/test_help.py` parses each.
EXAMPLES: Mapping[str, str] = {
    "init": "featcache init photos",
    "data": "featcache data --data photos",
    "extract": "featcache extract --data photos",
    "fit-head": "featcache fit-head --data photos --lr 0.03 --head-name first",
    "report": "featcache report best --data photos --html report.html",
    "search": "featcache search --data photos --trials 50",
    "finetune": "featcache finetune --data photos --from head best --unfreeze 2",
    "fit": "featcache fit logreg C=0.01,0.1,1,10 --data photos",
    "compare": "featcache compare --data photos --split test",
    "predict": "featcache predict best new.jpg other.jpg --data photos",
    "export-model": "featcache export-model best --to model.pt --data photos",
    "info": "featcache info --data photos",
    "trunks": "featcache trunks resnet50",
    "verify": "featcache verify --quick",
    "repair": "featcache repair --dry-run",
    "gc": "featcache gc --apply",
    "copy": "featcache copy cache s3://my-bucket/features",
    "export": "featcache export test --to test.npz --data photos",
    "demo": "featcache demo",
}
FIRST_STEPS = (
    "featcache extract --data photos",
    "featcache fit-head --data photos",
    "featcache report --data photos --html page.html",
)
_WORDS = {float: "NUMBER", int: "N", Path: "FILE", str: "TEXT"}


def example_lines(name: str | None) -> list[str]:
    """Return the lines of --help that show a command at work; none where it has no example."""
    example = EXAMPLES.get(name or "")
    return [f"Example:  {example}"] if example else []


def name_values(parameters: list[Any]) -> None:
    """Give each parameter a word for its value: `--lr NUMBER` where typer would write `--lr <list[float]>`."""
    for parameter in parameters:
        if parameter.metavar is not None:
            continue
        if parameter.param_type_name == "argument":
            parameter.metavar = parameter.name.upper()
        elif not parameter.is_flag:
            parameter.metavar = _word(parameter.type_descriptor.annotation)


def write_parameters(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    """Write the arguments and the options of a command; of an argument, not its type in Python."""
    records = [(parameter.param_type_name, parameter.get_help_record(ctx)) for parameter in parameters]
    arguments = [
        (name.partition(" <")[0], text) for kind, record in records if record and kind == "argument"
        for name, text in [record]
    ]  # fmt: skip
    options = [record for kind, record in records if record and kind == "option"]
    for title, rows in (("Arguments", arguments), ("Options", options)):
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _word(annotation: Any) -> str:
    inner = [kind for kind in typing.get_args(annotation) if kind is not NoneType]
    return _word(inner[0]) if inner else _WORDS.get(annotation, "TEXT")


class CommandGroup(TyperGroup):
    """The app, whose --help shows the description of each command whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every command with the first paragraph of its help, over as many lines as it takes."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, " ".join((command.help or "").split("\n\n")[0].split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write the three commands that a first experiment takes, and how to read on."""
        with formatter.section("First steps"):
            for line in FIRST_STEPS:
                formatter.write(f"  {line}\n")
        formatter.write_paragraph()
        formatter.write_text("`featcache COMMAND --help` shows the options of a command, with an example.")
