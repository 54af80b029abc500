"""A fitted classifier as the last layer of a network, where one linear map gives its answers.

    ridge, RidgeClassifier, LinearSVC, SGDClassifier, Perceptron    the largest of W x + b is the answer
    LogisticRegression, LinearDiscriminantAnalysis                  softmax(W x + b) are its probabilities, too

scikit-learn has one row w, b for two classes, whose probability of the second is the logistic function of z = w x + b:
outputs (0, z) have the same softmax and the same largest. A class without training rows gets weights of 0 and a bias
that no output falls below, so it is never the answer.
"""

import numpy as np
import numpy.typing as npt

from featcache.heads import OutputLayer, linear_logits
from featcache.heads.classifiers.classifier import Classifier, Labels
from featcache.heads.classifiers.estimators import Estimator
from featcache.heads.classifiers.ridge import Ridge
from featcache.metrics import softmax

ABSENT = -1e30  # the bias of a class without training rows: its softmax is 0, and in float16 it is -inf
_LINEAR = {
    "LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis", "RidgeClassifier", "RidgeClassifierCV",
    "LinearSVC", "SGDClassifier", "Perceptron",
}  # fmt: skip
_PROBES = 16  # rows on which probabilities are compared with a softmax
_CLOSE = 1e-4


def make_output_layer(classifier: Classifier, classes: int) -> OutputLayer | None:
    """Return the linear layer that answers as a classifier does; None where there is none.

    Args:
        classifier: any fitted classifier.
        classes: how many classes the data set has.
    """
    if isinstance(classifier, Ridge):
        return _layer(classifier.weight, classifier.bias, classifier.present, classes)
    if not isinstance(classifier, Estimator) or not _is_linear(type(classifier.model)):
        return None
    weight, bias = np.atleast_2d(classifier.model.coef_), np.asarray(classifier.model.intercept_)
    if len(weight) == 1:
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.array([0.0, *np.ravel(bias)])
    layer = _layer(weight, np.broadcast_to(bias, len(weight)), classifier.present, classes)
    return OutputLayer(layer.weight, layer.bias, is_softmax=_is_softmax(classifier, layer))


def _is_linear(model: type) -> bool:
    return model.__name__ in _LINEAR and model.__module__.partition(".")[0] == "sklearn"


def _layer(
    weight: npt.NDArray[np.floating], bias: npt.NDArray[np.floating], present: Labels, classes: int
) -> OutputLayer:  # fmt: skip
    """Return the layer over all classes, of the rows of those that have training rows."""
    every_weight = np.zeros((classes, weight.shape[1]), dtype=np.float32)
    every_bias = np.full(classes, ABSENT, dtype=np.float32)
    every_weight[present], every_bias[present] = weight, bias
    return OutputLayer(every_weight, every_bias, is_softmax=False)


def _is_softmax(classifier: Estimator, layer: OutputLayer) -> bool:
    """Whether the softmax of the layer gives the classifier's probabilities, on some rows of noise.

    One-versus-rest models have probabilities that are not one: each class's logistic function, normalised.
    """
    x = np.random.default_rng(0).standard_normal((_PROBES, layer.weight.shape[1])).astype(np.float32)
    theirs = classifier.predict(x).probabilities
    ours = softmax(linear_logits(x, layer.weight, layer.bias))
    return theirs is not None and bool(np.allclose(theirs, ours, rtol=0, atol=_CLOSE))
