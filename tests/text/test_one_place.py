"""Figures and counts are written by `featcache.text`, and by nothing beside it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "featcache"
ELSEWHERE = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "text" / "figures.py")
PLACEHOLDER = re.compile(r"\{[^{}]*\} ?%|%[.\d]*[dfg] ?%%")  # of str.format, or of the % operator
PAGE = ROOT / "report" / "page"


def percents(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that write a share in per cent: `{x:.1%}`, `{x} %`, `"{:.1f} %".format(x)`, `{100 * x:.1f}`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for part, after in zip(node.values, [*node.values[1:], ast.Constant("")], strict=True):
                if isinstance(part, ast.FormattedValue):
                    written = ast.unparse(part.format_spec) if part.format_spec else ""
                    sign = isinstance(after, ast.Constant) and re.match(" ?%", str(after.value))
                    if "%" in written or sign or _is_hundredfold(part.value):
                        yield part.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PLACEHOLDER.search(node.value):
            yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            yield from (argument.lineno for argument in node.args if _is_hundredfold(argument))


def _is_hundredfold(value: ast.expr) -> bool:
    if not (isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult)):
        return False
    return any(isinstance(side, ast.Constant) and side.value == 100 for side in (value.left, value.right))


def dashes(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that have a dash of their own for what is undefined."""
    yield from (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in ("–", "—"))


def counts(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that make a plural: `"1 row" if n == 1 else …`, `noun + "s"`, `"s" * (n > 1)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.IfExp):
            branches = [_start(node.body), _start(node.orelse)]
            if any(text.startswith("1 ") for text in branches) or {"s", "es"} & set(branches):
                yield node.lineno
        elif isinstance(node, ast.BinOp) and {"s", "es"} & {_start(node.left), _start(node.right)}:
            yield node.lineno


def _start(value: ast.expr) -> str:
    first = value.values[0] if isinstance(value, ast.JoinedStr) and value.values else value
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


WAYS = [
    *((percents, code) for code in ('f"{x:.1%}"', 'f"{x:.0f} %"', '"{:.1f} %".format(x)', '"%.1f %%" % x')),
    *((percents, code) for code in ('f"{100 * x:.1f}"', '"{:.1f}".format(x * 100)')),
    *((dashes, code) for code in ('"–"', 'f"{x}" or "—"')),
    *((counts, code) for code in ('"1 row" if n == 1 else f"{n} rows"', "f\"{n} row{'s' if n != 1 else ''}\"")),
    *((counts, code) for code in ('noun + "s"', '"s" * (n > 1)')),
]


@pytest.mark.parametrize(("find", "code"), WAYS)
def test_the_ways_around_it_are_seen(find, code):
    """What the next test looks for, it sees where it is."""
    assert list(find(ast.parse(code))) == [1]


@pytest.mark.parametrize("find", [percents, dashes, counts])
def test_figures_are_written_in_one_place(find):
    """Only `featcache.text` writes per cents, the dash for what is undefined, and plurals."""
    places = [
        f"{path.relative_to(ROOT)}:{line}" for path in ELSEWHERE for line in find(ast.parse(path.read_text("utf-8")))
    ]
    assert places == []


def test_a_page_formats_no_figure_itself():
    """The page's script and its template get per cents, dashes and counted nouns as text, from Python."""
    script = (PAGE / "script.js").read_text("utf-8")
    assert re.findall(r"toFixed|toPrecision|toLocaleString|Intl|\b100\b|%|[–—]", script) == []
    template = re.sub(r"\{%.*?%\}", "", (PAGE / "page.html").read_text("utf-8"))
    assert re.findall(r"\}\} ?%|\b100 \*|[–—]|%[.\d]*[fg]", template) == []
