"""Heads on labels or numbers over several folds: each fold's own head, and averages with intervals."""

import csv
import json

import numpy as np
import pytest

import featcache
from featcache import CacheError, UsageError
from featcache.metrics import label_figures, label_intervals, mean_intervals, value_intervals
from featcache.metrics.target_intervals import figures_of_values
from tests.conftest import single_thread
from tests.target_rows import draw_targets, record_targets, type_in_process

one_thread = pytest.fixture(autouse=True)(single_thread)
typed = pytest.fixture(type_in_process)
FAST = {"epochs": 3, "batch_size": 16, "device": "cpu"}
FOLDS = {"fold_column": "fold", "fold": 0}


@pytest.fixture(scope="module", params=["labels", "value"])
def where(request, tmp_path_factory):
    """The options of a data set of two folds with a head each, of three people a split."""
    cache, options = tmp_path_factory.mktemp("folds"), {}
    for fold in (0, 1):
        variant = f"fold{fold}-all-{request.param}"
        options = record_targets(cache, request.param, variant=variant, seed=fold, people=4, **FOLDS)
        featcache.fit_head(0.1, fold=fold, **FAST, **options)
    return options


def test_averages_are_the_means_of_the_folds_with_intervals(where):
    """Of every metric and of every label or number; JSON has each fold's own report."""
    both = featcache.evaluate_target_folds([0, 1], **where)
    each = [featcache.evaluate_targets(fold=fold, **where) for fold in (0, 1)]
    for name, value in both.metrics.items():
        assert value == pytest.approx(np.mean([fold.metrics[name] for fold in each]))
    np.testing.assert_allclose(both.outputs, np.mean([fold.outputs for fold in each], axis=0))
    interval = both.intervals.overall[0]
    assert interval.low < next(iter(both.metrics.values())) < interval.high
    document = json.loads(json.dumps(both.to_json(), allow_nan=False))
    assert [fold["fold"] for fold in document["folds"]] == [0, 1]
    assert document["rows"] == 80


def test_an_image_that_is_a_row_of_several_folds_is_drawn_once():
    """Without people or clips, copies of a row tell no more than the row."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (30, 2)).astype(float)
    figures = label_figures(truth, random.uniform(size=(30, 2)), np.full(2, 0.5))
    names, none = [f"{number:02}.png" for number in range(30)], [""] * 60
    twice = mean_intervals([figures, figures], [30, 30], 2, none, none, of_labels=True, paths=names * 2)
    once = mean_intervals([figures], [30], 2, none[:30], none[:30], of_labels=True)
    assert twice.groups == once.groups == 30
    for of_two, of_one in zip(twice.overall, once.overall, strict=True):
        assert (of_two.low, of_two.high) == pytest.approx((of_one.low, of_one.high))


def test_the_command_prints_writes_and_asks_for_the_page(where, tmp_path, typed):
    """A line a fold, the averages, a CSV with a column a fold, a page, and predictions with their fold."""
    words = ["report", "--pipeline", where["pipeline"], "--cache", where["cache"], "--folds", "0,1"]
    files = ["--csv", tmp_path / "f.csv", "--predictions", tmp_path / "p.csv"]
    told = typed(*words, *files)
    assert told.code == 0, told.err
    assert "2 folds" in told.out
    assert told.out.splitlines()[-1].startswith("next: featcache report --folds 0,1 --html folds.html ")
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    assert float(first["average"]) == pytest.approx((float(first["fold 0"]) + float(first["fold 1"])) / 2)
    with (tmp_path / "p.csv").open() as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["0"] * 40 + ["1"] * 40
    assert typed(*words, "--html", tmp_path / "f.html").code == 0
    page = (tmp_path / "f.html").read_text()
    assert "Average of 2 folds" in page
    assert "round" in page
    for flag, value in (("--against", "1"), ("--png", "x.png"), ("--conformal", "0.9")):
        refused = typed(*words, flag, value)
        assert (refused.code, flag in refused.err) == (2, True)


def test_what_cannot_be_averaged_is_one_sentence(where):
    """A fold twice, and one that has no head, with the command that makes it."""
    with pytest.raises(UsageError, match="--folds: found 0,0, expected different numbers"):
        featcache.evaluate_target_folds([0, 0], **where)
    with pytest.raises(CacheError, match=r"has no head for fold 5 \(it has one for fold 0\)"):
        featcache.evaluate_target_folds([0, 5], **where)


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_the_mean_of_one_head_has_the_intervals_of_that_head(kind):
    """To the bit, by people and by image; and the mean of a head and itself on the same rows has them, too."""
    x, truth = draw_targets(kind, 40, 0)
    answers = 1 / (1 + np.exp(-x[:, :3])) if kind == "labels" else truth + x[:, :3]
    half, is_labels = np.full(3, 0.5), kind == "labels"
    part = label_figures(truth, answers, half) if is_labels else figures_of_values(truth, answers)
    for people in (("",) * 40, tuple(f"p{row % 5}" for row in range(40))):
        groups = people, ("",) * 40
        alone = (
            label_intervals(truth, answers, half, *groups) if is_labels else value_intervals(truth, answers, *groups)
        )
        assert mean_intervals([part], [40], 3, *groups, of_labels=is_labels).overall == alone.overall
        twice = mean_intervals([part, part], 40, 3, *groups, of_labels=is_labels)
        for one, other in zip(twice.overall, alone.overall, strict=True):
            assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_a_person_of_two_folds_is_drawn_for_both():
    """So the interval of the mean over a fold and its twin is that of the fold; over other people's it is narrower."""
    x, truth = draw_targets("value", 40, 0)
    part, people = figures_of_values(truth, truth + x[:, :3]), tuple(f"p{row % 8}" for row in range(40))
    none, width = ("",) * 80, lambda interval: interval.high - interval.low
    same = mean_intervals([part, part], [40, 40], 3, people * 2, none, of_labels=False).overall[1]
    others = (*people, *(f"q{name}" for name in people))
    different = mean_intervals([part, part], [40, 40], 3, others, none, of_labels=False).overall[1]
    alone = value_intervals(truth, truth + x[:, :3], people, ("",) * 40).overall[1]
    assert width(same) == pytest.approx(width(alone))
    assert width(different) < 0.8 * width(same)
