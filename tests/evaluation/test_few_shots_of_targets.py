"""Few images with several labels, or with numbers: the draws, the choice by val, the metric and its interval."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, r2_score

import featcache
from featcache import DataError, UsageError
from featcache.heads import HeadConfig, answers_of, predict_few_shots, take_rows
from featcache.heads.shots import rank_labels
from featcache.heads.training import train_heads
from tests.conftest import single_thread
from tests.target_rows import record_targets, type_in_process

one_thread = pytest.fixture(autouse=True)(single_thread)
typed = pytest.fixture(type_in_process)
FAST = {"lr": 0.1, "epochs": 5, "batch_size": 16, "device": "cpu"}
METRIC = {"labels": "mean_average_precision", "value": "r2"}


@pytest.fixture(scope="module", params=["labels", "value"])
def where(request, tmp_path_factory):
    """A data set of four people a split, and the kind of its targets."""
    return record_targets(tmp_path_factory.mktemp("shots"), request.param, people=4)


@pytest.fixture
def kind(where):
    return "labels" if "labels" in where["pipeline"] else "value"


def test_a_draw_is_the_training_of_so_many_images_and_its_metric_is_scikit_learns(where, kind):
    """As many images in all, of different people first; answers and scores are those of a head on these rows alone."""
    answers = predict_few_shots("4,all", 2, **FAST, **where)
    curve = featcache.few_shot_curve("4,all", 2, **FAST, **where)
    train, test = featcache.load("train", **where), featcache.load("test", **where)
    few, every = answers.levels
    assert (few.labels, every.labels, len(few.answers), len(every.answers)) == (4, 40, 2, 1)
    loss = "binary_cross_entropy" if kind == "labels" else "squared_error"
    for number, of_draw in enumerate(few.answers):
        chosen = rank_labels(train, "subject", 0, number) < 4
        assert len(set(np.array(train.subjects)[chosen])) == 4
        (head,) = train_heads(take_rows(train, chosen), None, [HeadConfig(lr=0.1, epochs=5, batch_size=16, loss=loss)])
        alone = answers_of(kind, head.logits(test.x).astype(np.float64))
        np.testing.assert_array_equal(of_draw, alone)
        score = average_precision_score if kind == "labels" else r2_score
        assert curve.points[0].draws[number] == pytest.approx(score(test.targets.values, alone))
    assert curve.metric == METRIC[kind]
    assert curve.points[0].mean < curve.points[1].mean


def test_val_chooses_and_the_interval_holds_the_mean(where, kind):
    """What is chosen of a grid scores what it scores alone; every draw lies beside the mean, and JSON has them."""
    beside = featcache.few_shot_curve("8,all", 3, **{**FAST, "lr": [0.1, 1e-6]}, **where)
    chosen = beside.answers.levels[0].config.lr
    alone = featcache.few_shot_curve([8, "all"], 3, **{**FAST, "lr": chosen}, **where)
    assert alone.points[0] == beside.points[0]
    point = beside.points[0]
    assert point.interval.low < point.mean < point.interval.high <= 1
    assert "whose 40 images are not counted" in beside.sentences[-1]
    assert "the images are drawn 3 times, from as many subjects as there are" in beside.sentences[0]
    assert any("do not decide what is drawn" in sentence for sentence in beside.sentences) == (kind == "labels")
    document = json.loads(json.dumps(beside.to_json(), allow_nan=False))
    assert document["targets"] == kind
    metric = document["points"][0]["metrics"][METRIC[kind]]
    assert metric["mean"] == pytest.approx(np.mean(metric["of_draws"]))


def test_the_command_draws_the_curve_of_the_targets_metric(where, kind, tmp_path, typed):
    """A row a number of images, without a column of classes, on the terminal and on the page."""
    words = ["fit-head", "--pipeline", where["pipeline"], "--cache", where["cache"], "--lr", "0.1", "--epochs", "3"]
    told = typed(*words, "--shots", "2,8,all", "--tries", "2", "--html", tmp_path / "curve.html")
    assert told.code == 0, told.err
    name = {"labels": "mean average precision", "value": "R2"}[kind]
    assert f"toy · test: {name} over 40 images, by images of train" in told.out
    assert "a class" not in told.out
    page = (tmp_path / "curve.html").read_text("utf-8")
    assert page.count("<circle") == 3
    assert "labels of each class" not in page
    refused = typed(*words, "--shots", "99")
    assert "--shots 99: train has only 40 images; name at most 40, or 'all'" in refused.err


def test_what_cannot_be_is_one_sentence(where, kind):
    """More images than there are, a metric of classes, and a head that diverges."""
    with pytest.raises(DataError, match="--shots 41: train has only 40 images"):
        featcache.few_shot_curve("41", 2, **FAST, **where)
    with pytest.raises(UsageError, match="--select: found accuracy"):
        featcache.few_shot_curve("4", 2, **FAST, select="accuracy", **where)
    if kind == "value":
        with pytest.raises(UsageError, match="diverged in a draw; lower --lr"):
            featcache.few_shot_curve("4", 2, **{**FAST, "lr": 1e30, "clip_norm": None}, **where)
