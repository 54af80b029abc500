"""A fitted classifier as bytes and back, without pickle: safetensors for ours, skops for scikit-learn's.

skops names every type in a file before any of it is built; types that are not on its list, or on ours below, are
refused. What a file holds is read as plain values first (`skops_file`) and held to what its class implies (`fitted`):
scikit-learn's compiled code follows it unchecked. A model that cannot be checked is read only where this user fitted it
on this machine (`own_models`).
"""

import hashlib
import io
import warnings
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.files import parse_tensors
from featcache.heads.classifiers import Answers, Estimator, Labels, Ridge
from featcache.heads.saved.skops import own_models
from featcache.heads.saved.skops.description import DescriptionError, describe
from featcache.heads.saved.skops.shapes import MisfitError

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


_WAY_OUT = (
    "A model that cannot be checked is read only on the machine, and by the user, that fitted it: run its "
    "`featcache fit` again here"
)


def ridge_bytes(ridge: Ridge) -> bytes:
    """Weight (present classes, dim) and bias float32, and the present classes."""
    return save_tensors({"weight": np.ascontiguousarray(ridge.weight), "bias": ridge.bias, "present": ridge.present})


def ridge_of(data: bytes, classes: int, features: int | None = None) -> Ridge:
    """The inverse of `ridge_bytes`; `features` is the width of the embeddings that it will be asked about.

    Raises:
        RefusedError: other tensors, shapes or dtypes, or values that are not finite.
    """
    tensors = _tensors_of(data)
    if set(tensors) != {"weight", "bias", "present"}:
        raise RefusedError(f"its tensors are {', '.join(sorted(tensors))}, expected weight, bias and present")
    weight, bias, present = tensors["weight"], tensors["bias"], tensors["present"]
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise RefusedError(f"weight is {weight.dtype} {weight.shape}, bias {bias.dtype} {bias.shape}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise RefusedError("its weights are not finite")
    _check_features(weight.shape[1], features)
    _check_present(present, len(weight), classes)
    return Ridge(weight, bias, present)


def estimator_bytes(estimator: Estimator) -> bytes:
    """A scikit-learn estimator in the format of skops; one that nobody can check is remembered as this user's own.

    Raises:
        RefusedError: it could not be read back without trusting code of another package, or without a list of the
            user's own models, which cannot be written.
    """
    from skops.io import dumps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data: bytes = dumps(estimator.model)
    except Exception as error:  # whatever a foreign object does when it is taken apart
        raise RefusedError(f"it cannot be written without pickle ({type(error).__name__}: {error})") from None
    _check_types(data)
    try:
        _check_content(data, estimator.present)
    except RefusedError as error:
        try:
            own_models.remember(hashlib.sha256(data).hexdigest())
        except OSError as failed:
            where = own_models.record_path()
            raise RefusedError(f"{error}, and that you fitted it cannot be noted in {where}: {failed}") from None
    return data


def estimator_of(data: bytes, present: Labels, classes: int, features: int | None = None) -> Estimator:
    """The inverse of `estimator_bytes`; `features` is the width of the embeddings that it will be asked about.

    Raises:
        RefusedError: it is none of skops's files, holds a type that is not trusted, contradicts itself, or cannot be
            checked and was not fitted by this user on this machine.
    """
    from skops.io import loads

    try:
        _check_content(data, present)
    except RefusedError as error:
        if not own_models.is_known(hashlib.sha256(data).hexdigest()):
            raise RefusedError(f"{error}. {_WAY_OUT}") from None
    _check_types(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another version of scikit-learn: said by who knows both
            model = loads(data, trusted=sorted(TRUSTED))
    except Exception as error:
        raise RefusedError(f"skops cannot read it: {type(error).__name__}: {error}") from None
    if not type(model).__module__.startswith("sklearn.") or not callable(getattr(model, "predict", None)):
        raise RefusedError(f"it holds {type(model).__module__}.{type(model).__qualname__}, expected a classifier")
    _check_present(present, len(getattr(model, "classes_", present)), classes)
    width = getattr(model, "n_features_in_", features)
    _check_features(width, features)
    estimator = Estimator(model, present, classes)
    if width is not None:
        _ask_once(estimator, width)
    return estimator


def answers_bytes(predicted: Labels, probabilities: Any) -> bytes:
    """A split's answers: predicted (rows,) int32 and, where there are some, probabilities (rows, classes) float32."""
    tensors: dict[str, Any] = {"predicted": predicted.astype(np.int32)}
    if probabilities is not None:
        tensors["probabilities"] = np.ascontiguousarray(probabilities, dtype=np.float32)
    return save_tensors(tensors)


def answers_of(data: bytes, rows: int, classes: int) -> Answers:
    """The inverse of `answers_bytes` for a split of so many rows and classes.

    Raises:
        RefusedError: other tensors, shapes or dtypes, labels that there are not, or values that are no probabilities.
    """
    tensors = _tensors_of(data)
    if not {"predicted"} <= set(tensors) <= {"predicted", "probabilities"}:
        raise RefusedError(f"its tensors are {', '.join(sorted(tensors))}, expected predicted and probabilities")
    predicted, probabilities = tensors["predicted"], tensors.get("probabilities")
    if predicted.shape != (rows,) or predicted.dtype != np.int32:
        raise RefusedError(f"its predictions are {predicted.dtype} {predicted.shape}, expected int32 ({rows},)")
    if not 0 <= predicted.min(initial=0) <= predicted.max(initial=0) < classes:
        raise RefusedError(f"a prediction lies outside the {classes} classes")
    if probabilities is not None:
        if probabilities.shape != (rows, classes) or probabilities.dtype != np.float32:
            raise RefusedError(f"probabilities are {probabilities.dtype} {probabilities.shape}")
        if not np.isfinite(probabilities).all():
            raise RefusedError("its probabilities are not all numbers")
    return Answers(predicted.astype(np.int64), probabilities)


def _tensors_of(data: bytes) -> dict[str, Any]:
    try:
        return parse_tensors(data)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _check_content(data: bytes, present: Labels) -> None:
    """Hold a file to what the class of its estimator implies, before any of it is built."""
    from featcache.heads.saved.skops.fitted import check_fitted

    try:
        check_fitted(describe(data), len(present))
    except (DescriptionError, MisfitError) as error:
        raise RefusedError(str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RefusedError(f"it is described in a way that cannot be read: {type(error).__name__}: {error}") from None


def _check_types(data: bytes) -> None:
    from skops.io import get_untrusted_types

    try:
        foreign = sorted(set(get_untrusted_types(file=io.BytesIO(data))) - TRUSTED)
    except Exception as error:
        raise RefusedError(f"it is no file of skops: {type(error).__name__}: {error}") from None
    if foreign:
        raise RefusedError(f"it holds types that are not trusted: {', '.join(foreign[:5])}")


def _check_features(width: int | None, features: int | None) -> None:
    if None not in (features, width) and width != features:
        raise RefusedError(f"it takes {width} features, and the embeddings of this store have {features}")


def _ask_once(estimator: Estimator, features: int) -> None:
    """Ask about one row: what fails there would fail later, as an error of featcache's own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.answer(np.zeros((1, features), dtype=np.float32))
    except Exception as error:  # whatever an estimator with missing or odd settings raises
        raise RefusedError(f"it cannot answer: {type(error).__name__}: {error}") from None


def _check_present(present: Labels, columns: int, classes: int) -> None:
    rising = present.ndim == 1 and present.dtype == np.int64 and bool((np.diff(present) > 0).all())
    if not rising or len(present) != columns or not 0 <= present.min(initial=0) <= present.max(initial=0) < classes:
        raise RefusedError(
            f"it tells {columns} classes apart, and its list of them does not fit the data set's {classes}"
        )
