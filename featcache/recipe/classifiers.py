"""The [fit] section of a recipe: which classifiers `featcache fit` may be told to fit, with which settings."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from featcache.arguments import nearest_name

# A recipe may name our own, these, and scikit-learn's public classes, and nothing else: importing a package runs it,
# and a recipe is data.
OWN_CLASSIFIERS = ("knn", "ridge")
SHORT_NAMES = {
    "logreg": "sklearn.linear_model:LogisticRegression",
    "linear-svm": "sklearn.svm:LinearSVC",
    "lda": "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
    "centroid": "sklearn.neighbors:NearestCentroid",
    "mlp": "sklearn.neural_network:MLPClassifier",
}
SKLEARN = r"sklearn(\.(?!tests\b|conftest\b|externals\b)[a-z][a-z0-9_]*)+:[A-Z][A-Za-z0-9]*"


def _check_classifier(name: str) -> str:
    permitted = (*OWN_CLASSIFIERS, *SHORT_NAMES)
    if name not in permitted and not re.fullmatch(SKLEARN, name):
        close = nearest_name(name, permitted)
        raise ValueError(
            f"{f'did you mean {close}? ' if close else ''}expected {', '.join(permitted)}, or a class of scikit-learn "
            f"such as sklearn.svm:SVC; other packages are named on the command line, never in a recipe"
        )
    return name


def _check_value(value: object) -> object:
    """Return a number, a word, or a list of them to choose among; a list in a list is one value of several numbers."""
    for choice in value if isinstance(value, list) else [value]:
        parts = choice if isinstance(choice, list) else [choice]
        if not all(isinstance(part, bool | int | float | str) for part in parts):
            raise ValueError("expected a number, a word, true, false, or a list of them")
    return value


ClassifierName = Annotated[str, AfterValidator(_check_classifier)]
ClassifierSettings = dict[
    Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)],
    Annotated[Any, AfterValidator(_check_value)],
]
