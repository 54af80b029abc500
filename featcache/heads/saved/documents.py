"""What head.json, classifier.json and a line of runs.jsonl may say; `store.documents` opens and checks them."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from featcache.files import (
    Count,
    Document,
    DocumentKind,
    FolderName,
    Integer,
    Name,
    Number,
    Seconds,
    Sha256,
    SingleLine,
    Text,
    validate,
)

_DEEPEST = 16  # tuples inside one another, in the value of a setting


class ScoresDocument(Document):
    """Scores on one split; null is undefined."""

    accuracy: Number | None
    macro_recall: Number | None
    loss: Number | None


class _Source(Document):
    """Where a split's features came from, as far as it is used."""

    trunk: SingleLine  # compared with the store's, and shown
    listing: SingleLine


def _source(value: dict[str, str]) -> dict[str, str]:
    validate(_Source, value)
    return value


def _sources(value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    if "train" not in value:
        raise ValueError("expected at least the source of train")
    return value


# With every key that stands there: a head is named by a hash over them.
Source = Annotated[dict[Text, Text], AfterValidator(_source)]
Sources = Annotated[dict[SingleLine, Source], AfterValidator(_sources)]
Plain = None | bool | Integer | Number | Text


def _setting(value: Any, depth: int = 0) -> Any:
    """A value of a setting: a plain one, or a list of such; NumPy and scikit-learn take nan and inf."""
    if isinstance(value, list):
        if depth == _DEEPEST:
            raise ValueError("expected fewer lists inside one another")
        return [_setting(inner, depth + 1) for inner in value]
    return validate(_Plain, {"value": value}).value


class _Plain(Document):
    value: Plain


class HeadDocument(Document):
    """head.json: a linear head."""

    name: FolderName
    config: dict[SingleLine, Plain]  # `HeadConfig` knows the settings
    classes: list[Text]
    steps: Count
    train: ScoresDocument | None
    val: ScoresDocument | None
    best_epoch: Count | None = None  # heads before patience have none
    sources: Sources
    sha256: Sha256
    history_sha256: Sha256 | None = None  # the first heads have none
    versions: dict[SingleLine, SingleLine] = Field(default_factory=dict)


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


class KeptAnswers(Document):
    """A split whose predictions are kept."""

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
    sources: Sources
    model: ModelDocument | None
    without_model: Text
    predictions: dict[Name, KeptAnswers]
    versions: dict[SingleLine, SingleLine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _best_is_a_trial(self) -> "ClassifierDocument":
        if self.best >= len(self.trials):
            raise ValueError(f"best is {self.best}, of {len(self.trials)} trials")
        return self


class TriedDocument(Document):
    """A setting that a check tried."""

    flag: SingleLine
    value: Number | None
    share: Number | None


class CheckDocument(Document):
    """The check of a run's best head; an earlier version wrote fewer keys."""

    objective: Number | None = None
    head_objective: Number | None = None
    gap: Number | None = None
    gap_share: Number | None = None
    gradient_norm: Number | None = None
    weight_decay: Number | None = None
    converged: bool = False
    separable: bool = False
    iterations: Count = 0
    seconds: Seconds = 0.0
    train: ScoresDocument | None = None
    val: ScoresDocument | None = None
    tried: list[TriedDocument] = Field(default_factory=list)
    sentence: Text = ""


class RunDocument(Document):
    """A line of runs.jsonl: one fit-head."""

    at: Count
    heads: list[FolderName]
    best: FolderName | None
    selected_by: SingleLine
    check: CheckDocument | None = None
    seconds: Seconds = 0.0


HEAD = DocumentKind(HeadDocument, "head", "train the head again")
CLASSIFIER = DocumentKind(ClassifierDocument, "classifier", "fit the classifier again")
