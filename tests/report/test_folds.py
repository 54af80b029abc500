"""The average over folds as a page and as a table, from the command and from the library."""

import csv
import html
import html.parser
import math
import re

import numpy as np
import pytest

import featcache
from tests.report.drives import write_folds


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return write_folds(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def written(where, tmp_path_factory):
    """The average by clip of three folds, and its files."""
    folder = tmp_path_factory.mktemp("written")
    for suffix in ("html", "csv"):
        averaged = featcache.save_folds_report(folder / f"folds.{suffix}", [0, 1, 2], by="clip", **where)
    return averaged, folder


def test_the_table_has_the_averages_with_their_intervals_and_every_fold(written):
    """Macro recall and accuracy first, then recall and support of each class; a fold is a column."""
    averaged, folder = written
    with (folder / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_figure = {(row["figure"], row["class"]): row for row in rows}
    macro = by_figure["macro_recall", ""]
    assert float(macro["average"]) == averaged.macro_recall
    assert float(macro["low"]) == averaged.intervals.macro_recall.low
    assert [float(macro[f"fold {number}"]) for number in range(3)] == [fold.macro_recall for fold in averaged.folds]
    assert float(by_figure["accuracy", ""]["average"]) == averaged.accuracy
    for label, name in enumerate(averaged.folds[0].classes):
        recall, support = by_figure["recall", name], by_figure["support", name]
        assert float(recall["average"] or math.nan) == pytest.approx(averaged.recall[label], nan_ok=True)
        assert [int(support[f"fold {number}"]) for number in range(3)] == [
            int(f.support[label]) for f in averaged.folds
        ]
    assert len(rows) == 2 + 2 * len(averaged.folds[0].classes)


class Tags(html.parser.HTMLParser):
    """The tags of a page that are open at its end, and the ids that it has."""

    VOID = ("meta", "link", "input", "br", "rect", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_shows_the_average_first_and_every_fold_with_its_head(written):
    """It is whole, needs nothing from elsewhere, and has the figures that the evaluation has."""
    averaged, folder = written
    page = (folder / "folds.html").read_text()
    tags = Tags(page)
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    assert "Average of 3 folds" in page
    assert page.index(f"{100 * averaged.macro_recall:.1f} %") < page.index("Fold by fold")
    for fold in averaged.folds:
        assert fold.head in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "default-src 'none'; style-src 'sha256-" in html.unescape(page)
    assert "<script" not in page


def test_the_matrix_of_the_page_counts_the_rows_of_all_folds(written):
    """Its cells are the sum of the folds' matrices."""
    averaged, folder = written
    table = re.search(r'<table id="matrix">.*?</table>', (folder / "folds.html").read_text(), re.DOTALL)
    counts = sum(int(count) for count in re.findall(r"<b>(\d+)</b>", table[0]))
    assert counts == averaged.confusion.sum() == sum(fold.rows for fold in averaged.folds)
    np.testing.assert_array_equal(averaged.confusion, sum(fold.confusion for fold in averaged.folds))


def test_the_command_writes_the_files_of_the_library(run, where, written, tmp_path):
    """`report --folds` with --html, --csv and --predictions; it says what it wrote."""
    _, folder = written
    flags = [f"--{name}={tmp_path / f'folds.{name}'}" for name in ("html", "csv")]
    options = ["-p", where["pipeline"], "--data", where["data"], "--cache", where["cache"]]
    ran = run("report", "--folds", "0,1,2", "--by", "clip", *options, *flags, "--predictions", tmp_path / "rows.csv")
    assert ran.code == 0, ran.err
    for suffix in ("html", "csv"):
        assert (tmp_path / f"folds.{suffix}").read_bytes() == (folder / f"folds.{suffix}").read_bytes()
    assert ran.out.count("\nwrote ") == 3
    featcache.save_predictions(featcache.predict_folds([0, 1, 2], by="clip", **where), tmp_path / "ours.csv")
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_the_command_on_the_page_makes_the_page_again(run, where, written, tmp_path):
    """Pasted into a shell in another folder it gives the same bytes."""
    import shlex

    _, folder = written
    page = (folder / "folds.html").read_text()
    command = html.unescape(re.search(r"featcache report [^\n<]*", page)[0])
    words = shlex.split(command)[1:]
    ran = run(*words[:-1], tmp_path / "again.html")
    assert ran.code == 0, ran.err
    assert (tmp_path / "again.html").read_text() == page


def test_a_picture_of_an_average_is_refused(run, tmp_path):
    """With the way out, before anything is read."""
    ran = run("report", "--folds", "0,1", "--png", tmp_path / "x.png", "--data", tmp_path)
    assert (ran.code, "have its page with --html" in ran.err) == (2, True)
    with pytest.raises(featcache.UsageError, match=r"expected a name that ends in \.html or \.csv"):
        featcache.save_folds_report(tmp_path / "folds.png", [0, 1], data=str(tmp_path))
