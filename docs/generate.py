"""Write the parts of the documentation that are generated: `python docs/generate.py`, or `--check` to compare them.

A page has a generated part between `<!-- generated: NAME -->` and `<!-- /generated -->`; all else in it is written by
hand. What is generated comes from the declarations themselves: the command line from its commands, the recipe from its
pydantic models, the picture of the packages from their imports, the index of decisions from their titles.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from generated_packages import package_names, packages, picture_of_packages, python_names
from generated_settings import command_line, recipe
from markdown_table import table

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PICTURE = DOCS / "packages.svg"
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def main() -> int:
    """Write every generated part, or with --check name those that are not up to date.

    Returns:
        0 where everything is up to date, 1 where `--check` found something that is not.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in generated_files() if not path.is_file() or path.read_text("utf-8") != text]
    if check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs-generate`")
        return 1 if stale else 0
    for path, text in generated_files():
        path.write_text(text, "utf-8")
    return 0


def generated_files() -> Iterator[tuple[Path, str]]:
    """Yield each file with a generated part, with the text that it should have."""
    yield PICTURE, picture_of_packages()
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text("utf-8")
        if BLOCK.search(text):
            yield path, BLOCK.sub(lambda block: f"{block[1]}\n{PARTS[block[2]]()}\n\n{block[3]}", text)


def decisions() -> str:
    """Return a table of all decisions, and the list by which the site finds their pages."""
    paths = sorted((DOCS / "decisions").glob("[0-9][0-9][0-9]-*.md"))
    rows = [(path.name[:3], f"[{title_of(path)}]({path.name})") for path in paths]
    pages = "\n".join(path.stem for path in paths)
    return f"{table(('number', 'decision'), rows)}\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```"


def title_of(path: Path) -> str:
    """Return the title of a decision without its number."""
    first = path.read_text("utf-8").split("\n", 1)[0]
    return re.sub(r"^# *\d+:? *", "", first)


PARTS: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "recipe": recipe,
    "packages": packages,
    "package-names": package_names,
    "python-names": python_names,
    "decisions": decisions,
}

if __name__ == "__main__":
    sys.exit(main())
