"""A fitted estimator of scikit-learn as the bytes of a skops file, and back, without pickle.

skops names every type in a file before any of it is built; types that are not on its list, or on ours below, are
refused. What a file holds is read as plain values first (`description`) and held to what its class implies
(`estimator_rules`): scikit-learn's compiled code follows it unchecked. A model that cannot be checked is read only
where this user fitted it on this machine (`own_models`).
"""

import hashlib
import io
import warnings

import numpy as np

from featcache.heads.classifiers import Estimator, Labels
from featcache.heads.saved import RefusedModelError
from featcache.heads.saved.skops import own_models
from featcache.heads.saved.skops.description import DescriptionError, describe
from featcache.heads.saved.skops.rules import MisfitError

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


_WAY_OUT = (
    "A model that cannot be checked is read only on the machine, and by the user, that fitted it: run its "
    "`featcache fit` again here"
)


def estimator_to_bytes(estimator: Estimator) -> bytes:
    """Return an estimator in the format of skops; one that nobody can check is remembered as this user's own.

    Args:
        estimator: Fitted, by this user on this machine.

    Raises:
        RefusedModelError: it could not be read back without trusting code of another package, or without a list of the
            user's own models, which cannot be written.
    """
    from skops.io import dumps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data: bytes = dumps(estimator.model)
    except Exception as error:  # whatever a foreign object does when it is taken apart
        raise RefusedModelError(f"it cannot be written without pickle ({type(error).__name__}: {error})") from None
    _check_types(data)
    try:
        _check_content(data, estimator.present)
    except RefusedModelError as error:
        try:
            own_models.remember(hashlib.sha256(data).hexdigest())
        except OSError as failed:
            record = own_models.record_path()
            raise RefusedModelError(f"{error}, and that you fitted it cannot be noted in {record}: {failed}") from None
    return data


def estimator_from_bytes(data: bytes, present: Labels, classes: int, width: int | None = None) -> Estimator:
    """Return the estimator that `estimator_to_bytes` wrote.

    Args:
        data: The bytes of the file.
        present: The classes (some,) that have training rows, rising.
        classes: How many classes the data set has.
        width: Of the embeddings that it will predict; None where that is not known yet.

    Raises:
        RefusedModelError: it is none of skops's files, holds a type that is not trusted, contradicts itself, or cannot
            be checked and was not fitted by this user on this machine.
    """
    from skops.io import loads

    try:
        _check_content(data, present)
    except RefusedModelError as error:
        if not own_models.is_known(hashlib.sha256(data).hexdigest()):
            raise RefusedModelError(f"{error}. {_WAY_OUT}") from None
    _check_types(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another version of scikit-learn: said by who knows both
            model = loads(data, trusted=sorted(TRUSTED))
    except Exception as error:
        raise RefusedModelError(f"skops cannot read it: {type(error).__name__}: {error}") from None
    if not type(model).__module__.startswith("sklearn.") or not callable(getattr(model, "predict", None)):
        raise RefusedModelError(f"it holds {type(model).__module__}.{type(model).__qualname__}, expected a classifier")
    check_present(present, len(getattr(model, "classes_", present)), classes)
    own_width = getattr(model, "n_features_in_", width)
    check_width(own_width, width)
    estimator = Estimator(model, present, classes)
    if own_width is not None:
        _predict_once(estimator, own_width)
    return estimator


def _check_content(data: bytes, present: Labels) -> None:
    """Hold a file to what the class of its estimator implies, before any of it is built; raise RefusedModelError."""
    from featcache.heads.saved.skops.estimator_rules import check_fitted

    try:
        check_fitted(describe(data), len(present))
    except (DescriptionError, MisfitError) as error:
        raise RefusedModelError(str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RefusedModelError(
            f"it is described in a way that cannot be read: {type(error).__name__}: {error}"
        ) from None


def _check_types(data: bytes) -> None:
    from skops.io import get_untrusted_types

    try:
        foreign = sorted(set(get_untrusted_types(file=io.BytesIO(data))) - TRUSTED)
    except Exception as error:
        raise RefusedModelError(f"it is not a file of skops: {type(error).__name__}: {error}") from None
    if foreign:
        raise RefusedModelError(f"it holds types that are not trusted: {', '.join(foreign[:5])}")


def check_width(own: int | None, expected: int | None) -> None:
    """Raise a RefusedModelError where a model takes embeddings of another width, as far as both are known.

    Args:
        own: The width that the model takes; None where it does not say.
        expected: That of the embeddings that it will predict; None where that is not known yet.

    Raises:
        RefusedModelError: it takes others.
    """
    if None not in (expected, own) and own != expected:
        raise RefusedModelError(f"it takes {own} features, and the embeddings of this store have {expected}")


def _predict_once(estimator: Estimator, width: int) -> None:
    """Predict one row: what fails there would fail later, as a crash."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.predict(np.zeros((1, width), dtype=np.float32))
    except Exception as error:  # whatever an estimator with missing or odd settings raises
        raise RefusedModelError(f"it cannot predict: {type(error).__name__}: {error}") from None


def check_present(present: Labels, columns: int, classes: int) -> None:
    """Raise a RefusedModelError unless `present` lists the classes of a model's outputs.

    Args:
        present: Of each output, the class of the data set that it stands for.
        columns: How many outputs the model has.
        classes: How many classes the data set has.

    Raises:
        RefusedModelError: it is of another length, does not rise, or names a class that there is not.
    """
    rising = present.ndim == 1 and present.dtype == np.int64 and bool((np.diff(present) > 0).all())
    if not rising or len(present) != columns or not 0 <= present.min(initial=0) <= present.max(initial=0) < classes:
        raise RefusedModelError(
            f"it has {columns} outputs, and its list of their classes does not fit the data set's {classes}"
        )
