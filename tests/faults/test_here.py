"""All of them are here."""

import ast
from pathlib import Path

import pytest

from tests.faults.catalogue import ELSEWHERE, FAULTS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def numbered() -> dict[int, list[str]]:
    """Fault -> tests of this folder that name it."""
    found: dict[int, list[str]] = {}
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                        for number in mark.args:
                            found.setdefault(ast.literal_eval(number), []).append(node.name)
    return found


def test_every_fault_has_a_test_here():
    """1 to the last, none left out and none beside."""
    assert sorted(FAULTS) == list(range(1, len(FAULTS) + 1))
    assert sorted(numbered()) == sorted(FAULTS)


@pytest.mark.parametrize("test", sorted(test for tests in ELSEWHERE.values() for test in tests))
def test_what_is_counted_elsewhere_is_there(test):
    """Every test that the catalogue names exists."""
    path, _, name = test.partition("::")
    defined = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in defined
