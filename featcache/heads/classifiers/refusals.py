"""Why a classifier of scikit-learn is refused: its name, its class, or a setting; in our words."""

import inspect
import re
from types import ModuleType
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.recipe import OWN_CLASSIFIERS, SHORT_NAMES

_REFUSED = re.compile(r"The '(\w+)' parameter of (\w+) must be (.+)\. Got (.+) instead\.")
_RANGE = re.compile(r"an? (float|int) in the range ([\[(])(-?[\d.e-]+|-inf), ([\d.e+-]+|inf)([\])])")
_OTHER_NAMES = {  # as they are called elsewhere
    "svm": "linear-svm", "svc": "linear-svm", "linearsvc": "linear-svm", "logistic": "logreg", "lr": "logreg",
    "logistic-regression": "logreg", "logisticregression": "logreg", "nearest-neighbours": "knn", "k-nn": "knn",
    "random-forest": "sklearn.ensemble:RandomForestClassifier", "rf": "sklearn.ensemble:RandomForestClassifier",
    "randomforest": "sklearn.ensemble:RandomForestClassifier", "decision-tree": "sklearn.tree:DecisionTreeClassifier",
    "gradient-boosting": "sklearn.ensemble:HistGradientBoostingClassifier",
    "naive-bayes": "sklearn.naive_bayes:GaussianNB",
}  # fmt: skip
_NOUNS = {"float": "a number", "int": "a whole number"}


def explain_refusal(error: Exception, estimator_class: type[Any], call: str) -> UsageError:
    """Return why an estimator cannot be fitted: a setting that it refuses, else its own words.

    Args:
        error: As `fit` raised it.
        estimator_class: The estimator's class.
        call: The estimator with its settings, as one makes it in Python.
    """
    first = str(error).strip().split("\n")[0]
    refused = _REFUSED.search(first)
    if refused is None:
        return UsageError(f"{call} cannot be fitted: {type(error).__name__}: {first}")
    key, name, expected, value = refused.groups()
    explained = UsageError(f"{name}: {key} is {value}, expected {_RANGE.sub(_range_in_words, expected)}")
    parameter = inspect.signature(estimator_class).parameters.get(key)
    if parameter is None or parameter.default is parameter.empty:
        return explained
    default = parameter.default
    return explained.correct(f"{key}=", f"{key}={default:g}" if isinstance(default, float) else f"{key}={default}")


def nearest_classifier(name: str) -> str | None:
    """Return the classifier that a name most likely means, as `featcache fit` takes it; None where none is near.

    Args:
        name: Neither a short name nor an import path.
    """
    close = _OTHER_NAMES.get(name.lower().replace("_", "-"))
    return close or nearest_name(name, [*OWN_CLASSIFIERS, *SHORT_NAMES])


def unknown_classifier(name: str) -> UsageError:
    """Return the error that no classifier has this name, with the nearest.

    Args:
        name: Neither a short name nor an import path.
    """
    names, close = [*OWN_CLASSIFIERS, *SHORT_NAMES], nearest_classifier(name)
    error = UsageError(
        f"no classifier {name[:80]!r}: {f'did you mean {close}? ' if close else ''}expected {', '.join(names)}, or an "
        f"import path such as sklearn.svm:SVC"
    )
    return error if close is None else error.correct(name, close)


def unknown_class(path: str, module: ModuleType, name: str) -> UsageError:
    """Return the error that a module has no such class, with the nearest that it has.

    Args:
        path: The import path, as it was typed.
        module: The module that it names.
        name: The class that it names.
    """
    close = nearest_name(name, [other for other in dir(module) if other[:1].isupper()])
    if close is None:
        return UsageError(f"{path}: {module.__name__} has no class {name}")
    error = UsageError(f"{path}: {module.__name__} has no class {name}; did you mean {close}?")
    return error.correct(path, f"{module.__name__}:{close}")


def _range_in_words(match: re.Match[str]) -> str:
    """Return "a number above 0" for "a float in the range (0.0, inf]"."""
    kind, opened, low, high, closed = match.groups()
    words = _NOUNS[kind]
    if low != "-inf":
        words += f" {'from' if opened == '[' else 'above'} {float(low):g}"
    if high != "inf":
        return f"{words} {'to' if closed == ']' else 'to below'} {float(high):g}"
    return f"{words} up" if opened == "[" else words
