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
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

_NOUNS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a declaration says of a setting beside its type and its default.

    Attributes:
        help: what it does, in a sentence for `--help` and for the documentation.
        gt: what a number must be above.
        ge: what a number must at least be.
        lt: what a number must be below.
        le: what a number may at most be.
        several: whether a recipe and `--grid` take a list of values; one head is trained for each.
        repeated: whether its option may be typed several times, which is such a list too.
        option: whether the command line has an option for it.
        short: how it is called in a head's name; None: by its own name.
        heads: of which heads it is a setting; empty: of all.
        pattern: a regular expression that a text must match as a whole.
        form: the texts that match it, in words.
        other_pattern: of a choice of words, a regular expression for what may stand in their place.
        other_form: what matches it, in one word, which also stands for it in `heads`.
        is_numbers: whether the text consists of whole numbers: one number may then stand without quotes, and in
            `--grid` an x separates them, as a comma separates values there.
        unstated: what `--help` and the documentation say holds where nobody states it, if that is no single value.
    """

    help: str
    _: KW_ONLY
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    several: bool = False
    repeated: bool = False
    option: bool = True
    short: str | None = None
    heads: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    other_pattern: str = ""
    other_form: str = ""
    is_numbers: bool = False
    unstated: str | None = None


def option_of(name: str) -> str:
    """Return the option of the command line: "--weight-decay"; "--from" of "start", since `from` is a word of Python's.

    Args:
        name: Of a setting, or of any parameter.
    """
    return "--from" if name == "start" else f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """One setting, as it stands in a declaration.

    Attributes:
        name: as it is called in a recipe and in Python.
        kind: str, int, float or bool.
        choices: the words that there are; empty where it is a number, a truth value or any text.
        optional: whether None is a value too.
        default: where nothing is said.
        declaration: what the declaration says beside that.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    optional: bool
    default: Any
    declaration: Setting

    @property
    def option(self) -> str:
        """The option of the command line: `--weight-decay`."""
        return option_of(self.name)

    @property
    def default_text(self) -> str:
        """What holds where nobody states it, in words; "" where that is nothing."""
        if self.declaration.unstated is not None:
            return self.declaration.unstated
        text = "" if self.default is None else str(self.default)
        return text.lower() if self.kind is bool else text

    @property
    def range(self) -> str:
        """The permitted values in words: "sgd, adam or adamw", "from 0 to below 1"; "" where any will do."""
        if self.choices:
            return join_alternatives(filter(None, [*self.choices, self.declaration.other_form]))
        declaration = self.declaration
        if declaration.form:
            return declaration.form
        if declaration.gt is None and declaration.ge is None:
            return ""
        start = f"above {declaration.gt:g}" if declaration.gt is not None else f"from {declaration.ge:g}"
        if declaration.le is not None:
            return f"{start} to {_in_words(declaration.le)}"
        if declaration.lt is not None:
            return (
                f"{start} to below {declaration.lt:g}"
                if self.kind is float
                else f"{start} to {_in_words(declaration.lt - 1)}"
            )
        return start if declaration.gt is not None else f"{start} up"

    @property
    def expected(self) -> str:
        """What a message says was expected: "a whole number from 1 up, or None"."""
        is_whole = self.choices or self.declaration.form
        words = self.range if is_whole else f"{_NOUNS[self.kind]} {self.range}".strip()
        return f"{words}, or None" if self.optional else words

    def applies_to(self, head: str) -> bool:
        """Whether it is a setting of this head.

        Args:
            head: "linear", "mlp" …, as `--head` has it; an import path is one of `OWN_HEAD`.
        """
        heads = self.declaration.heads
        return not heads or head in heads or (":" in head and any(":" in other for other in heads))

    def _is_choice(self, word: str) -> bool:
        other = self.declaration.other_pattern
        return word in self.choices or bool(other and re.fullmatch(other, word, re.ASCII))

    def as_kept(self, value: object) -> object:
        """Return a value as it is kept: a whole number that stands for a text of numbers becomes that text.

        Args:
            value: as it was written.
        """
        if not self.declaration.is_numbers or not isinstance(value, int) or isinstance(value, bool):
            return value
        return str(value) if abs(value) < 10**9 else value

    def accepts(self, value: object) -> bool:
        """Whether a value is of the right type and within the range; a whole number is a number too.

        Args:
            value: anything; None is accepted where the setting is optional, True and False only as truth values.
        """
        if value is None:
            return self.optional
        if self.kind in (str, bool):
            value = self.as_kept(value)
            is_one = isinstance(value, self.kind) and (not self.choices or self._is_choice(str(value)))
            return is_one and (not self.declaration.pattern or bool(re.fullmatch(self.declaration.pattern, str(value))))
        if not isinstance(value, int | float if self.kind is float else int) or isinstance(value, bool):
            return False
        declaration = self.declaration
        return (
            abs(value) <= sys.float_info.max  # nan, infinities, and whole numbers that no float can hold
            and (declaration.gt is None or value > declaration.gt)
            and (declaration.ge is None or value >= declaration.ge)
            and (declaration.lt is None or value < declaration.lt)
            and (declaration.le is None or value <= declaration.le)
        )


def declared_settings(*declarations: type) -> dict[str, DeclaredSetting]:
    """Return the settings of one or several declarations by their names, in their order.

    Args:
        *declarations: dataclasses, each field of which is annotated with a `Setting`.
    """
    settings = {}
    for declaration in declarations:
        annotations = typing.get_type_hints(declaration, include_extras=True)
        for field in dataclasses.fields(declaration):
            settings[field.name] = _declared(field.name, annotations[field.name], field.default)
    return settings


def join_alternatives(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: "sgd, adam or adamw".

    Args:
        words: one or more.
    """
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _declared(name: str, annotation: Any, default: Any) -> DeclaredSetting:
    """Return a setting that is annotated as `Annotated[type, Setting(…)]`; the type may be `type | None`."""
    value_type, declaration = typing.get_args(annotation)
    optional = types.NoneType in typing.get_args(value_type)
    if optional:
        value_type = next(option for option in typing.get_args(value_type) if option is not types.NoneType)
    choices = typing.get_args(value_type) if typing.get_origin(value_type) is Literal else ()
    return DeclaredSetting(name, str if choices else value_type, choices, optional, default, declaration)


def _in_words(limit: float) -> str:
    """Return a limit as a person writes it: "0.5", "10,000", "2^31", "2^63 - 1"."""
    if not isinstance(limit, int):
        return f"{limit:g}"
    for power, words in ((limit, "2^{}"), (limit + 1, "2^{} - 1")):
        if power >= 1 << 31 and power & (power - 1) == 0:
            return words.format(power.bit_length() - 1)
    return f"{limit:,}"
