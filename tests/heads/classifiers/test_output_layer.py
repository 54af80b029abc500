"""A linear classifier as the last layer of a network answers as the classifier does."""

import numpy as np
import pytest

from featcache.heads import linear_logits
from featcache.heads.classifiers import SearchOptions, make_output_layer, search_estimators, search_knn, search_ridge
from featcache.metrics import softmax
from tests.builders import DIM, clusters

LINEAR = (
    "ridge",
    "logreg",
    "lda",
    "linear-svm",
    "sklearn.linear_model:RidgeClassifier",
    "sklearn.linear_model:SGDClassifier",
)
WITH_SOFTMAX = ("logreg", "lda")


def fitted(name: str, train):
    options = SearchOptions(device="cpu", jobs=1)
    if name in ("ridge", "knn"):
        return {"ridge": search_ridge, "knn": search_knn}[name](train, None, {}, options).classifier
    return search_estimators(name, train, None, {}, options, foreign=False).classifier


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(("classes", "absent"), [(2, None), (4, None), (4, 1), (3, 0)])
def test_the_largest_output_is_the_answer(name, classes, absent):
    """For two classes and more, also where a class has no training rows; its probabilities where it is a softmax."""
    classifier = fitted(name, clusters(1, classes=classes, absent=absent))
    layer = make_output_layer(classifier, classes)
    x = clusters(2, rows=200, classes=classes).x
    answers, outputs = classifier.predict(x), linear_logits(x, layer.weight, layer.bias)
    assert (layer.weight.shape, layer.weight.dtype, layer.bias.dtype) == ((classes, DIM), np.float32, np.float32)
    np.testing.assert_array_equal(outputs.argmax(axis=1), answers.predicted)
    assert layer.is_softmax == (name in WITH_SOFTMAX)
    if layer.is_softmax:
        np.testing.assert_allclose(softmax(outputs), answers.probabilities, atol=1e-4)


def test_one_against_the_rest_is_no_softmax():
    """Its probabilities are each class's own, normalised: the largest output is still the answer."""
    train = clusters(3, classes=4)
    options = SearchOptions(device="cpu", jobs=1)
    name, settings = "sklearn.linear_model:SGDClassifier", {"loss": ("log_loss",)}
    classifier = search_estimators(name, train, None, settings, options, foreign=False).classifier
    layer = make_output_layer(classifier, 4)
    assert not layer.is_softmax
    np.testing.assert_array_equal(
        linear_logits(train.x, layer.weight, layer.bias).argmax(axis=1), classifier.predict(train.x).predicted
    )


@pytest.mark.parametrize("name", ["knn", "centroid", "mlp", "sklearn.svm:SVC", "sklearn.naive_bayes:GaussianNB"])
def test_what_is_not_linear_has_none(name):
    """Nearest neighbours, a hidden layer, a kernel, products of densities."""
    assert make_output_layer(fitted(name, clusters(4)), 3) is None
