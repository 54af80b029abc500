"""`fit-head --cross-validate`: the scores of heads on rows that they have not seen, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import DataError
from featcache.evaluation.evaluation import Evaluation
from featcache.evaluation.predictions import SplitPredictions, group_by_clip, label_predictions
from featcache.evaluation.row_evaluation import evaluate_rows
from featcache.features import Features, refuse_targets
from featcache.heads import HeadOptions, OutOfFold, predict_out_of_fold, take_rows
from featcache.heads.classifiers import ModelOutput
from featcache.recipe import StoreOptions, pick_options


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """Every row of train and val, predicted by a head that has not seen it."""

    unseen: OutOfFold
    evaluation: Evaluation  # of all rows
    folds: dict[int, SplitPredictions]  # the rows of each fold, by its number; `save_predictions` writes them

    @property
    def head(self) -> str:
        """The settings of the heads, as a head's name has them."""
        return self.unseen.configs[self.unseen.best].name

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache fit-head --cross-validate --json`."""
        unseen = self.unseen
        return {
            "folds": [
                {"fold": number, "rows": len(part.truth), "right": int(part.right.sum())}
                for number, part in self.folds.items()
            ],
            "by": unseen.by,
            "splits": list(unseen.splits),
            "heads": [
                {"settings": config.changed, "accuracy": scores.accuracy, "macro_recall": scores.macro_recall}
                for config, scores in zip(unseen.configs, unseen.scores, strict=True)
            ],
            "best": unseen.best,
            "selected_by": f"{unseen.select.replace('_', ' ')} over all rows" if len(unseen.configs) > 1 else None,
            "report": self.evaluation.to_json(),
            "seconds": round(unseen.seconds, 3),
            "notes": list(unseen.notes),
        }


@checked
def cross_validate(
    folds: int = 5,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> CrossValidation:
    """Predict every row of train and val by heads that were trained on the other folds.

    No subject stands in two folds; where the rows name none, no clip; else no image. Test is left alone: the heads of
    `fit_head` have not seen it. No head is kept. Of several settings the one is shown whose scores over all rows are
    best. `save_predictions(result.folds, "rows.csv")` writes one row an image, with its fold.

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
        UsageError: the number of folds, a setting or the recipe; or patience, which would need rows of its own.
        CacheError: the train split is not in the cache, or a file of it is damaged.
        DataError: fewer subjects, clips or images than folds; a single class.
        MachineError: no such device, or memory is full.
    """
    recipe = DatasetRequest(**pick_options(settings, StoreOptions)).recipe
    refuse_targets(recipe, "cross_validate()", "cross_validate_targets()")
    unseen = predict_out_of_fold(folds, lr, grid=grid, device=device, progress=progress, **settings)
    output = ModelOutput(unseen.predicted, unseen.probabilities)
    predictions = _label(output, unseen.rows, np.ones(len(unseen.fold), dtype=bool))
    parts = {}
    for number in range(unseen.folds):
        held_out = unseen.fold == number
        parts[number] = _label(output, take_rows(unseen.rows, held_out), held_out)
    return CrossValidation(unseen, _evaluate(unseen, predictions), parts)


def _label(output: ModelOutput, rows: Features, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> SplitPredictions:
    probabilities = None if output.probabilities is None else output.probabilities[chosen]
    return label_predictions(
        ModelOutput(output.predicted[chosen], probabilities), rows.y, rows.classes,
        paths=rows.paths, clips=rows.clips, subjects=rows.subjects,
    )  # fmt: skip


def _evaluate(unseen: OutOfFold, predictions: SplitPredictions) -> Evaluation:
    """Return the evaluation by image, with that by clip beside it where there are clips of one class each."""
    rows, config = unseen.rows, unseen.configs[unseen.best]
    number = len(unseen.configs)
    chosen = f", the best of {number} settings by {unseen.select.replace('_', ' ')} over these rows" * (number > 1)
    notes = ["these settings were chosen by their scores on these rows, so the scores are a little too high"] * (
        number > 1
    )
    clips = None
    if any(predictions.clips):
        try:
            clips = group_by_clip(predictions)
        except DataError as error:
            notes.append(f"no figures by clip: {error}")
    of: dict[str, Any] = {"head": config.name, "data_set": rows.source["data_set"], "split": rows.split}
    return evaluate_rows(
        predictions,
        beside=None if clips is None else evaluate_rows(clips, **of),
        failed=rows.failed,
        chosen=f"{unseen.folds} heads {config.name}, each trained without the rows that it predicts{chosen}",
        notes=tuple(notes),
        **of,
    )
