"""How the settings of a recipe are declared: each once, with its type, its range, its default and what it does.

A declaration is a dataclass of annotated values:

    @dataclass(kw_only=True)
    class TrunkSettings:
        precision: Annotated[Literal["auto", "fp32", "bf16"], Setting("Arithmetic of the forward pass.")] = "auto"

From it follow the section of a recipe (`sections`), what training takes and refuses (`heads.HeadConfig`), the keys of
`--grid`, the options of the command line (`cli.options`), the keywords of the Python functions (`keywords`), and the
tables of the documentation. Neither pydantic nor NumPy is imported here: `featcache --help` would wait for them.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Count = Annotated[int, Ge(1)]

_NOUNS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a declaration says of a setting beside its type, its range and its default.

    Attributes:
        help: what it does, in a sentence for `--help` and for the documentation.
        several: whether a recipe and `--grid` take a list of values, and one head is trained for each.
        repeated: whether its option may be typed several times, which is such a list too.
        option: whether the command line has an option for it.
        short: how it is called in a head's name; None: by its own name.
    """

    help: str
    several: bool = False
    repeated: bool = False
    option: bool = True
    short: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """One setting, as it stands in a declaration.

    Attributes:
        name: as it is called in a recipe and in Python.
        annotation: the type of one value with its limits: what a recipe is checked against.
        kind: str, int, float or bool.
        choices: the words that there are; empty where it is a number or any text.
        limits: of a number.
        optional: whether None is a value too.
        default: where nothing is said.
        about: what the declaration says beside that.
    """

    name: str
    annotation: Any
    kind: type
    choices: tuple[str, ...]
    limits: tuple[Gt | Ge | Lt | Le, ...]
    optional: bool
    default: Any
    about: Setting

    @property
    def option(self) -> str:
        """The option of the command line: `--weight-decay`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def range(self) -> str:
        """The permitted values in words: "sgd, adam or adamw", "from 0 to below 1"; "" where any will do."""
        if self.choices:
            return join_alternatives(self.choices)
        low = next((_bound(limit) for limit in self.limits if isinstance(limit, Gt | Ge)), None)
        if low is None:
            return ""
        start = f"above {low:g}" if any(isinstance(limit, Gt) for limit in self.limits) else f"from {low:g}"
        for limit in self.limits:
            if isinstance(limit, Le | Lt):
                return f"{start} to {_last(limit, self.kind)}"
        return start if start.startswith("above") else f"{start} up"

    @property
    def expected(self) -> str:
        """What a message says was expected: "a whole number from 1 up, or None"."""
        words = self.range if self.choices else f"{_NOUNS[self.kind]} {self.range}".strip()
        return f"{words}, or None" if self.optional else words

    def accepts(self, value: object) -> bool:
        """Whether a value is of the right type and within the range; a whole number is a number too."""
        if value is None:
            return self.optional
        if self.kind in (str, bool):
            return isinstance(value, self.kind) and (not self.choices or value in self.choices)
        number = int | float if self.kind is float else int
        if not isinstance(value, number) or isinstance(value, bool) or not math.isfinite(value):
            return False
        return all(_is_within(value, limit) for limit in self.limits)


def declared_settings(*declarations: type) -> dict[str, DeclaredSetting]:
    """Return the settings of one or several declarations by their names, in their order."""
    settings = {}
    for declaration in declarations:
        annotations = typing.get_type_hints(declaration, include_extras=True)
        for field in dataclasses.fields(declaration):
            settings[field.name] = _declared(field.name, annotations[field.name], field.default)
    return settings


def join_alternatives(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: "sgd, adam or adamw"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _declared(name: str, annotation: Any, default: Any) -> DeclaredSetting:
    """Return a setting that is annotated as `Annotated[type, limits…, Setting(…)]`.

    The type may be `Annotated[type, limits…] | None`.
    """
    value_type, *notes = typing.get_args(annotation)
    about = next(note for note in notes if isinstance(note, Setting))
    limits = [note for note in notes if note is not about]
    checked = Annotated[(value_type, *limits)] if limits else value_type
    optional = types.NoneType in typing.get_args(value_type)
    if optional:
        value_type = next(option for option in typing.get_args(value_type) if option is not types.NoneType)
        if typing.get_origin(value_type) is Annotated:
            value_type, *limits = typing.get_args(value_type)
    choices = typing.get_args(value_type) if typing.get_origin(value_type) is Literal else ()
    return DeclaredSetting(
        name=name,
        annotation=checked,
        kind=str if choices else value_type,
        choices=choices,
        limits=tuple(limit for limit in limits if isinstance(limit, Gt | Ge | Lt | Le)),
        optional=optional,
        default=default,
        about=about,
    )


def _bound(limit: Gt | Ge | Lt | Le) -> Any:
    (bound,) = (getattr(limit, field.name) for field in dataclasses.fields(limit))
    return bound


def _is_within(value: float, limit: Gt | Ge | Lt | Le) -> bool:
    bound = _bound(limit)
    if isinstance(limit, Gt):
        return bool(value > bound)
    if isinstance(limit, Ge):
        return bool(value >= bound)
    return bool(value < bound if isinstance(limit, Lt) else value <= bound)


def _last(limit: Lt | Le, kind: type) -> str:
    """The upper end of a range in words: "below 1", "10,000", "2^63 - 1"."""
    bound = _bound(limit)
    if kind is float:
        return f"below {bound:g}" if isinstance(limit, Lt) else f"{bound:g}"
    last = bound - 1 if isinstance(limit, Lt) else bound
    for number, words in ((last, "2^{}"), (last + 1, "2^{} - 1")):
        if number >= 1 << 31 and number & (number - 1) == 0:
            return words.format(number.bit_length() - 1)
    return f"{last:,}"
