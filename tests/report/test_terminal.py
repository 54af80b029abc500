"""The report on the terminal, and the text that a stranger's names become there."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from featcache.evaluation.evaluation import Evaluation
from featcache.metrics.bootstrap import bootstrap_intervals
from featcache.report.terminal import print_evaluation
from tests.builders import DRIVE_ACT, HOSTILE, dense_groups


@pytest.fixture(autouse=True)
def no_colour_asked_for(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def an_evaluation(confusion, classes, **fields):
    confusion = np.asarray(confusion, dtype=np.int64)
    names = {"head": "lr0.003", "data_set": "hymenoptera", "split": "test"}
    return Evaluation(classes=classes, confusion=confusion, **(names | fields))


def drive_act():
    """34 classes, 259,865 frames, one class absent, counts of up to five digits."""
    random = np.random.default_rng(0)
    confusion = random.integers(0, 400, (34, 34)) + np.diag(random.integers(0, 9000, 34))
    confusion[DRIVE_ACT.index("opening_backpack")] = 0
    confusion[DRIVE_ACT.index("sitting_still"), DRIVE_ACT.index("sitting_still")] = 78_000
    return an_evaluation(confusion, DRIVE_ACT, data_set="daa", split="val")


def digits():
    return an_evaluation(np.eye(10, dtype=np.int64) * 40 + 3, tuple("0123456789"), data_set="digits")


def ants_and_bees(**fields):
    return an_evaluation([[28, 12], [1, 52]], ("ants", "bees"), **fields)


def hostile():
    return an_evaluation(np.eye(len(HOSTILE)) * 5 + 1, HOSTILE, head="\x1b[2J", data_set="a\nb", notes=("[red]\x07",))


def drawn(evaluation, width, **options):
    out = io.StringIO()
    print_evaluation(evaluation, Console(file=out, width=width, **options))
    return out.getvalue()


def table_rows(text):
    """The lines of the table of classes, without its heading."""
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if "───" in line)
    rows = lines[rule + 1 :]
    return [row for row in rows[: rows.index("")] if not row.startswith("–:")]


@pytest.mark.parametrize("width", [100, 60])
@pytest.mark.parametrize("make", [ants_and_bees, digits, drive_act, hostile])
def test_no_line_is_wider_than_the_terminal_and_no_row_wraps(make, width):
    """In 100 and in 60 columns every line fits, and every class has exactly one line in the table."""
    evaluation = make()
    text = drawn(evaluation, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert len(table_rows(text)) == len(evaluation.classes)


@pytest.mark.parametrize("width", [100, 80, 79, 60])
@pytest.mark.parametrize("make", [drive_act, hostile])
def test_only_names_are_cut(make, width):
    """However long the names, every heading and figure of the table is there in full, to the last column."""
    evaluation = make()
    text = drawn(evaluation, width)
    (heading,) = (line.split() for line in text.splitlines() if line.startswith("class "))
    assert heading == ["class", "support", "recall", "precision" if width >= 80 else "prec.", "F1"]
    order = np.argsort(evaluation.recall, kind="stable")
    for i, row in zip(order, table_rows(text), strict=True):
        assert row.split()[-1] == f"{100 * evaluation.f1[i]:.1f}"
        assert f" {evaluation.support[i]:,} " in row


@pytest.mark.parametrize("width", [20, 40, 200, 400])
@pytest.mark.parametrize("make", [ants_and_bees, drive_act, hostile])
def test_other_widths_still_draw(make, width):
    """A very narrow and a very wide terminal get a report too, of lines that fit."""
    assert max(map(cell_len, drawn(make(), width).splitlines())) <= width


@pytest.mark.parametrize("make", [ants_and_bees, digits, drive_act, hostile])
def test_piped_output_is_plain(make):
    """Where the output is no terminal there is no escape and no other control character in it."""
    assert all(line.isprintable() for line in drawn(make(), 100).splitlines())


def test_colour_only_adds_to_what_is_there():
    """A terminal with colours shows the very characters that a pipe gets: nothing is said by colour alone."""
    coloured = drawn(digits(), 100, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    out = io.StringIO()
    Console(file=out, width=100).print(Text.from_ansi(coloured), end="")
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        line.rstrip() for line in drawn(digits(), 100).splitlines()
    ]


def test_each_unit_names_the_class_of_its_own_baseline():
    """By clip another class may be the largest than by image: two sentences then, each with its unit; else one."""
    images = an_evaluation([[2, 0], [0, 9]], ("ant", "bee"))
    clips = replace(an_evaluation([[3, 0], [0, 1]], ("ant", "bee")), by="clip")
    text = " ".join(drawn(replace(clips, beside=images), 100).split())
    assert "baseline by clip: always predicting ant, the largest class" in text
    assert "baseline by image: always predicting bee, the largest class" in text
    same = replace(clips, beside=an_evaluation([[2, 0], [0, 1]], ("ant", "bee")))
    assert drawn(same, 100).count("baseline: always predicting ant, the largest class") == 1


def test_the_headline_names_a_head_as_compare_lists_it():
    """Its number stands before its name, with the name that a person gave it."""
    text = drawn(ants_and_bees(handle="#3 baseline (lr0.003-1a2b3c4d)"), 100)
    assert text.startswith("hymenoptera · test\nhead #3 baseline (lr0.003-1a2b3c4d)\n")


def test_the_headline_sets_the_scores_beside_the_baseline():
    """Accuracy and macro recall stand beside what always predicting the largest class reaches."""
    text = drawn(ants_and_bees(failed=2, selected_by="macro recall on val"), 100)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("hymenoptera · test\nhead lr0.003, chosen by macro recall on val\n")
    assert "93 images; 2 more could not be embedded and are left out" in text
    assert ["accuracy", "86.0", "%", "57.0", "%"] in lines
    assert ["2", "classes", "84.1", "%", "50.0", "%"] in [line[-6:] for line in lines]
    assert "baseline: always predicting bees, the largest class" in text


@pytest.mark.parametrize("width", [100, 60])
def test_every_note_is_shown_in_full(width):
    """A note is never cut, in a narrow terminal neither."""
    notes = (
        "the trunk is random (seed 0): these scores show the pipeline and not the model",
        "[red]another[/red]",
    )
    text = " ".join(drawn(ants_and_bees(notes=notes), width).split())
    for note in notes:
        assert f"note: {note}" in text


def test_classes_are_sorted_by_recall_and_absent_ones_stand_last():
    """Lowest recall first; a class without images is last, its recall a dash and not 0."""
    confusion = [[9, 1, 0, 0], [0, 0, 0, 0], [5, 0, 5, 0], [0, 0, 4, 0]]
    rows = table_rows(drawn(an_evaluation(confusion, ("good", "absent", "half", "none")), 100))
    assert [row.split()[0] for row in rows] == ["none", "half", "good", "absent"]
    assert rows[-1].split() == ["absent", "0", "–", "no", "images", "0.0", "0.0"]
    assert rows[0].split() == ["none", "4", "0.0", "–", "0.0"]


def test_bars_are_as_long_as_recall():
    """The bar of recall 1 is full, that of 0.5 half as long, that of 0 empty."""
    rows = table_rows(drawn(an_evaluation([[4, 0, 0], [2, 2, 0], [4, 0, 0]], ("all", "half", "no")), 100))
    assert [row.count("█") for row in rows] == [0, 8, 16]


def test_confusions_are_sentences():
    """The largest confusions are told in words, largest first; names that are no words are quoted."""
    text = drawn(ants_and_bees(), 100)
    first, second = (text.index(s) for s in (
        "12 of 40 ants were taken for bees (30 %)", "1 of 53 bees was taken for ants (2 %)",
    ))  # fmt: skip
    assert first < second
    assert "3 of 70 “0” were taken for “1” (4 %)" in drawn(digits(), 100)
    assert "1 of 1,000 a was taken for b (under 1 %)" in drawn(an_evaluation([[999, 1], [0, 5]], ("a", "b")), 100)


def test_a_long_sentence_is_broken_before_its_verb():
    """A confusion of two long names in a narrow terminal is two lines, neither of them wrapped or cut."""
    classes = ("putting_laptop_into_backpack", "taking_laptop_from_backpack")
    text = drawn(an_evaluation([[1, 1234], [0, 1]], classes), 60)
    lines = text.splitlines()
    first = lines.index("  1,234 of 1,235 putting_laptop_into_backpack")
    assert lines[first + 1] == "    were taken for taking_laptop_from_backpack (100 %)"


def test_a_perfect_head_has_no_confusions():
    """Where every prediction is right the report says so."""
    assert "no confusions: every prediction is right" in drawn(an_evaluation(np.eye(3), ("a", "b", "c")), 100)


def test_the_matrix_marks_its_diagonal():
    """Counts stand in a grid headed by short names, right answers in brackets, empty cells as a dot."""
    text = drawn(an_evaluation([[28, 12], [0, 53]], ("ants", "bees")), 60)
    assert "\n      ants  bees\nants [  28]   12\nbees     · [  53]\n" in text
    assert "rows: truth; columns: prediction; cells: images; [ ]: right" in text


def test_the_matrix_shows_shares_where_counts_do_not_fit():
    """34 classes fit 140 columns as per cent of the row, under numbers that the rows' names carry too."""
    text = drawn(drive_act(), 150)
    assert "cells: % of the row" in text
    assert "\n 1 closing_bottle " in text
    assert "\n34 writing " in text


