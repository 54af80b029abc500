"""`featcache fit`: any classifier on the cached embeddings, its settings chosen by macro recall on val."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import UsageError
from featcache.features import Features, features_of
from featcache.heads.classifiers import (
    Answers,
    Choices,
    Found,
    Means,
    Trial,
    choices_of,
    classifier_class,
    search_estimators,
    search_knn,
    search_ridge,
)
from featcache.heads.saved import SavedClassifier, record_run, save_classifier, scores_json, trial_json
from featcache.heads.splits import notes_of_splits, read_splits, refuse_unfit
from featcache.machine import cores
from featcache.recipe import StoreOptions

SELECTED_BY = "macro recall on val"


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What one `featcache fit` made."""

    best: SavedClassifier
    selected_by: str  # "" where nothing chose
    train_rows: int
    val_rows: int | None
    seconds: float
    notes: tuple[str, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every combination of settings that was tried."""
        return self.best.trials

    def to_json(self) -> dict[str, Any]:
        """The document of `featcache fit --json`."""
        best = self.best
        return {
            "classifier": best.kind,
            "name": best.name,
            "settings": dict(best.settings),
            "train": scores_json(best.train),
            "val": scores_json(best.val),
            "trials": [trial_json(trial) for trial in self.trials],
            "selected_by": self.selected_by or None,
            "rows": {"train": self.train_rows, "val": self.val_rows},
            "predictions": sorted(best.predictions),
            "model": best.classifier is not None,
            "seconds": round(self.seconds, 3),
            "folder": str(best.folder),
            "notes": list(self.notes),
        }


@checked
def fit(
    classifier: str,
    settings: Mapping[str, Any] | None = None,
    *,
    predict: Sequence[str] = (),
    foreign: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **where: Unpack[StoreOptions],
) -> Fitted:
    """Fit a classifier on the cached train split and keep it.

    `classifier` is knn, ridge, a short name of the recipe's `SHORT_NAMES`, or `package.module:Class`; packages other
    than scikit-learn only with `foreign`. A list among `settings` holds values to choose among, by macro recall on
    val; what is not set comes from the recipe's `[fit]` section. `predict` names splits whose predictions are kept
    too; they choose nothing. `jobs` fits run at once (None: one a core).

    Raises:
        UsageError: no such classifier or setting.
        CacheError: the train split is not in the cache; or a choice, and no val split that could make it.
        DataError: a single class, or a split without rows.
        MachineError: memory or disk are full.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: found {jobs}, expected at least 1")
    asked = Asked(**where)
    search = searcher(classifier, foreign=foreign)  # before the embeddings are read: a wrong name costs no time
    _refuse_unused(classifier, device, jobs)
    choices = choices_of({**asked.recipe.fit.get(classifier, {}), **(settings or {})})
    progress("reading", 0, 0)
    splits = read_splits(asked)
    store, train, val = splits.source, splits.in_memory, splits.val
    others = [features_of(store, asked.key_of(store, split)) for split in dict.fromkeys(predict) if split != "val"]
    for split in others:
        refuse_unfit(train, split)

    from featcache.trunks import choose_device

    begun = time.perf_counter()
    found = search(train, val, choices, Means(device=choose_device(device), jobs=jobs or cores(), progress=progress))
    seconds = time.perf_counter() - begun
    answered: dict[str, tuple[Features, Answers]] = {}
    if val is not None and found.on_val is not None:
        answered["val"] = val, found.on_val
    for split in others:
        answered[split.split] = split, found.classifier.answer(split.x)
    best = save_classifier(store, classifier, found, train, val, answered, seconds)
    selected_by = SELECTED_BY if len(found.trials) > 1 else ""
    record_run(store, train, [best], best.name, selected_by, None, seconds)
    return Fitted(
        best,
        selected_by,
        len(train.y),
        None if val is None else len(val.y),
        seconds,
        (*splits.notes, *notes_of_splits(train, val), *_complaints(found), *_without_model(best)),
    )  # fmt: skip


def _refuse_unused(classifier: str, device: str, jobs: int | None) -> None:
    if device not in ("auto", "cpu") and classifier != "knn":
        raise UsageError(f"--device {device} has no effect: {classifier} is fitted by the CPU; leave it out")
    if jobs is not None and classifier in ("knn", "ridge"):
        raise UsageError(f"--jobs has no effect: {classifier} is fitted in one pass, by all cores; leave it out")


def searcher(
    classifier: str, *, foreign: bool
) -> Callable[[Features, Features | None, Choices, Means], Found]:  # fmt: skip
    """What looks for the settings of this classifier.

    Raises:
        UsageError: no such classifier.
    """
    if classifier == "knn":
        return search_knn
    if classifier == "ridge":
        return search_ridge
    classifier_class(classifier, foreign=foreign)

    def search(train: Features, val: Features | None, choices: Choices, means: Means) -> Found:
        return search_estimators(classifier, train, val, choices, means, foreign=foreign)

    return search


def _complaints(found: Found) -> list[str]:
    """What the solvers said, each once, the best combination's first."""
    best = found.trials[found.best]
    lines = list(dict.fromkeys(note for trial in (best, *found.trials) for note in trial.notes))
    more = [f"… and {len(lines) - 5} more such lines; --json has them all"] if len(lines) > 5 else []
    return lines[:5] + more


def _without_model(best: SavedClassifier) -> list[str]:
    if best.classifier is not None:
        return []
    more = "" if "test" in best.predictions else "; `--predict test` keeps those of test too"
    return [f"only its predictions are kept, not the model: {best.without_model}{more}"]
