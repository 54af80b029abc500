"""The forty first commands of the documentation: what each answers names the next command, and that one works."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Nano, Ran, write_images

PAGE = Path(__file__).parents[2] / "docs/first-commands.md"
TRUNK = "--arch vit_b_32 --weights random"  # on the page; here it is the small one
MOST_HELPS = 2  # answers that name no other command than --help

Type = Callable[[str], Ran]


def commands_of_page() -> list[tuple[str, int]]:
    """Each command of the page, in its order, with the exit code that it is shown to end with."""
    pairs = []
    for ends, block in re.findall(
        r"<!-- run: first; exit: ([\d ]+)[^>]*-->\n```console\n(.*?)```", PAGE.read_text(), re.DOTALL
    ):
        commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
        pairs += list(zip(commands, map(int, ends.split()), strict=True))
    return pairs


def next_command(ran: Ran) -> str:
    """The command that an answer names: behind `try:` or `next:`, else, of a refusal, the first in backticks."""
    named = re.findall(r"^(?:try|next): (featcache .*)$", ran.out, re.MULTILINE)
    quoted = re.findall(r"`(featcache [^`]+)`", ran.out) if ran.code else []
    return (named or quoted or [""])[0]


@pytest.fixture
def type_command(tmp_path: Path, nano: Nano) -> Iterator[Type]:
    """Type commands in a folder with `photos`, which has splits, and `flowers`, which has none."""
    splits = {"train": 12, "val": 6, "test": 6}
    write_images(tmp_path / "photos", {s: {"temple": n, "flower": n} for s, n in splits.items()}, kind="jpg")
    write_images(tmp_path, {"flowers": {"dahlia": 20, "roof": 20}}, kind="jpg")
    for folder in {path.parent for path in tmp_path.glob("*/**/*.jpg")}:
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"{number:03d}.jpg")  # as on the page
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEATCACHE_")}
    root = str(Path(__file__).parents[2])
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.forked"], cwd=tmp_path, env={**kept, "PYTHONPATH": root}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None

    def typed(command: str) -> Ran:
        flags = " ".join(nano.flags)
        needs_network = command.startswith("featcache extract") and not re.search("--weights|--help", command)
        server.stdin.write((f"{command} {flags}" if needs_network else command.replace(TRUNK, flags)) + "\n")
        server.stdin.flush()
        ran = json.loads(server.stdout.readline())
        return Ran(ran["code"], ran["text"], "")

    with server:  # leaving closes its stdin, which ends it
        yield typed


def test_the_next_command_of_each_answer_works(type_command: Type) -> None:
    """Every refusal names a command, and so does every `next:`; pasted, each of them ends with 0, few are --help."""
    helps = []
    worked = set()
    for command, code in commands_of_page():
        ran = type_command(command)
        assert (ran.code, "Traceback" in ran.out) == (code, False), f"{command}\n{ran.out}"
        following = next_command(ran)
        assert following or not code, f"{command}\n{ran.out}"
        if following and following not in worked:
            worked.add(following)
            pasted = type_command(following)
            assert pasted.code == 0, f"{command}\n{ran.out}\n{following}\n{pasted.out}"
            helps += [following] * following.endswith(" --help")
    assert len(helps) <= MOST_HELPS, helps


def test_the_page_has_forty_commands_half_of_them_wrong() -> None:
    """What a newcomer types wrongly has as much room as what works."""
    codes = [code for _, code in commands_of_page()]
    assert len(codes) >= 40
    assert sum(map(bool, codes)) >= 20