@pytest.mark.parametrize("width", [100, 60])
def test_a_matrix_that_does_not_fit_says_where_it_is(width):
    """34 classes do not fit 100 columns: one line says so and names --png and --csv."""
    text = " ".join(drawn(drive_act(), width).split())
    assert f"34 classes do not fit {width} columns; --png FILE draws it, --csv FILE writes it" in text
    assert "confusion matrix" in text


def test_without_rows_there_is_a_report_all_the_same():
    """An evaluation of no rows draws dashes, and neither confusions nor a matrix."""
    text = drawn(an_evaluation(np.zeros((2, 2)), ("ants", "bees")), 60)
    assert "0 images" in text
    assert text.count("no images") == 2
    assert "confusion" not in text


def test_clips_are_called_clips():
    """An evaluation by clip counts clips, not images."""
    text = drawn(ants_and_bees(by="clip"), 100)
    assert "93 clips" in text
    assert "image" not in text


@pytest.mark.parametrize("name", ["[bold]loud[/bold]", "[/]", ":smile:", "[link=file:///etc]x[/link]"])
def test_markup_in_a_name_is_text(name):
    """Markup and emoji codes of rich in a class name are shown as they are written."""
    assert name in drawn(an_evaluation([[1, 2], [0, 5]], (name, "b")), 100)


