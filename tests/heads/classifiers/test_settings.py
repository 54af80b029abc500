"""Settings as they are typed, and every combination of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.heads.classifiers.settings import choices_from, combinations, format_value, parse_settings


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("C=10", (10,)),
        ("C=0.1,1,1e2", (0.1, 1, 100.0)),
        ("hidden_layer_sizes=(256,64)", ((256, 64),)),
        ("hidden_layer_sizes=(8,),(4, 4)", ((8,), (4, 4))),
        ("class_weight=balanced", ("balanced",)),
        ("class_weight=None,balanced", (None, "balanced")),
        ("fit_intercept=true,False", (True, False)),
        ("kernel='a,b',rbf", ("a,b", "rbf")),
        ("gamma=__import__('os')", ("__import__('os')",)),
    ],
)
def test_what_is_typed_is_what_is_meant(word, expected):
    """A comma outside brackets and quotes separates choices; what is no literal is a word, and is never run."""
    (found,) = parse_settings([word]).values()
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize("words", [["C"], ["=1"], ["C="], ["C=1,,2"], ["1C=3"], ["C=1", "C=2"], ["C={1:2}"]])
def test_a_faulty_setting_is_named(words):
    """No `=`, no value, no name, a key twice, or a value of another kind: an error, exit code 2."""
    with pytest.raises(UsageError):
        parse_settings(words)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 5) | st.booleans(), min_size=1, max_size=4)))
def test_every_combination_stands_once(settings):
    """As many as the product of the distinct values; 1 and True are two values."""
    found = combinations(choices_from(settings))
    expected = 1
    for values in settings.values():
        expected *= len({(type(value), value) for value in values})
    assert len(found) == expected
    assert len({tuple((key, type(value), value) for key, value in one.items()) for one in found}) == expected


def test_a_list_chooses_and_a_tuple_is_a_value():
    """From Python: [1, 2] are two candidates, (1, 2) is one; a recipe's list in a list is a tuple."""
    assert choices_from({"a": [1, 2], "b": (1, 2), "c": [[3, 4]]}) == {"a": (1, 2), "b": ((1, 2),), "c": ((3, 4),)}
    assert format_value((256, 64)) == "256x64"
    with pytest.raises(UsageError, match="object"):
        choices_from({"a": object()})
    with pytest.raises(UsageError, match="more than 64 bits"):
        choices_from({"a": 10**400})
    with pytest.raises(UsageError, match="combinations"):
        combinations({"a": tuple(range(200)), "b": tuple(range(200))})
