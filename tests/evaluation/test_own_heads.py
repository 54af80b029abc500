"""A head of one's own: a function from embeddings to scores in evaluate, compare, evaluate_pair and save_report."""

import json

import numpy as np
import pytest
import torch

import featcache
from featcache import CacheError, UsageError
from tests.builders import CLASSES, DIM, fit_head, record_clusters

WHERE = {"data": "/data/toy"}


@pytest.fixture
def where(tmp_path):
    record_clusters(tmp_path, "train", "val", "test")
    return {**WHERE, "cache": tmp_path}


def centroids(where):
    """The distance to each class's mean on train, as a function: an honest head of one's own."""
    train = featcache.load("train", **where)
    means = np.stack([train.x[train.y == label].mean(axis=0) for label in range(len(train.classes))])

    def nearest_centroid(x):
        return -np.linalg.norm(x[:, None] - means, axis=2)

    return nearest_centroid


def test_a_function_is_evaluated_as_a_head_is(where):
    """Its highest score is the prediction; the report has intervals, calibration, its name, and says what it is."""
    function = centroids(where)
    evaluation = featcache.evaluate(function, **where)
    test = featcache.load("test", **where)
    assert evaluation.accuracy == (function(test.x).argmax(axis=1) == test.y).mean()
    assert (evaluation.head, evaluation.split, evaluation.selected_by) == ("nearest_centroid", "test", "")
    assert evaluation.intervals is not None
    assert evaluation.calibration is not None
    assert any("a function of Python" in note for note in evaluation.notes)
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_it_gives_what_the_saved_head_gives(where, tmp_path):
    """The logits of a saved head as a function: the same matrix, the same probabilities but for its temperature."""
    best = fit_head(tmp_path).best
    head = best.head
    (best.folder / "temperature.json").unlink()
    saved, own = featcache.predict_split(**where), featcache.predict_split(head.logits, **where)
    np.testing.assert_array_equal(own.predicted, saved.predicted)
    np.testing.assert_allclose(own.probabilities, saved.probabilities, atol=1e-6)
    assert featcache.evaluate_pair(head.logits, "best", **where).accuracy == 0


def test_a_method_is_called_by_its_class_too(where):
    """`predict_proba` alone would say nothing; an object that can be called is called by its class."""
    means = centroids(where)

    class Mine:
        def scores(self, x):
            return means(x)

        __call__ = scores

    assert [featcache.evaluate(function, **where).head for function in (Mine().scores, Mine())] == [
        "Mine.scores", "Mine",
    ]  # fmt: skip


def test_probabilities_are_taken_as_they_are_and_scores_through_a_softmax(where):
    """Rows without a negative score that sum to 1 are probabilities; a tensor that needs gradients is an array."""
    shares = np.array([0.7, 0.2, 0.1])
    layer = torch.nn.Linear(DIM, len(CLASSES))
    assert featcache.predict_split(lambda x: np.tile(shares, (len(x), 1)), **where).probabilities[0].tolist() == (
        pytest.approx(shares)
    )
    own = featcache.predict_split(lambda x: layer(torch.from_numpy(x)), **where)
    np.testing.assert_allclose(own.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert own.probabilities.std() > 0


def test_it_stands_in_the_comparison_under_the_name_that_it_is_given(where, tmp_path):
    """With its scores on val, or on the split that is named, in the order of merit; without a saved head, too."""
    function = centroids(where)
    (alone,) = featcache.compare(heads={"mine": function}, **where).heads
    assert (alone.name, alone.classifier, alone.split) == ("mine", "function", "val")
    fit_head(tmp_path)
    for split in (None, "test"):
        comparison = featcache.compare(split=split, heads={"mine": function, "worse": lambda x: -function(x)}, **where)
        recalls = [head.scores.macro_recall for head in comparison.heads]
        assert recalls == sorted(recalls, reverse=True)
        mine = next(head for head in comparison.heads if head.name == "mine")
        assert mine.scores.accuracy == featcache.evaluate(function, split=split or "val", **where).accuracy
        json.dumps(comparison.to_json(), allow_nan=False)


def test_it_has_a_page_a_picture_and_tables(where, tmp_path):
    """The page says that a function of Python made it, and gives no command that would fail."""
    function = centroids(where)
    for suffix in ("html", "png", "csv"):
        featcache.save_report(tmp_path / f"report.{suffix}", function, **where)
    page = (tmp_path / "report.html").read_text()
    assert "nearest_centroid" in page
    assert "# the head is a function of Python, which no command makes" in page
    assert "featcache report " not in page
    featcache.save_predictions(featcache.predict_split(function, **where), tmp_path / "rows.csv")
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda x: x[:, 0],
            r"scores of shape \(30,\), expected \(30, 3\): a row for each embedding",
        ),
        (lambda x: np.full((len(x), 3), np.nan), "returned nan or inf for 30 of 30 rows"),
        (lambda x: None, "returned"),
        (lambda x: [["a", "b", "c"]] * len(x), "expected numbers"),
    ],
)
def test_scores_that_are_none_are_refused(where, function, said):
    """Exit class 2, with what came back and what is expected."""
    with pytest.raises(UsageError, match=said):
        featcache.evaluate(function, **where)


