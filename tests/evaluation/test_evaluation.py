"""An Evaluation: what follows from its confusion matrix, and its JSON."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featcache.evaluation.evaluation import Evaluation, evaluate_predictions
from featcache.metrics import calibration


def an_evaluation(confusion, classes=None, **fields):
    confusion = np.asarray(confusion, dtype=np.int64)
    classes = classes or tuple(f"class {i}" for i in range(len(confusion)))
    names = {"head": "lr0.003", "data_set": "hymenoptera", "split": "test"}
    return Evaluation(classes=classes, confusion=confusion, **(names | fields))


square = st.integers(1, 6).flatmap(lambda n: hnp.arrays(np.int64, (n, n), elements=st.integers(0, 30)))


def test_scores_of_a_matrix_worked_by_hand():
    """Support, recall, precision, F1, accuracy and macro recall are what a person computes by hand."""
    found = an_evaluation([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert (found.rows, found.classes_evaluated) == (10, 2)
    assert found.support.tolist() == [4, 6, 0]
    assert found.accuracy == 0.7
    np.testing.assert_allclose(found.recall, [3 / 4, 4 / 6, np.nan])
    np.testing.assert_allclose(found.precision, [3 / 5, 4 / 5, np.nan])
    np.testing.assert_allclose(found.f1, [6 / 9, 8 / 11, np.nan])
    assert found.macro_recall == pytest.approx((3 / 4 + 4 / 6) / 2)


@given(square)
def test_the_baseline_is_an_evaluation_of_predicting_the_largest_class(confusion):
    """Baseline accuracy and macro recall are those of a head that always predicts the largest class."""
    found = an_evaluation(confusion)
    if not found.rows:
        assert found.largest_class is None
        assert np.isnan([found.baseline_accuracy, found.baseline_macro_recall]).all()
        return
    always = np.zeros_like(confusion)
    always[:, found.largest_class] = found.support
    baseline = an_evaluation(always)
    assert found.baseline_accuracy == pytest.approx(baseline.accuracy)
    assert found.baseline_macro_recall == pytest.approx(baseline.macro_recall)
    assert all(found.baseline_accuracy >= share for share in found.support / found.rows)


def test_evaluate_predictions_counts_predictions():
    """Truth and predictions become the confusion matrix, and every name stands where it was given."""
    found = evaluate_predictions(
        np.array([0, 0, 1]), np.array([0, 1, 1]), ("ants", "bees"),
        head="h", data_set="d", split="val", by="image", failed=2, selected_by="x", notes=("n",),
    )  # fmt: skip
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert (found.head, found.data_set, found.split, found.by) == ("h", "d", "val", "image")
    assert (found.failed, found.selected_by, found.notes) == (2, "x", ("n",))


def test_an_evaluation_cannot_be_changed():
    """Assigning to a field raises."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        an_evaluation([[1]]).head = "another"


@pytest.mark.parametrize(
    ("classes", "confusion"),
    [
        (("a", "b"), np.ones((1, 1), np.int64)),
        (("a",), np.ones((1, 1))),
        (("a",), np.array([[-1]])),
        ((), np.ones((0, 0), np.int64)),
    ],
)
def test_a_matrix_that_is_none_is_refused(classes, confusion):
    """Another shape than the classes', shares for counts, negative counts and no classes are refused."""
    with pytest.raises(ValueError, match=r"class|expected counts"):
        Evaluation(head="h", data_set="d", split="s", classes=classes, confusion=confusion)


def test_json_has_the_keys_of_the_contract():
    """The document has the keys that architecture.md promises, the extra ones of the README, and no other."""
    document = an_evaluation([[3, 1], [0, 0]], ("ants", "bees"), failed=1, notes=("random trunk",)).to_json()
    promised = {
        "head",
        "split",
        "by",
        "rows",
        "accuracy",
        "macro_recall",
        "classes_evaluated",
        "classes",
        "confusion",
    }
    assert document.keys() == promised | {
        "failed", "data_set", "notes", "clip_rule", "intervals", "calibration", "temperature", "risk_coverage",
            "conformal", "beside", "chosen", "variant",
    }  # fmt: skip
    assert (document["head"], document["data_set"], document["split"]) == ("lr0.003", "hymenoptera", "test")
    assert (document["by"], document["rows"], document["failed"]) == ("image", 4, 1)
    assert (document["accuracy"], document["macro_recall"], document["classes_evaluated"]) == (0.75, 0.75, 1)
    assert document["classes"] == [
        {
            "name": "ants",
            "support": 4,
            "recall": 0.75,
            "precision": 1.0,
            "f1": pytest.approx(6 / 7),
            "recall_interval": None,
            "too_few": False,
        },
        {
            "name": "bees",
            "support": 0,
            "recall": None,
            "precision": 0.0,
            "f1": 0.0,
            "recall_interval": None,
            "too_few": False,
        },
    ]
    assert document["confusion"] == [[3, 1], [0, 0]]
    assert document["notes"] == ["random trunk"]


@given(square)
def test_json_is_strict_and_says_null_where_nothing_is_defined(confusion):
    """Any matrix, one without rows too, gives JSON without nan that reads back as it was."""
    found = an_evaluation(confusion)
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    for column, values in (("recall", found.recall), ("precision", found.precision), ("f1", found.f1)):
        assert [row[column] is None for row in document["classes"]] == np.isnan(values).tolist()
    assert (document["accuracy"] is None) == (document["macro_recall"] is None) == (not found.rows)


def test_hostile_names_pass_through_json_and_are_inert_in_it():
    """Names that are not UTF-8 or carry control characters come back exact, out of ASCII without controls."""
    classes = ("\x1b[31mred", "a\nb", "\u202etxt", "caf\udce9")
    text = json.dumps(an_evaluation(np.eye(4), classes).to_json(), allow_nan=False)
    assert text.isascii()
    assert text.isprintable()
    assert tuple(row["name"] for row in json.loads(text)["classes"]) == classes


def test_each_bin_of_the_calibration_has_its_interval_in_json():
    """Count, confidence, share and interval; an empty bin has none, and the unit of the intervals is named."""
    bins = calibration(np.array([0.95, 0.97, 0.99]), np.array([True, True, False]))
    document = dataclasses.replace(an_evaluation([[2, 1], [0, 0]], ("ants", "bees")), calibration=bins).to_json()[
        "calibration"
    ]
    assert document.keys() == {"ece", "ece_interval", "unit", "bins"}
    assert document["unit"] == "image"
    low, high = document["bins"][-1]["interval"]
    assert 0 < low < 2 / 3 < high < 1
    assert document["bins"][0] == {"count": 0, "confidence": None, "right": None, "interval": None}
