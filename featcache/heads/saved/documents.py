"""What head.json and classifier.json may say; `files.documents` opens and checks them.

Scores are written here too: what is not finite is null, because JSON knows neither nan nor inf.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from featcache.files import (
    Count,
    Document,
    DocumentKind,
    Finite,
    FolderName,
    Integer,
    Name,
    Number,
    Seconds,
    Sha256,
    SingleLine,
    Text,
    validate,
)  # fmt: skip
from featcache.heads import Scores, TargetScores

_WORDS = {"lr": "learning rate", "exact": "exact arithmetic"}  # of settings; others are their names
MOST_WIDTH = 1 << 24  # numbers of an embedding, tokens and all
_DEEPEST = 16  # tuples inside one another, in the value of a setting


class ScoresDocument(Document):
    """Scores on one split; null is undefined."""

    accuracy: Number | None = None
    macro_recall: Number | None = None
    loss: Number | None
    metrics: dict[SingleLine, Number | None] | None = None  # of several labels or numbers a row, instead of the others

    @model_validator(mode="after")
    def _has_its_metrics(self) -> "ScoresDocument":
        if self.metrics is None and not {"accuracy", "macro_recall"} <= self.model_fields_set:
            raise ValueError("expected accuracy and macro_recall, or metrics")
        return self


class _SourceDocument(Document):
    """Where a split's features came from, as far as it is used."""

    trunk: SingleLine  # compared with the store's, and shown
    listing: SingleLine


def _check_source(value: dict[str, str]) -> dict[str, str]:
    validate(_SourceDocument, value)
    return value


