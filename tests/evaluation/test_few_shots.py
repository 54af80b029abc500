"""Macro recall against the number of labels: the draws, the choice by val, the intervals, and what is shown."""

import json
import math

import numpy as np
import pytest

import featcache
from featcache import CacheError, DataError, UsageError
from featcache.evaluation.few_shots import widen_by_draws
from featcache.heads.config import HeadConfig
from featcache.heads.few_shots import predict_few_shots
from featcache.heads.shots import rank_labels
from featcache.heads.training import train_heads
from featcache.metrics import Interval
from featcache.report.render_few_shots import draw_interval
from tests.builders import features, record_clusters
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
FAST = {"lr": 0.1, "epochs": 5, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def where(tmp_path):
    record_clusters(tmp_path, "train", "val", "test")
    return {"data": "/data/toy", "cache": tmp_path}


def test_a_point_is_the_training_of_the_drawn_rows_alone(where):
    """Each draw's answers are those of a head that was trained on the drawn rows; all labels are one draw."""
    answers = predict_few_shots("2,all", 3, **FAST, **where)
    train = featcache.load("train", **where)
    test = featcache.load("test", **where)
    few, every = answers.levels
    assert (few.labels, every.labels, len(few.predicted), len(every.predicted)) == (6, 30, 3, 1)
    config = HeadConfig(lr=0.1, epochs=5, batch_size=16)
    for number, predicted in enumerate(few.predicted):
        rows = rank_labels(train, "image", 0, number) < 2
        (head,) = train_heads(features(train.x[rows], train.y[rows], train.classes), None, [config])
        np.testing.assert_array_equal(predicted, head.logits(test.x).argmax(axis=1))


def test_every_head_gets_the_same_draws_and_more_labels_score_more(where):
    """What val chooses of a grid scores what it scores alone; one label of each class is worse than all labels."""
    beside = featcache.few_shot_curve("1,all", 4, **{**FAST, "lr": [0.1, 1e-6]}, **where)
    chosen = beside.answers.levels[0].config.lr
    alone = featcache.few_shot_curve([1, "all"], 4, **{**FAST, "lr": chosen}, **where)
    assert alone.points[0] == beside.points[0]
    assert alone.points[0].macro_recall < alone.points[1].macro_recall
    assert alone.answers.val_rows is None
    assert beside.answers.val_rows == 30
    assert "whose 30 labels are not counted" in beside.sentences[-1]


def test_the_interval_covers_the_draws_beside_the_rows(where):
    """It is no narrower than the draws make it; without spread it is that of the rows; of one draw there is none."""
    curve = featcache.few_shot_curve("1", 5, **FAST, **where)
    (point,) = curve.points
    values = np.array(point.macro_recalls)
    reach = 2.776 * values.std(ddof=1) / math.sqrt(5)
    assert point.interval.low <= values.mean() - min(reach, values.mean()) + 1e-9
    assert widen_by_draws(Interval(0.4, 0.6), [0.5, 0.5]) == pytest.approx(Interval(0.4, 0.6))
    assert widen_by_draws(Interval(0.4, 0.6), [0.5]) is None
    assert widen_by_draws(None, [0.5, 0.6]) is None


def test_val_is_scored_where_there_is_no_test_and_the_choice_is_said(tmp_path):
    """Then the settings are chosen by the rows that are scored; without val nothing can choose."""
    record_clusters(tmp_path / "two", "train", "val")
    where = {"data": "/data/toy", "cache": tmp_path / "two"}
    curve = featcache.few_shot_curve("1", 2, **{**FAST, "lr": [0.1, 0.01]}, **where)
    assert curve.split == "val"
    assert curve.sentences[-1].endswith("and these scores a little too high")
    record_clusters(tmp_path / "one", "train")
    with pytest.raises(CacheError, match="--shots scores heads on test, or on val, and the cache has neither"):
        featcache.few_shot_curve("1", 2, **FAST, data="/data/toy", cache=tmp_path / "one")
    record_clusters(tmp_path / "test", "train", "test")
    with pytest.raises(CacheError, match="a choice among 2 heads needs a val split"):
        featcache.few_shot_curve("1", 2, **{**FAST, "lr": [0.1, 0.01]}, data="/data/toy", cache=tmp_path / "test")


def test_what_cannot_be_is_one_sentence(where, tmp_path):
    """Too many shots, none, no draws, and people who stand on both sides."""
    with pytest.raises(DataError, match="--shots 99: class"):
        featcache.few_shot_curve("99", 2, **FAST, **where)
    with pytest.raises(UsageError, match="--shots: found '0'"):
        featcache.few_shot_curve("0", 2, **FAST, **where)
    with pytest.raises(UsageError, match="--tries: found 0"):
        featcache.few_shot_curve("1", 0, **FAST, **where)
    record_clusters(tmp_path / "people", "train", "test", subject="ann")
    with pytest.raises(CacheError, match="share 1 subject"):
        featcache.few_shot_curve("1", 2, **FAST, data="/data/toy", cache=tmp_path / "people")


def test_a_dot_stands_in_its_interval():
    """The ends of the picture are the floor and 1; the dot is at the mean."""
    point = featcache.FewShotPoint(
        shots=1,
        labels=3,
        settings="lr0.1",
        macro_recalls=(0.7, 0.8),
        accuracies=(0.7, 0.8),
        interval=Interval(0.5, 1.0),
    )
    assert draw_interval(point, 0.5, 11) == "├────●────┤"


def test_the_command_draws_the_curve_and_writes_its_page(where, tmp_path, run):
    """The table has a row a number of labels and a picture; the page and the JSON have the same figures."""
    words = ["fit-head", "--data", where["data"], "--cache", where["cache"], "--lr", "0.1", "--epochs", "5"]
    shown = run(*words, "--shots", "1,2,all", "--tries", "3", "--html", tmp_path / "curve.html")
    assert shown.code == 0, shown.err
    assert "●" in shown.out
    assert "toy · test: macro recall over 30 images" in shown.out
    page = (tmp_path / "curve.html").read_text("utf-8")
    assert page.count("<circle") == 3
    document = featcache.few_shot_curve("1,2,all", 3, lr=0.1, epochs=5, **where).to_json()
    assert [point["shots"] for point in document["points"]] == [1, 2, "all"]
    assert [point["labels"] for point in document["points"]] == [3, 6, 30]
    assert len(json.loads(json.dumps(document))["points"][0]["macro_recall_of_draws"]) == 3
    assert "no effect with --shots" in run(*words, "--shots", "1", "--no-check").err
    assert "1,all" in run(*words, "--shots", "1,99").err.splitlines()[-1]
