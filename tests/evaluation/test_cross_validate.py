"""Cross-validation: no row is predicted by a head that has seen it, its subject or its clip."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache import DataError, UsageError
from featcache.heads.config import HeadConfig
from featcache.heads.row_folds import divide_rows
from featcache.heads.training import train_heads
from tests.builders import features, record_clusters
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
FAST = {"lr": 0.1, "epochs": 5, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def where(tmp_path):
    record_clusters(tmp_path, "train", "val", "test")
    return {"data": "/data/toy", "cache": tmp_path}


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from(["subject", "clip", "image"]), st.integers(20, 60))
def test_no_group_stands_in_two_folds_and_the_seed_decides(seed, folds, by, rows):
    """Subjects, clips (rows without one are their own), files of the same bytes: each in one fold; all rows in one."""
    rng = np.random.default_rng(seed)
    names = tuple(f"g{group}" if group else "" for group in rng.integers(by == "subject", 12, rows))
    digests = np.zeros((rows, 32), np.uint8)
    digests[:, 0] = rng.integers(0, 15, rows) if by == "image" else np.arange(rows)
    of = features(
        np.zeros((rows, 2), np.float32), np.arange(rows) % 2, 2, paths=tuple(map(str, range(rows))), digests=digests,
        clips=names if by == "clip" else ("",) * rows, subjects=names if by == "subject" else ("",) * rows,
    )  # fmt: skip
    groups = [f"{name}" or f"row {row}" for row, name in enumerate(names)]
    if by == "image":
        groups = [bytes(row).hex() for row in digests]
    if len(set(groups)) < folds:
        return
    fold = divide_rows(of, by, folds, seed)
    assert len(set(zip(groups, fold.tolist(), strict=True))) == len(set(groups))
    assert set(fold.tolist()) <= set(range(folds))
    np.testing.assert_array_equal(fold, divide_rows(of, by, folds, seed))


def test_every_row_is_predicted_by_a_head_of_the_other_folds(where):
    """Trained anew on the rows of the other folds alone, a head gives the very probabilities of the fold."""
    result = featcache.cross_validate(3, **FAST, **where)
    unseen = result.unseen
    assert sorted(path for part in result.folds.values() for path in part.paths) == sorted(unseen.rows.paths)
    assert len(unseen.rows.paths) == 60
    config = HeadConfig(lr=0.1, epochs=5, batch_size=16)
    for number, part in result.folds.items():
        others = unseen.fold != number
        rows = features(unseen.rows.x[others], unseen.rows.y[others], unseen.rows.classes)
        (head,) = train_heads(rows, None, [config])
        logits = head.logits(unseen.rows.x[~others])
        np.testing.assert_array_equal(part.predicted, logits.argmax(axis=1))
        assert not set(part.paths) & {
            path for other in result.folds if other != number for path in result.folds[other].paths
        }
    again = featcache.cross_validate(3, **FAST, **where)
    np.testing.assert_array_equal(again.unseen.probabilities, unseen.probabilities)
    assert (featcache.cross_validate(3, **FAST, seed=1, **where).unseen.fold != unseen.fold).any()


def test_of_several_settings_the_best_over_all_rows_is_shown(where):
    """Each setting's score is that of all rows; the notes say that the choice flatters it."""
    result = featcache.cross_validate(3, **{**FAST, "lr": [1e-6, 0.1]}, **where)
    document = result.to_json()
    assert (document["best"], document["selected_by"]) == (1, "macro recall over all rows")
    assert document["heads"][1]["macro_recall"] == result.evaluation.macro_recall
    assert document["heads"][0]["macro_recall"] < result.evaluation.macro_recall
    assert "a little too high" in result.evaluation.notes[0]
    assert "each trained without the rows that it predicts" in result.evaluation.sentence


def test_test_is_left_alone_and_no_head_is_kept(where, tmp_path):
    """Rows of train and val alone; the cache has no more files than before."""
    before = sorted(path for path in tmp_path.rglob("*") if "heads" in path.parts)
    result = featcache.cross_validate(2, **FAST, **where)
    assert result.unseen.splits == ("train", "val")
    assert not any(path.startswith("test") for path in result.unseen.rows.paths)
    assert sorted(path for path in tmp_path.rglob("*") if "heads" in path.parts) == before


def test_what_cannot_be_is_one_sentence(where, tmp_path):
    """One fold; more folds than people; patience, which would choose by the rows that are to be unseen."""
    with pytest.raises(UsageError, match="found 1, expected 2 to 100 folds"):
        featcache.cross_validate(1, **FAST, **where)
    with pytest.raises(UsageError, match="patience would choose"):
        featcache.cross_validate(3, **FAST, patience=2, **where)
    record_clusters(tmp_path / "people", "train", subject="ann")
    with pytest.raises(DataError, match="needs 3 subjects or more"):
        featcache.cross_validate(3, **FAST, data="/data/toy", cache=tmp_path / "people")


def test_the_command_writes_one_file_and_says_who_was_left_out(where, tmp_path, run):
    """`--predictions rows.csv` has a row an image with its fold; flags that are about kept heads are refused."""
    words = ["fit-head", "--data", where["data"], "--cache", where["cache"], "--lr", "0.1", "--epochs", "5"]
    told = run(*words, "--cross-validate", "3", "--predictions", tmp_path / "rows.csv")
    assert told.code == 0, told.err
    assert "in 3 folds by image" in told.out
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    document = json.loads(run(*words, "--cross-validate", "3", "--json").out)
    assert document["report"]["rows"] == sum(fold["rows"] for fold in document["folds"]) == 60
    assert run(*words, "--cross-validate", "3", "--no-check").code == 2
    assert run(*words, "--predictions", tmp_path / "rows.csv").code == 2
