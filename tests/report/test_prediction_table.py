"""One row an image: what a head predicts on a split, as CSV and as Parquet."""

import csv

import numpy as np
import pytest

import featcache
from featcache.evaluation import SplitPredictions
from featcache.report.prediction_table import save_split_predictions
from tests.report.drives import write_drives

COLUMNS = ["path", "truth", "prediction", "clip", "subject"]


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    drives = write_drives(tmp_path_factory.mktemp("drives"), rows=400)
    where = {"data": str(drives.root), "cache": drives.cache}
    featcache.fit_head(0.1, **where, epochs=2, device="cpu", check_seconds=None)
    return where


def some(classes=("=1+1", "bee"), **changes) -> SplitPredictions:
    """Two images of two classes."""
    fields = {
        "by": "image", "truth": np.array([0, 1]), "predicted": np.array([0, 0]), "classes": classes,
        "probabilities": np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32), "names": ("@a.png", "b.png"),
        "paths": ("@a.png", "b.png"), "clips": ("c1", ""), "subjects": ("", "-p"),
    }  # fmt: skip
    return SplitPredictions(**{**fields, **changes})


def read_csv(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_parquet(path):
    pq = pytest.importorskip("pyarrow.parquet")
    return pq.read_table(path)


def test_the_table_gives_the_figures_of_the_report(where, tmp_path):
    """Truth and prediction of its rows are the confusion matrix; a row's probabilities are those of the head."""
    predictions = featcache.predict_split(**where)
    featcache.save_predictions(predictions, tmp_path / "rows.csv")
    rows = read_csv(tmp_path / "rows.csv")
    evaluation = featcache.evaluate(**where)
    place = {name: number for number, name in enumerate(evaluation.classes)}
    confusion = np.zeros_like(evaluation.confusion)
    for row in rows:
        confusion[place[row["truth"]], place[row["prediction"]]] += 1
    np.testing.assert_array_equal(confusion, evaluation.confusion)
    assert list(rows[0]) == COLUMNS + [f"probability: {name}" for name in evaluation.classes]
    shares = np.array([[row[f"probability: {name}"] for name in evaluation.classes] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(shares, predictions.probabilities)
    assert tuple(row["subject"] for row in rows) == predictions.subjects


def test_parquet_holds_the_same_rows(where, tmp_path):
    """Text and float32 columns, by the same names as in the CSV file."""
    predictions = featcache.predict_split(by="clip", **where)
    for suffix in ("csv", "parquet"):
        featcache.save_predictions(predictions, tmp_path / f"rows.{suffix}")
    table, rows = read_parquet(tmp_path / "rows.parquet"), read_csv(tmp_path / "rows.csv")
    assert table.column_names == list(rows[0])
    for column in COLUMNS:
        assert table[column].to_pylist() == [row[column] for row in rows]
    shares = np.stack([table[name].to_numpy() for name in table.column_names[5:]], axis=1)
    np.testing.assert_array_equal(shares, predictions.probabilities)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_writes_the_file_of_the_library(run, where, tmp_path, suffix):
    """`report --predictions` and `save_predictions` give the same bytes; with `--by clip` a row is a clip."""
    pytest.importorskip("pyarrow")
    ours, theirs = tmp_path / f"ours.{suffix}", tmp_path / f"theirs.{suffix}"
    featcache.save_predictions(featcache.predict_split(by="clip", **where), ours)
    ran = run("report", "--by", "clip", "--data", where["data"], "--cache", where["cache"], "--predictions", theirs)
    assert ran.code == 0, ran.err
    assert f"wrote {theirs}\n" in ran.out
    assert ours.read_bytes() == theirs.read_bytes()


def test_no_name_is_run_as_a_formula_by_a_spreadsheet(tmp_path):
    """A path, a class or a subject that starts with = + - @ has an apostrophe before it in CSV, and none in Parquet."""
    save_split_predictions(some(), tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == (
        "path,truth,prediction,clip,subject,probability: =1+1,probability: bee\n"
        "'@a.png,'=1+1,'=1+1,c1,,0.9,0.1\n"
        "b.png,bee,'=1+1,,'-p,0.7,0.3\n"
    )
    save_split_predictions(some(), tmp_path / "rows.parquet")
    assert read_parquet(tmp_path / "rows.parquet")["truth"].to_pylist() == ["=1+1", "bee"]


def test_what_is_not_known_is_left_empty(tmp_path):
    """Votes of a classifier without probabilities, and nan of a head that diverged, are no probabilities."""
    nan = np.full((2, 2), np.nan, dtype=np.float32)
    for predictions in (some(has_probabilities=False), some(probabilities=nan)):
        save_split_predictions(predictions, tmp_path / "rows.csv")
        assert {row["probability: bee"] for row in read_csv(tmp_path / "rows.csv")} == {""}
        save_split_predictions(predictions, tmp_path / "rows.parquet")
        assert read_parquet(tmp_path / "rows.parquet")["probability: bee"].null_count == 2


def test_names_that_are_not_utf_8_are_kept(tmp_path):
    """As bytes in Parquet, as escapes in CSV."""
    predictions = some(classes=("caf\udce9", "bee"), paths=("\udcff.png", "b.png"))
    save_split_predictions(predictions, tmp_path / "rows.parquet")
    assert read_parquet(tmp_path / "rows.parquet")["path"].to_pylist() == [b"\xff.png", b"b.png"]
    save_split_predictions(predictions, tmp_path / "rows.csv")
    assert read_csv(tmp_path / "rows.csv")[0]["path"] == "\\udcff.png"


def test_the_folds_of_an_average_stand_below_one_another(tmp_path):
    """The first column says which fold a row is of, in both formats."""
    parts = {0: some(), 2: some()}
    featcache.save_predictions(parts, tmp_path / "rows.csv")
    assert [row["fold"] for row in read_csv(tmp_path / "rows.csv")] == ["0", "0", "2", "2"]
    featcache.save_predictions(parts, tmp_path / "rows.parquet")
    assert read_parquet(tmp_path / "rows.parquet")["fold"].to_pylist() == [0, 0, 2, 2]


def test_a_file_that_cannot_be_is_refused(run, tmp_path):
    """Another suffix, and a count: exit class 2, and the command says so before it looks for a cache."""
    with pytest.raises(featcache.UsageError, match=r"expected a name that ends in \.csv or \.parquet"):
        featcache.save_predictions(some(), tmp_path / "rows.xlsx")
    with pytest.raises(featcache.UsageError, match="count has no effect"):
        featcache.save_predictions(some(), tmp_path / "rows.csv", 3)
    ran = run("report", "--predictions", "rows.xlsx", "--data", tmp_path)
    assert (ran.code, "expected a name that ends in .csv or .parquet" in ran.err) == (2, True)