def with_intervals(make):
    evaluation = make()
    share = np.arange(1, 8)[:, None] / 28  # of seven people, each with as much of every class
    hits, rows = (np.floor(share * count)[:, None] for count in (evaluation.confusion.diagonal(), evaluation.support))
    found = bootstrap_intervals(
        dense_groups("subject", np.minimum(hits, rows), rows, np.ones(7, np.int64)), resamples=500
    )
    clips = replace(evaluation, by="clip", rule="mean-logit", intervals=found)
    return replace(evaluation, intervals=found, beside=clips)


@pytest.mark.parametrize("width", [100, 80, 60, 40])
@pytest.mark.parametrize("make", [ants_and_bees, digits, drive_act, hostile])
def test_intervals_and_the_other_unit_fit_too(make, width):
    """By image and by clip side by side, an interval a class: every line fits, no figure is cut, all is inert."""
    evaluation = with_intervals(make)
    text = drawn(evaluation, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert all(line.isprintable() for line in text.splitlines())
    if width < 60:
        return
    order = np.argsort(evaluation.recall, kind="stable")
    for i, row in zip(order, table_rows(text), strict=True):
        assert row.split()[-1] == f"{100 * evaluation.f1[i]:.1f}"
        interval = evaluation.intervals.recall[i]
        if interval is not None:
            low, high = 100 * interval.low, 100 * interval.high
            assert (f"{low:.1f}-{high:.1f}" if width >= 80 else f"{low:.0f}-{high:.0f}") in row
    joined = " ".join(text.split())
    assert "by clip (mean logit)" in joined
    assert "500 resamples of 7 subjects" in joined
    low, high = 100 * evaluation.intervals.accuracy.low, 100 * evaluation.intervals.accuracy.high
    assert text.count(f"{low:.1f} to {high:.1f}") >= 2
