"""What a package offers says what goes in and what comes out."""

import dataclasses
import functools
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
    """Yield the functions that a package offers, and the constructors and public methods of its classes, by name."""
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = inspect.unwrap(getattr(module, name)) if callable(getattr(module, name)) else None
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing) and thing.__module__.startswith("featcache"):
            for attribute, member in vars(thing).items():
                function = inspect.unwrap(getattr(member, "__func__", member))  # of a class method, a static method
                is_constructor = attribute == "__init__" and has_own_constructor(thing)
                if inspect.isfunction(function) and (is_constructor or not attribute.startswith("_")):
                    yield f"{name}.{attribute}", function


def has_own_constructor(class_: type) -> bool:
    """Whether a person wrote it: not a dataclass's, whose fields say what they are, nor a protocol's."""
    return not dataclasses.is_dataclass(class_) and not getattr(class_, "_is_protocol", False)


def properties(package: str) -> Iterator[tuple[str, Any]]:
    """Yield the public properties of the classes that a package offers, by name."""
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) and thing.__module__.startswith("featcache"):
            for attribute, member in vars(thing).items():
                if isinstance(member, property | functools.cached_property) and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", member


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


@pytest.mark.parametrize("package", STUBS)
def test_every_property_that_is_offered_says_what_it_is(package: str) -> None:
    """A property of a class that a package offers has a docstring."""
    assert [name for name, member in properties(package) if not inspect.getdoc(member)] == []
