"""The metrics, held against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from featcache.metrics import confusion as metrics


@st.composite
def answers(draw):
    """(truth, predicted, classes); some classes often never occur, and are predicted all the same."""
    classes = draw(st.integers(1, 7))
    rows = draw(st.integers(1, 40))
    occurring = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes))
    truth = draw(hnp.arrays(np.int64, rows, elements=st.sampled_from(occurring)))
    predicted = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return truth, predicted, classes


def confusion_of(case):
    return metrics.confusion_matrix(*case)


def expected(score, case, **options):
    """scikit-learn's score per class, with nan where it is undefined."""
    truth, predicted, classes = case
    return score(truth, predicted, labels=range(classes), average=None, zero_division=np.nan, **options)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(answers())
def test_the_confusion_matrix_is_scikit_learns(case):
    """Rows are the truth, columns the prediction, counts those of sklearn.metrics.confusion_matrix."""
    truth, predicted, classes = case
    found = confusion_of(case)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, reference.confusion_matrix(truth, predicted, labels=range(classes)))


@given(answers())
def test_recall_is_scikit_learns(case):
    """Recall per class is recall_score's, nan where a class never occurs."""
    np.testing.assert_allclose(
        metrics.per_class_recall(confusion_of(case)), expected(reference.recall_score, case), rtol=1e-12
    )


@given(answers())
def test_precision_is_scikit_learns(case):
    """Precision per class is precision_score's, nan where a class is never predicted."""
    np.testing.assert_allclose(
        metrics.per_class_precision(confusion_of(case)), expected(reference.precision_score, case), rtol=1e-12
    )


@given(answers())
def test_f1_is_scikit_learns(case):
    """F1 per class is f1_score's, nan where a class neither occurs nor is predicted."""
    np.testing.assert_allclose(metrics.per_class_f1(confusion_of(case)), expected(reference.f1_score, case), rtol=1e-12)


@given(answers())
def test_accuracy_is_scikit_learns(case):
    """Accuracy is accuracy_score's."""
    truth, predicted, _ = case
    assert metrics.accuracy(confusion_of(case)) == pytest.approx(reference.accuracy_score(truth, predicted))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # this is the point
@pytest.mark.filterwarnings("ignore:A single label was found")
@given(answers())
def test_macro_recall_is_balanced_accuracy(case):
    """Macro recall is balanced_accuracy_score's: classes that never occur are left out, predicted or not."""
    truth, predicted, _ = case
    balanced = reference.balanced_accuracy_score(truth, predicted)
    assert metrics.macro_recall(confusion_of(case)) == pytest.approx(balanced)


def test_a_predicted_class_that_never_occurs_does_not_lower_macro_recall():
    """Where recall_score(average="macro") counts such a class as 0, macro recall leaves it out."""
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    confusion = metrics.confusion_matrix(truth, predicted, 3)
    assert metrics.macro_recall(confusion) == 0.75
    assert reference.recall_score(truth, predicted, average="macro", zero_division=0) == 0.5


@given(answers(), st.integers(0, 12))
def test_the_largest_confusions_are_the_largest_wrong_cells(case, limit):
    """They are the first wrong cells of a plain sort by count, ties in reading order, no empty ones."""
    confusion = confusion_of(case)
    before = confusion.copy()
    cells = [(i, j, n) for (i, j), n in np.ndenumerate(confusion) if i != j and n]
    cells.sort(key=lambda cell: -cell[2])  # stable
    found = metrics.largest_confusions(confusion, limit)
    assert [(one.truth, one.predicted, one.count) for one in found] == cells[:limit]
    for one in found:
        assert one.share == pytest.approx(one.count / np.count_nonzero(case[0] == one.truth))
    np.testing.assert_array_equal(confusion, before)


@pytest.mark.parametrize("dtypes", [(np.uint8, np.int32), (np.int64, np.uint64), (np.uint64, np.int8)])
def test_any_integer_type_counts(dtypes):
    """Indices of every integer type, mixed ones too, are counted without overflow."""
    truth = np.array([0, 99, 99], dtypes[0])
    predicted = np.array([99, 99, 0], dtypes[1])
    confusion = metrics.confusion_matrix(truth, predicted, 100)
    assert (confusion[0, 99], confusion[99, 99], confusion[99, 0], confusion.sum()) == (1, 1, 1, 3)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 1], [0]), ([0, -1], [0, 0]), ([0, 1], [0, 3]), ([3], [0])])
def test_what_is_no_index_is_refused(truth, predicted):
    """Two lengths, a negative index and one past the classes raise ValueError; none is wrapped around."""
    with pytest.raises(ValueError, match=r"shape|outside"):
        metrics.confusion_matrix(np.array(truth), np.array(predicted), 3)


@settings(max_examples=10)
@given(st.integers(1, 5))
def test_without_rows_everything_is_undefined(classes):
    """No rows give a matrix of zeros, no confusions, and nan for every score, without a warning."""
    confusion = metrics.confusion_matrix(np.zeros(0, np.int64), np.zeros(0, np.int64), classes)
    assert confusion.shape == (classes, classes)
    scores = (metrics.accuracy(confusion), metrics.macro_recall(confusion))
    per_class = (metrics.per_class_recall, metrics.per_class_precision, metrics.per_class_f1)
    assert np.isnan(scores).all()
    assert all(np.isnan(score(confusion)).all() for score in per_class)
    assert metrics.largest_confusions(confusion) == []
