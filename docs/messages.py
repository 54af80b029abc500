"""List every sentence that featcache may say, with its place: `python docs/messages.py`, to be read aloud.

A message is a string in a call that raises one of featcache's errors, warns, or prints; or one that a note, a sentence
or a help is made of: any string of featcache with a space in it that is no docstring and no pattern. What stands in
braces is filled in when it is said.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "featcache"


def main() -> int:
    """Print every message, a line each: its place and the sentence.

    Returns:
        0.
    """
    for path in sorted(ROOT.rglob("*.py")):
        for line, text in messages(path):
            print(f"{path.relative_to(ROOT.parent)}:{line}: {text}")
    return 0


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the messages of a module: the line that each begins on, and its words.

    Args:
        path: The module.
    """
    tree = ast.parse(path.read_text("utf-8"))
    passed = {id(node) for node in _silent(tree)}
    for node in _outermost(tree, passed):
        text = sentence(node)
        if _is_said(text):
            yield node.lineno, " ".join(text.split())


def sentence(node: ast.expr) -> str:
    """Return a string as it is said; what is filled in stands in braces, in a short form.

    Args:
        node: A constant or a formatted string.
    """
    if isinstance(node, ast.JoinedStr):
        return "".join(sentence(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)[:40]}}}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _outermost(node: ast.AST, passed: set[int]) -> Iterator[ast.expr]:
    """Yield the strings of a tree, a formatted one whole."""
    for child in ast.iter_child_nodes(node):
        if id(child) in passed:
            continue
        if isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and isinstance(child.value, str)):
            yield child
            if isinstance(child, ast.JoinedStr):
                for part in child.values:
                    if isinstance(part, ast.FormattedValue):
                        yield from _outermost(part, passed)
        else:
            yield from _outermost(child, passed)


def _silent(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the strings that nobody reads: docstrings, and annotations that are names of types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        if isinstance(node, ast.arg | ast.AnnAssign) and isinstance(node.annotation, ast.Constant):
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Constant):
            yield node.returns


def _is_said(text: str) -> bool:
    """Whether a string is a part of a sentence: two words of letters at least."""
    words = [word for word in text.split() if any(letter.isalpha() for letter in word)]
    return len(words) > 1


if __name__ == "__main__":
    sys.exit(main())
