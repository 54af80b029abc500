"""What a package offers says what goes in and what comes out."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

PACKAGE = Path(__file__).parents[1] / "featcache"
NOTHING = (None, "None", NoReturn, Iterator[None], inspect.Signature.empty)  # the last but one: of a context manager
STUBS = sorted(stub.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".") for stub in PACKAGE.rglob("*.pyi"))


def offered(package: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions that a package offers, and the public methods of the classes that it offers, by name."""
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = inspect.unwrap(getattr(module, name)) if callable(getattr(module, name)) else None
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing) and thing.__module__.startswith("featcache"):
            for attribute, member in vars(thing).items():
                function = getattr(member, "__func__", member)  # of a class method, a static method
                if inspect.isfunction(function) and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", function


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of what a caller passes."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def undocumented(name: str, function: Callable[..., Any]) -> list[str]:
    """Return what a docstring leaves out."""
    doc = inspect.getdoc(function) or ""
    described = set(re.findall(r"^    \*{0,2}(\w+)(?: \([^)]*\))?:", doc, re.MULTILINE))
    passed = [each for each in parameters(function) if each not in described]
    missing = [f"{name}: Args of {', '.join(passed)}"] if passed else []
    returned = inspect.signature(function).return_annotation
    if returned not in NOTHING and not re.search(r"\A(Return|Yield|Whether)|^(Returns|Yields):", doc, re.MULTILINE):
        missing.append(f"{name}: Returns")
    return missing


@pytest.mark.parametrize("package", STUBS)
def test_what_is_offered_says_what_goes_in_and_what_comes_out(package: str) -> None:
    """Every parameter stands under Args; a result is told by the first word of the docstring or under Returns."""
    assert [line for name, function in offered(package) for line in undocumented(name, function)] == []
