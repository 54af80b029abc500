"""`fit-head --cross-validate` on several labels or numbers a row: scores on rows that heads have not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.evaluation.options import UNITS
from featcache.evaluation.target_evaluation import TargetEvaluation
from featcache.evaluation.target_predictions import TargetPredictions, take_predictions
from featcache.heads import HeadOptions, OutOfFold, predict_out_of_fold, thresholds_of
from featcache.recipe import LABEL, LABELS, StoreOptions, pick_options
from featcache.text import metric_in_words


@dataclass(frozen=True, slots=True, eq=False)
class TargetCrossValidation:
    """Every row of train and val, predicted by a head that has not seen it."""

    unseen: OutOfFold
    evaluation: TargetEvaluation  # of all rows
    folds: dict[int, TargetPredictions]  # the rows of each fold, by its number

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache fit-head --cross-validate --json` for several labels or numbers."""
        unseen = self.unseen
        return {
            "folds": [{"fold": number, "rows": len(part.truth)} for number, part in self.folds.items()],
            "by": unseen.by,
            "splits": list(unseen.splits),
            "heads": [
                {"settings": config.changed, "metrics": dict(scores.metrics)}
                for config, scores in zip(unseen.configs, unseen.scores, strict=True)
            ],
            "best": unseen.best,
            "selected_by": f"{metric_in_words(unseen.select)} over all rows" if len(unseen.configs) > 1 else None,
            "report": self.evaluation.to_json(),
            "seconds": round(unseen.seconds, 3),
            "notes": list(unseen.notes),
        }


@checked
def cross_validate_targets(
    folds: int = 5,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> TargetCrossValidation:
    """Predict the labels or numbers of every row of train and val by heads that were trained on the other folds.

    All else is as of `cross_validate`, which is for rows with one class each.

    Args:
        folds: how many, 2 to 100.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: as of `fit_head`.
        **settings: as of `fit_head`; the seed also divides the rows.

    Returns:
        The predictions by fold, and their evaluation.

    Raises:
        UsageError: as `cross_validate`; or the rows have one class each.
        CacheError: as `cross_validate`.
        DataError: as `cross_validate`.
        MachineError: as `cross_validate`.
    """
    request = DatasetRequest(**pick_options(settings, StoreOptions))
    if request.recipe.data.target_kind == LABEL:
        raise UsageError(
            "cross_validate_targets(): the rows of this data set have one class each; cross_validate() is for them"
        )
    unseen = predict_out_of_fold(folds, lr, grid=grid, device=device, progress=progress, **settings)
    predictions = _predictions(unseen)
    parts = {number: take_predictions(predictions, unseen.fold == number) for number in range(unseen.folds)}
    return TargetCrossValidation(unseen, _evaluate(unseen, predictions, request.variant), parts)


def _predictions(unseen: OutOfFold) -> TargetPredictions:
    """Return what the heads answer on all rows."""
    rows = unseen.rows
    assert rows.targets is not None  # noqa: S101 (the recipe says so)
    kind, outputs = rows.targets.kind, len(rows.classes)
    thresholds = thresholds_of(unseen.kept, outputs) if kind == LABELS else np.zeros(0)
    return TargetPredictions(
        kind=kind, names=rows.classes, by=UNITS[0], truth=rows.targets.values, answers=unseen.answers,
        thresholds=thresholds, paths=rows.paths, clips=rows.clips, subjects=rows.subjects,
    )  # fmt: skip


def _evaluate(unseen: OutOfFold, predictions: TargetPredictions, variant: str) -> TargetEvaluation:
    rows, name, number = unseen.rows, unseen.configs[unseen.best].name, len(unseen.configs)
    chosen, notes = "", []
    if number > 1:
        chosen = f", the best of {number} settings by {metric_in_words(unseen.select)} over these rows"
        notes = ["these settings were chosen by their scores on these rows, so the scores are a little too high"]
    if predictions.kind == LABELS:
        notes.append("the thresholds of the labels were chosen on these rows: F1 flatters")
    return TargetEvaluation(
        head=name, data_set=rows.source["data_set"], variant=variant, split=rows.split, predictions=predictions,
        intervals=predictions.intervals(), failed=rows.failed, notes=tuple(notes),
        chosen=f"{unseen.folds} heads {name}, each trained without the rows that it predicts{chosen}",
    )  # fmt: skip
