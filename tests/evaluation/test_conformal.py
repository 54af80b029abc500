"""Conformal sets of a head on a split: calibrated on val alone, by image and by clip, by subject, in every output."""

import csv
import json
import re

import numpy as np
import pytest

import featcache
from featcache import CacheError, UsageError
from featcache.evaluation.conformal import SETS_ON_TRAIN
from tests.builders import fit_head, record_clusters
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def where(tmp_path):
    for split in ("train", "val", "test"):
        record_clusters(tmp_path, split, subject="" if split == "train" else f"person {split}")
    fit_head(tmp_path, 0.05)
    return {"data": "/data/toy", "cache": tmp_path}


def test_they_follow_from_the_probabilities_of_val_and_of_the_split(where):
    """The k-th largest probability of a true class on val; a class is in a set where it has as much on test."""
    val, test = (featcache.predict_split(split=split, **where) for split in ("val", "test"))
    of_truth = np.sort(val.probabilities[np.arange(30), val.truth])[::-1]
    expected = test.probabilities >= of_truth[int(np.ceil(31 * 0.8)) - 1]
    sets = featcache.predict_split(conformal=0.8, **where).sets
    np.testing.assert_array_equal(sets, expected)
    document = featcache.evaluate(conformal=0.8, **where).to_json()["conformal"]
    assert document["coverage"] == expected[np.arange(30), test.truth].mean()
    assert document["mean_size"] == expected.sum(axis=1).mean()
    assert (document["level"], document["calibrated_on"]) == (0.8, 30)
    assert document["subjects"] == [
        {"subject": "person test", "rows": 30, "coverage": document["coverage"], "mean_size": document["mean_size"]}
    ]
    assert sum(size["rows"] for size in document["sizes"]) == 30


def test_without_a_level_there_are_none_and_risk_is_there_all_the_same(where):
    """`conformal` is null; the curve ends at the share of wrong predictions."""
    found = featcache.evaluate(**where)
    document = found.to_json()
    assert document["conformal"] is None
    assert document["risk_coverage"]["curve"][-1] == {"coverage": 1.0, "risk": pytest.approx(1 - found.accuracy)}
    assert featcache.predict_split(**where).sets is None


def test_what_cannot_be_is_one_sentence(where, tmp_path):
    """A level of 90, val itself, a classifier without probabilities, several folds; no val at all."""
    with pytest.raises(UsageError, match="found 90, expected a share above 0 and below 1"):
        featcache.evaluate(conformal=90, **where)
    with pytest.raises(UsageError, match="calibrates the sets on val"):
        featcache.evaluate(conformal=0.9, split="val", **where)
    with pytest.raises(UsageError, match="sets are those of one head"):
        featcache.evaluate_folds([0, 1], conformal=0.9, **where)
    ridge = featcache.fit("ridge", **where).best.name
    with pytest.raises(UsageError, match="labels, not probabilities"):
        featcache.evaluate(ridge, conformal=0.9, **where)
    record_clusters(tmp_path / "other", "train", "test")
    fit_head(tmp_path / "other", 0.05)
    with pytest.raises(CacheError, match="val"):
        featcache.evaluate(conformal=0.9, data="/data/toy", cache=tmp_path / "other")


def test_on_val_alone_the_refusal_says_how_to_have_a_test_split(tmp_path, run):
    """With the extract to paste, after which fit-head and the report take the same share; where test is there, it."""
    record_clusters(tmp_path, "train", "val")
    fit_head(tmp_path, 0.05)
    options = ["--data", "/data/toy", "--cache", tmp_path, "--conformal", "0.9"]
    told = " ".join(run("report", *options).err.split())
    assert re.search(r"no test split to measure them on: run `featcache extract /data/toy [^`]*--test 0.15", told), told
    assert "then fit-head and this report with --test 0.15 as well" in told
    record_clusters(tmp_path, "test")
    assert "Name test with --split test" in run("report", *options, "--split", "val").err


def test_on_train_they_are_noted_as_worthless(where):
    """The head has seen these images."""
    assert SETS_ON_TRAIN in featcache.evaluate(conformal=0.9, split="train", **where).notes
    assert SETS_ON_TRAIN not in featcache.evaluate(conformal=0.9, **where).notes


def test_terminal_page_table_and_json_show_them(where, tmp_path, run):
    """`report --conformal 0.9 --json`, `--predictions` with a set a row, the page with its section, the terminal."""
    options = ["--data", where["data"], "--cache", where["cache"], "--conformal", "0.9"]
    told = run("report", *options, "--predictions", tmp_path / "rows.csv", "--html", tmp_path / "page.html")
    assert (told.code, "conformal sets at 90 %" in told.out) == (0, True), told.err
    document = json.loads(run("report", *options, "--json").out)["conformal"]
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert np.mean([row["truth"] in row["set"].split(" | ") for row in rows]) == pytest.approx(document["coverage"])
    assert np.mean([int(row["set size"]) for row in rows]) == pytest.approx(document["mean_size"])
    page = (tmp_path / "page.html").read_text()
    assert "Conformal sets at 90 %" in page
    assert "Risk against coverage" in page
    assert run("report", *options, "--against", "latest").code == 2
