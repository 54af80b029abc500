"""The rules that describe a fitted estimator, and how a described object is held to them.

A rule is a function of a value and the sizes that are known; it raises MisfitError where the value breaks it. The
functions below return rules, or are one.

An array's shape is given in sizes: numbers, or names. F (features) and C (classes) are known; L = C, or 1 where C is 2
(rows of a linear decision); P = C (C - 1) / 2 (pairs of classes); any other name means the edge of the first array
that has it.
"""

import importlib
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from featcache.heads.saved.skops.description import DescribedObject

Sizes = dict[str, int]
Rule = Callable[[Any, Sizes], None]  # raises MisfitError
Size = int | str
_SCALARS = (type(None), bool, int, float, str, np.generic)


class MisfitError(ValueError):
    """A part of a model that contradicts the rest of it, or of which nothing is known; the message says which."""


def sizes_of(features: int, classes: int) -> Sizes:
    """Return the sizes that follow from the numbers of features and classes."""
    pairs = classes * (classes - 1) // 2
    return {"F": features, "C": classes, "L": 1 if classes == 2 else classes, "P": pairs, "C-1": classes - 1}


class AttributeRules:
    """The rules for an object's attributes; one without a rule must be plain, and hide nothing of its class."""

    def __init__(self, *parts: "AttributeRules", also: Rule | None = None, **rules: Rule) -> None:
        self.rules: dict[str, Rule] = {}
        self.also: tuple[Rule, ...] = ()
        for part in parts:
            self.rules |= part.rules
            self.also += part.also
        self.rules |= rules
        self.also += (also,) if also else ()

    def check(self, described: DescribedObject, sizes: Sizes) -> None:
        """Hold an object to these rules.

        Raises:
            MisfitError: the first attribute that is missing, or is not as it has to be.
        """
        short = described.type.rpartition(".")[2]
        module, _, name = described.type.rpartition(".")
        own = getattr(importlib.import_module(module), name)  # only types of the table come here
        for key, value in described.attributes.items():
            if key not in self.rules:
                if hasattr(own, key):
                    raise MisfitError(f"{short} has a {key} of its own")
                _within(f"{short}.{key}", plain, value, sizes)
        for key, rule in self.rules.items():
            if key in described.attributes:
                _within(f"{short}.{key}", rule, described.attributes[key], sizes)
            elif not getattr(rule, "is_optional", False):
                raise MisfitError(f"{short}.{key} is missing")
        for rule in self.also:
            _within(short, rule, described.attributes, sizes)


def optional(rule: Rule) -> Rule:
    """Return the rule that an attribute may be missing; where it is there, `rule` holds."""

    def check(value: Any, sizes: Sizes) -> None:
        rule(value, sizes)

    check.is_optional = True  # type: ignore[attr-defined]
    return check


def either(*rules: Rule) -> Rule:
    """Return the rule that one of several rules holds."""

    def check(value: Any, sizes: Sizes) -> None:
        for rule in rules[:-1]:
            try:
                return rule(value, dict(sizes))
            except MisfitError:
                continue
        return rules[-1](value, sizes)

    return check


def array(
    *shape: Size, kinds: str = "f", low: float = -math.inf, high: float | str = math.inf, finite: bool = True
) -> Rule:
    """Return the rule that a value is an array of this shape.

    Args:
        shape: Its edges: numbers, or names of sizes.
        kinds: NumPy's kinds of dtype, or one dtype such as <f8.
        low: The least value.
        high: The largest value, or the name of a size that all values lie below.
        finite: Whether infinities are refused; nan always is.
    """

    def check(value: Any, sizes: Sizes) -> None:
        if not isinstance(value, np.ndarray) or value.dtype.names or value.dtype.kind not in "biuf":
            raise MisfitError(f"is {_brief(value)}, expected an array of numbers")
        right = value.dtype == np.dtype(kinds) if kinds[0] == "<" else value.dtype.kind in kinds
        if not right or value.dtype.itemsize > 8:
            raise MisfitError(f"is {value.dtype}, expected {kinds}")
        if value.ndim != len(shape):
            raise MisfitError(f"has shape {value.shape}, expected {_shape(shape, sizes)}")
        for edge, size in zip(value.shape, shape, strict=True):
            if edge != (size if isinstance(size, int) else sizes.setdefault(size, edge)):
                raise MisfitError(f"has shape {value.shape}, expected {_shape(shape, sizes)}")
        top = sizes[high] - 1 if isinstance(high, str) else high
        if value.dtype.kind == "f" and not (np.isfinite(value) if finite else ~np.isnan(value)).all():
            raise MisfitError("has values that are not numbers")
        if value.size and not low <= value.min() <= value.max() <= top:
            raise MisfitError(f"has values outside {low} to {top}")

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Rule:
    """Return the rule that a value is a finite number."""

    def check(value: Any, _: Sizes) -> None:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            raise MisfitError(f"is {_brief(value)}, expected a number")
        if not max(low, -sys.float_info.max) <= value <= min(high, sys.float_info.max):  # nor nan
            raise MisfitError(f"is {_brief(value)}, expected {low} to {high}")

    return check


