"""The README says what is true: its commands exist, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from featcache.cli.digits import write_digits
from tests.conftest import Nano

README = Path(__file__).parents[1] / "README.md"
DOCS = [README, *sorted(README.parent.glob("docs/*.md"))]


def _commands() -> list[list[str]]:
    found = re.findall(r"^\$? ?featcache ([a-z][^\n#]*)", "\n".join(path.read_text() for path in DOCS), re.MULTILINE)
    return [line.split() for line in dict.fromkeys(found)]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_command_in_the_docs_exists(words: list[str]) -> None:
    """A command that README or docs show is one that featcache has, with the flags that are shown."""
    told = subprocess.run(
        [sys.executable, "-m", "featcache", words[0], "--help"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    for flag in (word for word in words[1:] if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(flag)}\b", told.stdout, re.MULTILINE), flag


def test_any_other_classifier_in_five_lines(nano: Nano, tmp_path: Path) -> None:
    """The README's nearest-neighbour classifier runs on the demo's images as it stands there, and is no coin."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code = next(block for block in blocks if "KNeighborsClassifier" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    write_digits(tmp_path / "data" / "digits")
    subprocess.run(
        [sys.executable, "-m", "featcache", "extract", "--pipeline", "digits", *nano.flags],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    share, rows = re.fullmatch(r"([\d.]+)% of (\d+) test images\n", ran.stdout).groups()  # type: ignore[union-attr]
    assert int(rows) == 100
    assert float(share) > 30  # ten classes
