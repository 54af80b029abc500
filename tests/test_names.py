"""Names in the package: one name has one meaning."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1] / "featcache"


def class_names() -> dict[str, list[str]]:
    """Return where each class of the package is defined, by its name."""
    places = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return places


def test_no_class_name_stands_twice() -> None:
    """Two classes of one name, in whatever packages, are told apart by nobody."""
    twice = {name: places for name, places in class_names().items() if len(places) > 1}
    assert twice == {}
