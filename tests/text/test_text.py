"""How figures are written, and the text that a stranger's names become."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from featcache.text import counted, decimal, percent, percent_at_least, percent_number, printable, shorten, value_text


@given(st.text(st.characters(), max_size=20))
def test_printable_is_inert_and_stays_as_it_is(name):
    """Whatever the name, what is shown is one line of printable UTF-8, and shown again it stays the same."""
    shown = printable(name)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode("utf-8")
    if name.isprintable():
        assert shown == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\t", r"a\nb\t"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("\u202e\u2066", r"\u202e\u2066"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\u2028", r"\u2028"),
        ("caf\udce9", r"caf\udce9"),
        ("Käfer 漢字 🐜 [bold]", "Käfer 漢字 🐜 [bold]"),
        (r"back\slash", r"back\slash"),
    ],
)
def test_printable_shows_what_was_hidden(name, shown):
    """Control, bidi, zero-width and surrogate characters stand as escapes; letters, emoji, markup stay."""
    assert printable(name) == shown


@given(st.text(st.characters(exclude_categories=["C", "M", "Z"]), max_size=30), st.integers(0, 30))
def test_shorten_fits_and_keeps_both_ends(text, width):
    """The result fits; it is the text where that fits, else the text's two ends around an ellipsis."""
    short = shorten(text, width)
    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text
    elif width:
        front, back = short.split("…")[0], short.split("…")[-1]
        assert text.startswith(front)
        assert text.endswith(back)


def test_shorten_uses_the_width_it_has():
    """A long name fills its width, with its start and its end."""
    assert shorten("looking_or_moving_around (e.g. searching)", 15) == "looking…rching)"
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abcdefghij", 6) == "abc…ij"


@given(st.none() | st.text() | st.lists(st.text()), st.integers(3, 90))
def test_a_value_is_one_line_that_fits(value, longest):
    """Whatever the value, a message shows it in one line that is no longer than it may be, the start of its repr."""
    text = value_text(value, longest)
    assert "\n" not in text
    assert len(text) <= longest
    assert " ".join(repr(value).split()).startswith(text.removesuffix("..."))


def test_a_huge_number_is_shown_as_its_number_of_digits():
    """A whole number that no line holds, or that Python does not write, is counted instead of cut off."""
    assert [value_text(-12), value_text(10**79)] == ["-12", "1" + 79 * "0"]
    assert [value_text(10**400), value_text(-(10**1000))] == ["a number of 401 digits", "a number of 1,001 digits"]
    assert value_text(10**5000) == value_text([10**5000]) == "a number of more than 4,300 digits"


def test_a_figure_is_written_in_one_way():
    """Per cent to a tenth with a space before the sign, a loss to four decimals, a dash for what is undefined."""
    assert [percent(0.7124), percent(0.95, 0), percent(math.nan)] == ["71.2 %", "95 %", "–"]
    assert [percent_number(0.7124), percent_number(-0.01, signed=True), percent_number(math.nan)] == [
        "71.2",
        "-1.0",
        "–",
    ]
    assert [percent_at_least(0.7199), percent_at_least(0.00199)] == ["71 %", "0.1 %"]
    assert decimal(1.234e9) == "1.23e+09"
    assert [decimal(0.69314), decimal(math.nan), decimal(math.inf)] == ["0.6931", "–", "–"]


def test_a_count_agrees_with_its_noun():
    """One is singular, everything else plural, thousands have a comma."""
    assert [counted(1, "class"), counted(3, "class"), counted(0, "image")] == ["1 class", "3 classes", "0 images"]
    assert counted(2000, "shard") == "2,000 shards"