def whole(low: Size = 0, high: Size = 1 << 31) -> Rule:
    """Return the rule that a value is a whole number; `low` and `high` may be names of sizes."""

    def check(value: Any, sizes: Sizes) -> None:
        least, most = (sizes[end] if isinstance(end, str) else end for end in (low, high))
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            raise MisfitError(f"is {_brief(value)}, expected a whole number from {least} to {most}")

    return check


def equal(*choices: Any) -> Rule:
    """Return the rule that a value is one of these plain values, and of that very type."""

    def check(value: Any, _: Sizes) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise MisfitError(f"is {_brief(value)}, expected {' or '.join(map(repr, choices))}")

    return check


def listed(rule: Rule, length: Size = "") -> Rule:
    """Return the rule that a value is a list, not empty, of items that obey `rule`; `length` may be a size's name."""

    def check(value: Any, sizes: Sizes) -> None:
        if not isinstance(value, list | tuple) or not value:
            raise MisfitError(f"is {_brief(value)}, expected a list")
        if length and len(value) != (length if isinstance(length, int) else sizes.setdefault(length, len(value))):
            raise MisfitError(f"has {len(value)} parts, expected {_shape((length,), sizes)}")
        for place, item in enumerate(value):
            _within(f"[{place}]", rule, item, sizes)

    return check


def instance(types: Mapping[str, AttributeRules]) -> Rule:
    """Return the rule that a value is an object of one of these types, which obeys the rules of its attributes."""

    def check(value: Any, sizes: Sizes) -> None:
        if not isinstance(value, DescribedObject) or value.type not in types:
            raise MisfitError(f"is {_brief(value)}, which cannot be checked")
        types[value.type].check(value, sizes_of(sizes["F"], sizes["C"]))

    return check


def plain(value: Any, _: Sizes) -> None:
    """Require a plain value, or a list or table of such."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if not isinstance(value, (*_SCALARS, list, tuple, dict)):
        raise MisfitError(f"is {_brief(value)}, which cannot be checked")
    if not all(isinstance(item, _SCALARS) for item in items):
        raise MisfitError("is a list of what cannot be checked")


def unused(value: Any, sizes: Sizes) -> None:
    """Require plain values and arrays of numbers, in lists or tables: for what no prediction reads."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.dtype.names or value.dtype.kind not in "biuf":
            raise MisfitError(f"is an array of {value.dtype}")
    elif isinstance(value, dict | list | tuple | np.ndarray):
        for item in value.values() if isinstance(value, dict) else value:
            unused(item, sizes)
    elif not isinstance(value, _SCALARS):
        raise MisfitError(f"is {_brief(value)}, which cannot be checked")


def classes(value: Any, sizes: Sizes) -> None:
    """Require the classes in order: 0, 1, 2, …, as featcache names them to every estimator."""
    array("C", kinds="iuf")(value, sizes)
    if not np.array_equal(value, np.arange(sizes["C"])):
        raise MisfitError(f"is not a list of {sizes['C']} classes in order")


def _within(place: str, rule: Rule, value: Any, sizes: Sizes) -> None:
    try:
        rule(value, sizes)
    except MisfitError as error:
        joint = "" if str(error).startswith("[") else " "
        raise type(error)(f"{place}{joint}{error}") from None


def _shape(shape: tuple[Size, ...], sizes: Sizes) -> str:
    return "(" + ", ".join(str(sizes.get(size, size) if isinstance(size, str) else size) for size in shape) + ")"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {value.type}" if isinstance(value, DescribedObject) else repr(value)[:60]
