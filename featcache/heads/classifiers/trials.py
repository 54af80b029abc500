"""The search for a classifier's settings: its options, the combinations that were tried, and which of them is best."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featcache.errors import CacheError
from featcache.features import Features
from featcache.heads import Scores
from featcache.heads.classifiers.classifier import Classifier, ClassifierSettings, ModelOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What a search may use, and whom it tells how far it has come."""

    device: str = "cpu"
    jobs: int = 1  # processes or threads
    progress: Callable[[str, int, int], None] = lambda *_: None  # the stage, done, to do


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTrial:
    """One combination of settings that was tried."""

    settings: ClassifierSettings
    val: Scores | None
    seconds: float  # to fit it and to predict val; a share, where one pass served many
    notes: tuple[str, ...] = ()  # what the solver complained of


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Every combination that a search tried, and the best one, fitted."""

    trials: tuple[SearchTrial, ...]
    best: int
    classifier: Classifier
    train: Scores | None  # of the best; None where its scores on its own training rows mean nothing
    on_val: ModelOutput | None


def trial_merit_key(trials: Sequence[SearchTrial] | Mapping[int, SearchTrial], index: int) -> tuple[float, float, int]:
    """Return the key that sorts trials, best first: the chief metric on val, of equals the lowest loss, then the first.

    The chief metric is macro recall; of several labels their mean average precision, of numbers R2.

    Args:
        trials: All of a search, or by their index those that are done.
        index: Which of them; it decides among equals, and where there are no scores on val.
    """
    val = trials[index].val
    if val is None:
        return 0.0, 0.0, index
    figure = val.figure(val.chief)
    return math.inf if math.isnan(figure) else -figure, val.loss if math.isfinite(val.loss) else math.inf, index


def best_trial(trials: Sequence[SearchTrial]) -> int:
    """Return the index of the best trial."""
    return min(trial_merit_key(trials, index) for index in range(len(trials)))[2]


def refuse_choice_without_val(train: Features, val: Features | None, combinations: int) -> None:
    """Raise a CacheError where there are several combinations to choose from, and no val split.

    Raises:
        CacheError: several combinations, and no val split that could choose one.
    """
    if val is None and combinations > 1:
        raise CacheError(
            f"{train.source.get('data_set', 'these features')}: a choice among "
            f"{combinations} combinations of settings needs a val split, and the cache has none (test is kept for the "
            f"report). Run `featcache extract --split val` (or with --val 0.15, where the data set has none), or give "
            f"each setting a single value."
        )
