"""`--help` on 80 columns: whole sentences, words for values, an example that can be typed; and shell completion."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from featcache.cli import COMMANDS
from featcache.cli.app import app
from featcache.cli.help import EXAMPLES, FIRST_STEPS

ROOT = Path(__file__).parents[2]
NAMES = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def help_of(*command):
    """The help of a command on 80 columns, in this process."""
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [*command, "--help"], prog_name="featcache", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_80_columns_and_nothing_is_cut(name):
    """No line is longer, no sentence ends in dots, no type of Python's stands for a value."""
    assert COMMANDS
    lines = help_of(*[name][: bool(name)]).splitlines()
    assert all(len(line) <= 80 for line in lines)
    body = [line for line in lines if "Usage:" not in line]
    assert [line for line in body if line.rstrip().endswith("...")] == []
    assert [line for line in body if "<str>" in line or "<float>" in line or "list[" in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example_that_the_command_takes(name):
    """The example stands on a line of its own, and its words are parsed without an error."""
    example = EXAMPLES[name]
    assert f"Example:  {example}" in help_of(name).splitlines()
    words = shlex.split(example)
    assert words[:2] == ["featcache", name]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words[2:])


def test_the_first_steps_are_commands():
    """What `featcache --help` proposes is parsed as it stands."""
    shown = help_of()
    for step in FIRST_STEPS:
        assert step in shown
        _, name, *words = shlex.split(step)
        typer.main.get_command(app).commands[name].make_context(name, words)  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_bash_completes_commands_and_options(tmp_path):
    """The script that --show-completion prints, sourced in bash, completes a command and an option."""
    (tmp_path / "featcache").write_text(
        f"#!{sys.executable}\nimport sys\nfrom featcache.__main__ import main\nsys.exit(main())\n"
    )
    (tmp_path / "featcache").chmod(0o755)
    script = """
    eval "$(_FEATCACHE_COMPLETE=source_bash featcache)"
    complete -p featcache
    COMP_WORDS=(featcache fit-h); COMP_CWORD=1; _featcache_completion featcache
    echo "${COMPREPLY[@]}"
    COMP_WORDS=(featcache fit-head --weight-); COMP_CWORD=2; _featcache_completion featcache
    echo "${COMPREPLY[@]}"
    """
    environment = {
        **os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    shown = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[1:] == ["fit-head", "--weight-decay"]
