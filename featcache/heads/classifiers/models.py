"""A fitted classifier as bytes and back, without pickle: safetensors for ours, skops for scikit-learn's.

skops names every type in a file before any of it is built; types that are not on its list, or on ours below, are
refused. A tree carries the places of its nodes, and scikit-learn's C code follows them unchecked: they are checked
here.
"""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from featcache.heads.classifiers.answers import Classifier, Labels
from featcache.heads.classifiers.estimators import Estimator
from featcache.heads.classifiers.ridge import Ridge

# Beyond skops's own list: plain values with methods, that some of scikit-learn's classifiers hold.
TRUSTED = frozenset(
    {
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
    }
)


class RefusedError(Exception):
    """A model that is not read, or would not be read back; the message says why."""


def ridge_bytes(ridge: Ridge) -> bytes:
    """Weight (present classes, dim) and bias float32, and the present classes."""
    return save_tensors({"weight": np.ascontiguousarray(ridge.weight), "bias": ridge.bias, "present": ridge.present})


def ridge_of(data: bytes, classes: int) -> Ridge:
    """The inverse of `ridge_bytes`.

    Raises:
        RefusedError: other tensors, shapes or dtypes.
    """
    tensors = load_tensors(data)
    if set(tensors) != {"weight", "bias", "present"}:
        raise RefusedError(f"its tensors are {', '.join(sorted(tensors))}, expected weight, bias and present")
    weight, bias, present = tensors["weight"], tensors["bias"], tensors["present"]
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise RefusedError(f"weight is {weight.dtype} {weight.shape}, bias {bias.dtype} {bias.shape}")
    _check_present(present, len(weight), classes)
    return Ridge(weight, bias, present)


def estimator_bytes(estimator: Estimator) -> bytes:
    """A scikit-learn estimator in the format of skops.

    Raises:
        RefusedError: it could not be read back without trusting code of another package.
    """
    from skops.io import dumps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data: bytes = dumps(estimator.model)
    except Exception as error:  # whatever a foreign object does when it is taken apart
        raise RefusedError(f"it cannot be written without pickle ({type(error).__name__}: {error})") from None
    _check_types(data)
    return data


def estimator_of(data: bytes, present: Labels, classes: int) -> Estimator:
    """The inverse of `estimator_bytes`.

    Raises:
        RefusedError: it holds a type that is not trusted, or is none of skops's files.
    """
    from skops.io import loads

    _check_types(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another version of scikit-learn: said by who knows both
            model = loads(data, trusted=sorted(TRUSTED))
    except Exception as error:
        raise RefusedError(f"skops cannot read it: {type(error).__name__}: {error}") from None
    if not type(model).__module__.startswith("sklearn.") or not callable(getattr(model, "predict", None)):
        raise RefusedError(f"it holds {type(model).__module__}.{type(model).__qualname__}, expected a classifier")
    if any(not _sound(tree, int(model.n_features_in_)) for tree in _trees(model, set())):
        raise RefusedError("a tree in it has a node that lies outside of it")
    _check_present(present, len(getattr(model, "classes_", present)), classes)
    return Estimator(model, present, classes)


def answers_bytes(predicted: Labels, probabilities: Any) -> bytes:
    """A split's answers: predicted (rows,) int32 and, where there are some, probabilities (rows, classes) float32."""
    tensors: dict[str, Any] = {"predicted": predicted.astype(np.int32)}
    if probabilities is not None:
        tensors["probabilities"] = np.ascontiguousarray(probabilities, dtype=np.float32)
    return save_tensors(tensors)


def is_kept(classifier: Classifier) -> bool:
    """Whether there is a file for it; k-NN is its training rows, which the store holds."""
    return isinstance(classifier, Ridge | Estimator)


def _check_types(data: bytes) -> None:
    from skops.io import get_untrusted_types

    try:
        foreign = sorted(set(get_untrusted_types(file=io.BytesIO(data))) - TRUSTED)
    except Exception as error:
        raise RefusedError(f"it is no file of skops: {type(error).__name__}: {error}") from None
    if foreign:
        raise RefusedError(f"it holds types that are not trusted: {', '.join(foreign[:5])}")


def _check_present(present: Labels, columns: int, classes: int) -> None:
    rising = present.ndim == 1 and present.dtype == np.int64 and bool((np.diff(present) > 0).all())
    if not rising or len(present) != columns or not 0 <= present.min(initial=0) <= present.max(initial=0) < classes:
        raise RefusedError(
            f"it tells {columns} classes apart, and its list of them does not fit the data set's {classes}"
        )


def _trees(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every tree that an estimator holds, however deep."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | None):
        return
    seen.add(id(value))
    if type(value).__name__ in ("Tree", "TreePredictor"):
        yield value
    elif isinstance(value, np.ndarray):
        for item in value.ravel() if value.dtype == object else ():
            yield from _trees(item, seen)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _trees(item, seen)
    elif hasattr(value, "__dict__"):
        yield from _trees(vars(value), seen)


def _sound(tree: Any, features: int) -> bool:
    """Whether both children of every inner node come after it, within the tree, and it asks for a feature there is."""
    if hasattr(tree, "nodes"):  # of histogram gradient boosting
        nodes = tree.nodes
        left, right, feature, leaf = (
            nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx", "is_leaf")
        )
        if nodes["is_categorical"].any():  # an embedding has no categories
            return False
    else:
        left, right, feature, leaf = tree.children_left, tree.children_right, tree.feature, tree.children_left == -1
    here = np.arange(len(left))
    inner = (left > here) & (left < len(here)) & (right > here) & (right < len(here))
    return bool(len(here) and ((leaf != 0) | (inner & (feature >= 0) & (feature < features))).all())
