"""The README is short, and what it says is true: its links lead somewhere, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

from featcache.cli.digits import write_digits
from tests.conftest import Nano

README = Path(__file__).parents[1] / "README.md"


def test_it_is_short() -> None:
    """The README has at most 150 lines; the rest is in docs/."""
    assert len(README.read_text().splitlines()) <= 150


def test_its_links_lead_somewhere() -> None:
    """Every link to a file of the repository names one, and every anchor a heading of it."""
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        path, _, anchor = target.partition("#")
        assert (README.parent / path).is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (README.parent / path).read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


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
