"""What a line of runs.jsonl may say, with the check of a run's best head; how a check is written."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from featcache.files import Count, Document, FolderName, Number, Seconds, SingleLine, Text
from featcache.heads.saved.documents import PlainValue, ScoresDocument, finite_or_none, scores_to_json

if TYPE_CHECKING:
    from featcache.heads.optimum import Check, RegularisedOptimum, ValDifference  # torch: reading a head needs none


class ValDifferenceDocument(Document):
    """By how much a classifier is above a head on val, and the 95 % interval of that; null where it is undefined."""

    metric: SingleLine
    value: Number | None
    low: Number | None
    high: Number | None
    unit: SingleLine
    groups: Count


class TriedDocument(Document):
    """A setting that a check tried; an earlier version wrote the first three keys."""

    flag: SingleLine
    value: Number | None
    share: Number | None
    settings: dict[SingleLine, PlainValue] = Field(default_factory=dict)
    val: ScoresDocument | None = None
    difference: ValDifferenceDocument | None = None


class RegularisedDocument(Document):
    """The optimum with one weight decay."""

    weight_decay: Number
    objective: Number | None
    converged: bool
    val: ScoresDocument
    difference: ValDifferenceDocument | None = None  # of the one that is best on val, and so the next
    logreg_c: Number | None = None


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
    difference: ValDifferenceDocument | None = None
    regularised: RegularisedDocument | None = None
    path_complete: bool = False
    path: list[RegularisedDocument] = Field(default_factory=list)


class RunDocument(Document):
    """A line of runs.jsonl: one run of fit-head, search or fit."""

    at: Count
    heads: list[FolderName]
    best: FolderName | None
    selected_by: SingleLine
    check: CheckDocument | None = None
    seconds: Seconds = 0.0
    numbers: dict[FolderName, Count] = Field(default_factory=dict)  # earlier versions wrote none
    given_name: SingleLine = ""


def check_to_json(check: "Check") -> dict[str, Any]:
    """Return a check against the optimum as JSON values; a figure that is not finite becomes None.

    Args:
        check: Of one head; the weights of the optimum are left out.
    """
    return {
        "objective": finite_or_none(check.objective),
        "head_objective": finite_or_none(check.head_objective),
        "gap": finite_or_none(check.gap),
        "gap_share": finite_or_none(check.gap_share),
        "gradient_norm": finite_or_none(check.gradient_norm),
        "weight_decay": check.weight_decay,
        "converged": check.converged,
        "separable": check.separable,
        "iterations": check.iterations,
        "seconds": round(check.seconds, 3),
        "train": scores_to_json(check.train),
        "val": scores_to_json(check.val),
        "tried": [
            {
                "flag": trial.flag,
                "value": trial.value,
                "share": finite_or_none(trial.share),
                "settings": dict(trial.settings),
                "val": scores_to_json(trial.val),
                "difference": _difference_to_json(trial.difference),
            }
            for trial in check.tried
        ],
        "sentence": check.sentence(),
        "difference": _difference_to_json(check.difference),
        "regularised": None if check.regularised is None else _optimum_to_json(check.regularised)
        | {"difference": _difference_to_json(check.regularised_difference), "logreg_c": check.logreg_c},
        "path_complete": check.path.is_complete,
        "path": list(map(_optimum_to_json, check.path.optima)),
    }  # fmt: skip


def _optimum_to_json(optimum: "RegularisedOptimum") -> dict[str, Any]:
    return {
        "weight_decay": optimum.weight_decay,
        "objective": finite_or_none(optimum.point.value),
        "converged": optimum.converged,
        "val": scores_to_json(optimum.val),
    }


def _difference_to_json(difference: "ValDifference | None") -> dict[str, Any] | None:
    if difference is None:
        return None
    interval = difference.interval
    return {
        "metric": difference.metric,
        "value": finite_or_none(difference.value),
        "low": finite_or_none(interval.low) if interval else None,
        "high": finite_or_none(interval.high) if interval else None,
        "unit": difference.unit,
        "groups": difference.groups,
    }