def test_an_error_of_the_function_is_its_own(where):
    """It is not dressed up: what the function raises is what its author sees."""

    def broken(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        featcache.evaluate(broken, **where)


def test_a_split_that_is_not_there_is_missed(where):
    """As for a saved head: exit class 3."""
    with pytest.raises(CacheError, match="'none'"):
        featcache.evaluate(centroids(where), split="none", **where)
    with pytest.raises(UsageError, match="expected a non-empty string, a function or None"):
        featcache.evaluate(3, **where)


def test_what_it_predicts_is_kept_under_a_name_and_known_to_every_command(run, where, tmp_path):
    """`compare` ranks it by val, `report` gives the figures of the function on test; no code is in its folder."""
    function = centroids(where)
    kept = featcache.keep_head(function, "my-mlp", **where)
    assert kept.best.name.startswith("my-mlp-")
    assert sorted(path.name for path in kept.best.folder.iterdir()) == [
        "classifier.json", "predictions-test.safetensors", "predictions-val.safetensors",
    ]  # fmt: skip
    options = ["--data", where["data"], "--cache", where["cache"]]
    ran = run("compare", *options)
    assert (ran.code, "my-mlp-" in ran.out) == (0, True), ran.err
    ran = run("report", "my-mlp", "--json", "--html", tmp_path / "page.html", *options)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["accuracy"] == featcache.evaluate(function, **where).accuracy
    assert "which no command makes" in (tmp_path / "page.html").read_text()
    assert featcache.verify(cache=tmp_path) == []


def test_a_kept_head_that_was_not_asked_about_a_split_says_how_to_keep_it(where, tmp_path):
    """After a new extract its old predictions are not taken; new images cannot be predicted, nor can it be exported."""
    name = featcache.keep_head(centroids(where), "mine", **where).best.name
    with pytest.raises(CacheError, match=r"it is a function of Python.*featcache\.keep_head\(…, 'mine'\)"):
        featcache.evaluate(name, split="train", **where)
    with pytest.raises(CacheError, match=r"cannot predict anything new. Call the function on `featcache\.embed"):
        featcache.predict(name, ["x.png"], **where)
    with pytest.raises(UsageError, match="expected letters, digits"):
        featcache.keep_head(centroids(where), "../mine", **where)


def test_a_kept_head_has_its_name_as_one_given_by_a_person(where):
    """A name that stands for something else is refused; otherwise every command takes it, before any it begins like."""
    for name in ("best", "3"):
        with pytest.raises(UsageError, match="--head-name"):
            featcache.keep_head(centroids(where), name, **where)
    kept = featcache.keep_head(centroids(where), "mine", **where)
    assert kept.to_json()["given_name"] == "mine"
    assert featcache.evaluate("mine", **where).head == kept.best.name


def test_kept_again_under_its_name_it_is_replaced(where):
    """A better function under the same name is one head, not two."""
    featcache.keep_head(lambda x: np.zeros((len(x), 3)), "mine", **where)
    featcache.keep_head(centroids(where), "mine", **where)
    (head,) = featcache.compare(**where).heads
    assert head.scores.accuracy > 0.5
