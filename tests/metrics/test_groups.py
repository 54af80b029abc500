"""Rows in groups: the names of their groups by number."""

import pytest

from featcache.metrics import number_names


def test_names_are_numbered_as_they_appear():
    """The first name is 0; equal names have one number; a list will do, and what is returned cannot be changed."""
    for names in (("b", "a", "b", "c"), ["b", "a", "b", "c"]):
        codes, found = number_names(names)
        assert codes.tolist() == [0, 1, 0, 2]
        assert found == ("b", "a", "c")
        with pytest.raises(ValueError, match="read-only"):
            codes[0] = 1
    assert number_names(())[1] == ()
