"""Columns of texts in arrays: what a tuple of the same texts would be."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.listing import CodedColumn, TextColumn, columns, distinct_texts, find_filled, take_texts

# File names that any Linux file may have: UTF-8 or not, newlines too; and "", which a column has where there is none.
texts = st.binary(max_size=6).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"\n")))
repeated = st.lists(st.sampled_from(["", "a", "b", "bc", "é", os.fsdecode(b"\xe9")]), max_size=20)


kinds = pytest.mark.parametrize("kind", [TextColumn, CodedColumn])


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Columns of twenty rows are several blocks long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_ROWS", 3)
        patch.setattr(columns, "_BYTES", 5)
        yield


@kinds
@given(held=st.lists(texts, max_size=12) | repeated, start=st.integers(-15, 15), end=st.integers(-15, 15))
def test_a_column_is_read_as_a_tuple_of_its_texts(kind, held, start, end):
    """Length, rows from both ends, slices, order, equality and membership."""
    column, expected = kind.pack(iter(held)), tuple(held)
    assert (len(column), tuple(column), column == expected, expected == column) == (len(held), expected, True, True)
    assert [column[row] for row in range(-len(held), len(held))] == held * 2
    assert tuple(column[start:end]) == expected[start:end]
    assert tuple(column[::-1]) == expected[::-1]
    assert column != (*expected, "more")
    assert ("bc" in column) == ("bc" in expected)
    with pytest.raises(IndexError):
        column[len(held)]


@kinds
@given(held=repeated | st.lists(texts, max_size=12), data=st.data())
def test_some_rows_of_a_column_are_those_of_the_tuple(kind, held, data):
    """In any order, with repeats; which are filled, and which texts there are, is that of the same rows."""
    rows = np.array(data.draw(st.lists(st.integers(0, len(held) - 1), max_size=9)) if held else [], dtype=np.int64)
    taken, expected = take_texts(kind.pack(held), rows), tuple(held[row] for row in rows)
    assert taken == expected == take_texts(held, rows)
    assert find_filled(taken).tolist() == find_filled(expected).tolist() == [bool(text) for text in expected]
    assert distinct_texts(taken) == distinct_texts(expected) == set(expected)
    assert kind.pack(taken) == kind.pack(expected)


@given(names=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=6), data=st.data())
def test_a_table_has_each_text_once_in_the_order_of_the_rows(names, data):
    """However a foreign file numbers its texts, repeated and unused ones among them: one form for the same rows."""
    codes = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=12))
    packed = CodedColumn.pack(CodedColumn(names, np.array(codes, dtype=np.int32)))
    expected = [names[code] for code in codes]
    assert packed == expected
    assert packed.names == tuple(dict.fromkeys(expected))
    assert packed.codes.dtype == np.int32


@pytest.mark.parametrize(("code", "error"), [(-1, ValueError), (2, IndexError)])
def test_a_code_outside_its_table_is_refused(code, error):
    """Where the column is made, and not where the row is looked at."""
    with pytest.raises(error):
        CodedColumn(("a", "b"), np.array([0, code], dtype=np.int32))


def test_bytes_whose_last_text_is_not_ended_are_refused():
    """A name that was cut would be another name."""
    with pytest.raises(ValueError, match="not ended"):
        TextColumn(np.frombuffer(b"a\0b", dtype=np.uint8))


def test_a_text_with_a_zero_byte_is_refused() -> None:
    """It would become two rows, and the rows behind it would have the names of others."""
    with pytest.raises(ValueError, match="zero byte"):
        TextColumn.pack(["a", "b\0c"])