def _require_train(value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    if "train" not in value:
        raise ValueError("expected at least the source of train")
    return value


# With every key that stands there: a head is named by a hash over them.
SplitSource = Annotated[dict[Text, Text], AfterValidator(_check_source)]
SplitSources = Annotated[dict[SingleLine, SplitSource], AfterValidator(_require_train)]
PlainValue = None | bool | Integer | Number | Text


def _setting(value: Any, depth: int = 0) -> Any:
    """A value of a setting: a plain one, or a list of such; NumPy and scikit-learn take nan and inf."""
    if isinstance(value, list):
        if depth == _DEEPEST:
            raise ValueError("expected fewer lists inside one another")
        return [_setting(inner, depth + 1) for inner in value]
    return validate(_PlainDocument, {"value": value}).value


class _PlainDocument(Document):
    value: PlainValue


class HeadDocument(Document):
    """head.json: a head of fit-head, linear or a torch module."""

    name: FolderName
    config: dict[SingleLine, PlainValue]  # `HeadConfig` knows the settings
    classes: list[Text]
    width: Annotated[Count, Field(ge=1, le=MOST_WIDTH)] | None = None  # of an embedding; a linear head has none
    steps: Count
    train: ScoresDocument | None
    val: ScoresDocument | None
    best_epoch: Count | None = None  # heads before patience have none
    sources: SplitSources
    sha256: Sha256
    history_sha256: Sha256 | None = None  # the first heads have none
    versions: dict[SingleLine, SingleLine] = Field(default_factory=dict)
    finetuned: dict[SingleLine, PlainValue] = Field(default_factory=dict)  # of a head whose trunk was frozen, nothing
    thresholds: list[Finite] = Field(default_factory=list)  # of labels, see `KeptTargets`
    deviation: list[Finite] = Field(default_factory=list)  # of numbers
    mean: list[Finite] = Field(default_factory=list)  # of numbers, of a module of one's own


class TrialDocument(Document):
    """One combination of settings that was tried."""

    settings: dict[SingleLine, Annotated[Any, AfterValidator(_setting)]]
    val: ScoresDocument | None
    seconds: Seconds
    notes: list[Text]


class ModelDocument(Document):
    """The file of a classifier's model."""

    file: FolderName
    sha256: Sha256


class PredictionsDocument(Document):
    """A split whose predictions are kept: the listing that they are of, and their file."""

    listing: Sha256
    sha256: Sha256


class ClassifierDocument(Document):
    """classifier.json: any other classifier."""

    name: FolderName
    classifier: Annotated[SingleLine, Field(min_length=1)]
    settings: dict[SingleLine, Annotated[Any, AfterValidator(_setting)]]
    trials: Annotated[list[TrialDocument], Field(min_length=1)]
    best: Count
    classes: list[Text]
    present: list[Count]
    train: ScoresDocument | None
    val: ScoresDocument | None
    seconds: Seconds
    sources: SplitSources
    model: ModelDocument | None
    without_model: Text
    predictions: dict[Name, PredictionsDocument]
    versions: dict[SingleLine, SingleLine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _best_is_a_trial(self) -> "ClassifierDocument":
        if self.best >= len(self.trials):
            raise ValueError(f"best is {self.best}, of {len(self.trials)} trials")
        return self


class TargetModelDocument(Document):
    """targets.json: a model of `featcache fit` on several labels or numbers."""

    name: FolderName
    classifier: Literal["knn", "ridge", "logreg"]
    targets: Literal["labels", "value"]
    settings: dict[SingleLine, Annotated[Any, AfterValidator(_setting)]]
    trials: Annotated[list[TrialDocument], Field(min_length=1)]
    best: Count
    classes: Annotated[list[Text], Field(min_length=1)]
    train: ScoresDocument | None
    val: ScoresDocument | None
    seconds: Seconds
    sources: SplitSources
    sha256: Sha256
    thresholds: list[Finite]  # of labels, see `KeptTargets`; none without val
    deviation: list[Finite]  # of numbers
    versions: dict[SingleLine, SingleLine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "TargetModelDocument":
        if self.best >= len(self.trials):
            raise ValueError(f"best is {self.best}, of {len(self.trials)} trials")
        for name in ("thresholds", "deviation"):
            values = getattr(self, name)
            if values and len(values) != len(self.classes):
                raise ValueError(f"{name} has {len(values)} values for {len(self.classes)} outputs")
        return self


class TemperatureDocument(Document):
    """temperature.json: what divides a model's logits before their softmax."""

    model_sha256: Sha256  # of the model's own document
    temperature: Annotated[Finite, Field(gt=0)] | None
    rows: Count
    loss_before: Number | None
    loss: Number | None


HEAD = DocumentKind(HeadDocument, "head", "train the head again")
CLASSIFIER = DocumentKind(ClassifierDocument, "classifier", "fit the classifier again")
TARGET_MODEL = DocumentKind(TargetModelDocument, "model", "fit the model again")
TEMPERATURE = DocumentKind(TemperatureDocument, "temperature", "train the head again, which writes it anew")


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON can hold it: None where it is nan or infinite.

    Args:
        value: Of any kind that `float` takes, NumPy's too.
    """
    return float(value) if math.isfinite(value) else None


def scores_to_json(scores: Scores | None) -> dict[str, Any] | None:
    """Return scores as JSON values, by their names; one that is not finite becomes None.

    Args:
        scores: On one split; None, where there are none, stays None.
    """
    if scores is None:
        return None
    if scores.metrics:
        return {"loss": finite_or_none(scores.loss), "metrics": _finite_values(scores.metrics)}
    values = {"accuracy": scores.accuracy, "macro_recall": scores.macro_recall, "loss": scores.loss}
    return _finite_values(values)


def _finite_values(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: finite_or_none(value) for name, value in values.items()}


def scores_from_document(document: ScoresDocument | None) -> Scores | None:
    """Return the scores that `scores_to_json` wrote; null is nan."""
    if document is None:
        return None
    accuracy, macro_recall, loss = map(_or_nan, (document.accuracy, document.macro_recall, document.loss))
    metrics = {name: _or_nan(value) for name, value in (document.metrics or {}).items()}
    return TargetScores(accuracy, macro_recall, loss, metrics) if metrics else Scores(accuracy, macro_recall, loss)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def settings_in_words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as a reader has them: "learning rate 0.03", "standardize yes", "patience none".

    Args:
        settings: Of a head or of a classifier, by name.
    """
    words = {None: "none", True: "yes", False: "no"}
    return [
        f"{_WORDS.get(name, name.replace('_', ' '))} "
        f"{words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in settings.items()
    ]
