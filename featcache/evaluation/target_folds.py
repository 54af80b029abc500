"""Several labels or numbers on several folds: each fold's own head on its own split, and the average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, name_fold_in_errors
from featcache.evaluation.folds import describe_differences, refuse_bad_folds
from featcache.evaluation.head_on_targets import HeadOnTargets, TargetOptions, TargetSplitOptions, predict_on_targets
from featcache.evaluation.missing_folds import refuse_missing_folds
from featcache.evaluation.target_evaluation import TargetEvaluation, figures_json
from featcache.evaluation.target_predictions import Doubles
from featcache.metrics import Interval, TargetIntervals, mean_intervals
from featcache.recipe import LABELS, KeptHeadOptions, pick_options


@dataclass(frozen=True, eq=False)  # no slots: the averages are computed once
class TargetFolds:
    """The figures of several folds, each by its own head, and their averages."""

    numbers: tuple[int, ...]
    folds: tuple[TargetEvaluation, ...]
    intervals: TargetIntervals  # of the averages
    settings_note: str = ""  # where the folds' heads have different settings: which, in a sentence

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean over the folds of each metric over all labels or numbers, by name."""
        names = self.folds[0].metric_names
        return {name: _mean(np.array([fold.metrics[name] for fold in self.folds])).item() for name in names}

    @cached_property
    def outputs(self) -> Doubles:
        """The mean over the folds of the figures of each label or number, (outputs, figures); nan where in none."""
        return _mean(np.array([fold.outputs for fold in self.folds]))

    def output_intervals(self, output: int) -> tuple[Interval | None, ...]:
        """Return the intervals of the averages of one label's or number's figures.

        Args:
            output: its place, from 0.
        """
        return self.intervals.outputs[output][: len(self.folds[0].output_names)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What every report must show of the average and of its folds, each sentence once."""
        own = (self.settings_note,) if self.settings_note else ()
        return tuple(dict.fromkeys((*own, *(note for fold in self.folds for note in fold.notes))))

    def to_json(self) -> dict[str, Any]:
        """Return the averages, and each fold's own report."""
        first, intervals = self.folds[0], self.intervals
        figures = zip(first.names, self.outputs.tolist(), map(self.output_intervals, range(len(first.names))),
                      strict=True)  # fmt: skip
        return {
            "split": first.split,
            "by": first.predictions.by,
            "targets": first.kind,
            "rows": sum(fold.rows for fold in self.folds),
            "metrics": figures_json(first.metric_names, list(self.metrics.values()), intervals.overall),
            "outputs": [{"name": name, **figures_json(first.output_names, *of_output)} for name, *of_output in figures],
            "intervals": {
                "unit": intervals.unit,
                "groups": intervals.groups,
                "resamples": intervals.resamples,
                "level": intervals.level,
            },
            "folds": [
                {"fold": number, **fold.to_json()} for number, fold in zip(self.numbers, self.folds, strict=True)
            ],
            "notes": list(self.notes),
        }


@checked
def evaluate_target_folds(
    folds: Sequence[int], head: str | None = None, **options: Unpack[TargetOptions]
) -> TargetFolds:  # fmt: skip
    """Evaluate each fold's own head on its own split with several labels or numbers a row, and average.

    Args:
        folds: their numbers.
        head: the start of a name that one head of each fold has; None for the best of each.
        **options: as of `evaluate_targets`.

    Returns:
        The evaluation of each fold, and their averages with intervals.

    Raises:
        UsageError: as `evaluate_targets`; or no fold, one twice, or a data set without folds.
        CacheError: as `evaluate_targets`, for any fold; or the folds have other labels or splits.
        DataError: as `evaluate_targets`, for any fold.
        MachineError: as `evaluate_targets`.
    """
    request = DatasetRequest(**pick_options(options, KeptHeadOptions))
    return average_target_folds(
        predict_on_target_folds(request, folds, head, pick_options(options, TargetSplitOptions))
    )


def predict_on_target_folds(
    request: DatasetRequest, folds: Sequence[int], head: str | None, choice: TargetSplitOptions
) -> dict[int, HeadOnTargets]:
    """Return each fold's own head on its own split, by the fold's number.

    Args:
        request: the data set; each fold takes the place of its own.
        folds: as of `evaluate_target_folds`.
        head: as of `evaluate_target_folds`.
        choice: as of `predict_on_targets`.

    Raises:
        UsageError: as `evaluate_target_folds`.
        CacheError: as `evaluate_target_folds`.
        DataError: as `evaluate_target_folds`.
        MachineError: as `evaluate_target_folds`.
    """
    refuse_bad_folds(folds, choice.get("conformal"))
    requests = {fold: replace(request, fold=fold) for fold in folds}
    refuse_missing_folds(requests)
    heads = {}
    for fold, on_fold in requests.items():
        with name_fold_in_errors(fold):
            heads[fold] = predict_on_targets(on_fold, head, **choice)
            if not len(heads[fold].predictions.truth):
                raise CacheError(f"no rows to evaluate on; run `{on_fold.command_line('extract')}` first")
    if len({(part.predictions.names, part.features.split) for part in heads.values()}) != 1:
        raise CacheError("the folds have other labels or other splits: extract them with one recipe, then fit heads")
    return heads


def average_target_folds(heads: Mapping[int, HeadOnTargets]) -> TargetFolds:
    """Return the evaluation of each fold and their averages.

    Args:
        heads: what `predict_on_target_folds` returned.
    """
    parts = [part.predictions for part in heads.values()]
    intervals = mean_intervals(
        [part.figures() for part in parts], [len(part.truth) for part in parts], len(parts[0].names),
        [name for part in parts for name in part.subjects], [name for part in parts for name in part.clips],
        of_labels=parts[0].kind == LABELS, paths=[path for part in parts for path in part.paths],
    )  # fmt: skip
    evaluations = tuple(part.evaluation() for part in heads.values())
    return TargetFolds(tuple(heads), evaluations, intervals, describe_differences(heads))


def _mean(values: Doubles) -> Doubles:
    """Return the mean over the first axis of what is no nan; nan where all is."""
    is_defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Doubles = np.where(is_defined, values, 0).sum(axis=0) / is_defined.sum(axis=0)
    return mean
