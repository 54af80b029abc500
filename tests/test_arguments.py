"""What the public functions do with arguments that they do not take."""

import inspect
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import featcache
import featcache.arguments
from featcache.arguments import ArgumentError, keyword_types, nearest_name
from featcache.errors import UsageError

FUNCTIONS = [name for name in featcache.__all__ if inspect.isfunction(getattr(featcache, name))]
CALLABLE = [*FUNCTIONS, "Settings"]
EACH = [(name, word) for name in CALLABLE for word in keyword_types(getattr(featcache, name))]
SEVERAL = [
    (name, word)
    for name in FUNCTIONS
    for word, kind in keyword_types(getattr(featcache, name)).items()
    if any(typing.get_origin(one) is Sequence for one in (*typing.get_args(kind), kind))
]


def required(name: str) -> dict[str, object]:
    """Arguments that a call must have, of the right types."""
    parameters = inspect.signature(getattr(featcache, name)).parameters.values()
    texts = {"cosine": 0.9, "found": None, "folds": [0], "to": "x.npz", "path": "x.csv"}
    return {p.name: texts.get(p.name, "x") for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}


@pytest.mark.parametrize(("name", "word"), EACH)
def test_a_misspelt_keyword_is_refused_and_the_right_one_proposed(name, word):
    """Every setting of every public function, misspelt by a letter, is refused with its right name."""
    wrong = f"{word}x"
    with pytest.raises(UsageError) as refused:
        getattr(featcache, name)(**required(name), **{wrong: None})
    assert str(refused.value) == f"{name}(): there is no setting {wrong!r}; did you mean {word}?"
    assert isinstance(refused.value, TypeError)  # what Python raises for it where a function takes no others


@pytest.mark.parametrize("name", CALLABLE)
def test_a_keyword_like_no_other_is_refused_with_all_there_are(name):
    """Where no setting is near, the message lists those that the function takes."""
    with pytest.raises(ArgumentError, match=r"there is no setting 'zzqqzz'; expected ") as refused:
        getattr(featcache, name)(zzqqzz=1)
    assert all(word in str(refused.value) for word in keyword_types(getattr(featcache, name)))


@pytest.mark.parametrize(
    ("name", "word", "owner"),
    [("extract", "lr", "fit_head"), ("search", "grid", "fit_head"), ("load", "check_seconds", "fit_head and search"),
     ("fit_head", "retry_failed", "Settings"), ("compare", "allow_shared_subjects", "evaluate")],
)  # fmt: skip
def test_a_setting_of_another_function_is_refused_with_its_owner(name, word, owner):
    """A keyword that another public function takes is refused with the name of that function."""
    with pytest.raises(ArgumentError, match=f"{owner.split(' ', maxsplit=1)[0]}") as refused:
        getattr(featcache, name)(**required(name), **{word: 1})
    assert "takes it" in str(refused.value)


@pytest.mark.parametrize(("name", "word"), SEVERAL)
@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), {"x": 1}, {"x"}, object(), [["x"]], [b"x"], np.ones((2, 2))])
def test_what_is_no_list_is_refused_where_several_values_are_meant(name, word, value):
    """Bytes, a dict, a set, lists in lists: each is refused by name and with what is expected."""
    with pytest.raises(ArgumentError, match=rf"{name}\(\): {word} is .*, expected .*a list"):
        getattr(featcache, name)(**{**required(name), word: value})


@pytest.mark.parametrize(("name", "word"), [pair for pair in SEVERAL if pair[1] in ("lr", "folds", "seed")])
def test_text_is_no_list_of_numbers(name, word):
    """Numbers in a string are neither a number nor several: nothing is guessed from commas."""
    with pytest.raises(ArgumentError, match=rf"{name}\(\): {word} is '0,1', expected "):
        getattr(featcache, name)(**{**required(name), word: "0,1"})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_public_function_takes_a_text_for_true(name):
    """A text such as "no" is true to Python: a setting that is true or false takes nothing else."""
    for word, kind in keyword_types(getattr(featcache, name)).items():
        if kind is bool:
            with pytest.raises(ArgumentError, match=rf"{word} is 'no', expected True or False"):
                getattr(featcache, name)(**{**required(name), word: "no"})


@featcache.arguments.checked
def echo(
    one: str, several: Sequence[int] = (), *, number: float | Sequence[float] | None = None, where: Path | None = None
) -> tuple[object, ...]:
    """Return the arguments as they came in."""
    return one, several, number, where


def test_values_reach_a_function_as_plain_ones():
    """Arrays, iterators and single values become tuples, NumPy's numbers Python's, paths their text."""
    assert echo("x", 3) == ("x", (3,), None, None)
    assert echo("x", (n for n in (1, 2)), number=np.float32(0.5)) == ("x", (1, 2), 0.5, None)
    assert echo(Path("a/b"), np.arange(2), number=np.array([1.0, 2.0])) == ("a/b", (0, 1), (1.0, 2.0), None)
    assert echo("x", number=1, where=Path("c")) == ("x", (), 1, "c")
    assert type(echo("x", number=np.array(2))[2]) is int


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'one'"),
        (("x", [1], 2), {}, "too many positional arguments"),
        (("x",), {"one": "y"}, "multiple values for argument 'one'"),
        (("x", [True]), {}, "several is [True]"),
        (("x", [1.5]), {}, "several is [1.5]"),
        (("x",), {"number": "0.1"}, "number is '0.1', expected a number, a list of numbers or None"),
        (("x",), {"number": True}, "number is True"),
        (("x",), {"number": 10**400}, "number is a number of 401 digits, expected a number"),
        (("x",), {"number": -(10**400)}, "number is a number of 401 digits"),
        (("x", [10**5000]), {}, "several is a number of more than 4,300 digits"),
        ((b"x",), {}, "one is b'x', expected a non-empty string"),
        ((None,), {}, "one is None, expected a non-empty string"),
        (("",), {}, "one is '', expected a non-empty string"),
        (("x" * 200, "y"), {}, "several is 'y', expected a list of whole numbers"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(args, kwargs, said):
    """Positions, missing arguments and types are refused as unknown keywords are."""
    with pytest.raises(ArgumentError) as refused:
        echo(*args, **kwargs)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("word", "right"),
    [("learning_rate", "lr"), ("weigth_decay", "weight_decay"), ("Weight-Decay", "weight_decay"), ("epoch", "epochs"),
     ("batchsize", "batch_size"), ("labelsmoothing", "label_smoothing"),
     ("check", "check_seconds"), ("Label", "label_smoothing"), ("zzz", None)],
)  # fmt: skip
def test_the_nearest_name(word, right):
    """Letters left out or exchanged, case, hyphens, the first word of a name, and the names of other tools."""
    assert nearest_name(word, keyword_types(featcache.fit_head)) == right


def test_a_checked_function_keeps_its_signature():
    """What `help` and an editor show of it is what was written."""
    assert list(inspect.signature(echo).parameters) == ["one", "several", "number", "where"]
    assert featcache.extract.__module__ == "featcache.extraction.command"
