"""What fit kept: the classifier, or the model of several labels or numbers, with every combination that was tried."""

from dataclasses import dataclass
from typing import Any

from featcache.heads.classifiers import SearchResult, SearchTrial, TargetSearchResult
from featcache.heads.saved import FittedTargets, Handles, SavedClassifier, scores_to_json, trial_to_json

_COMPLAINTS = 5  # of the solvers, that are shown


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The classifier that one `featcache fit` chose and kept."""

    best: SavedClassifier | FittedTargets  # of several labels or numbers, the latter
    selected_by: str  # "" where nothing chose
    train_rows: int
    val_rows: int | None
    seconds: float
    notes: tuple[str, ...]
    handles: Handles  # the short names of all models of the data set
    temperature: float | None = None  # None without val, and where the classifier has none

    @property
    def trials(self) -> tuple[SearchTrial, ...]:
        """Every combination of settings that was tried."""
        return self.best.trials

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache fit --json`."""
        best = self.best
        return {
            "classifier": best.kind,
            **({"targets": best.target_kind} if isinstance(best, FittedTargets) else {}),
            "name": best.name,
            "number": self.handles.numbers[best.name],
            "given_name": self.handles.given_name(best.name) or None,
            "settings": dict(best.settings),
            "train": scores_to_json(best.train),
            "val": scores_to_json(best.val),
            "trials": [trial_to_json(trial) for trial in self.trials],
            "selected_by": self.selected_by or None,
            "rows": {"train": self.train_rows, "val": self.val_rows},
            "predictions": sorted(best.predictions),
            "model": best.has_model,
            "seconds": round(self.seconds, 3),
            "folder": str(best.folder),
            "temperature": self.temperature,
            "notes": list(self.notes),
        }


def list_complaints(result: SearchResult | TargetSearchResult) -> list[str]:
    """Return what the solvers said, each line once, the best combination's first.

    Args:
        result: What was tried.
    """
    best = result.trials[result.best]
    lines = list(dict.fromkeys(note for trial in (best, *result.trials) for note in trial.notes))
    left = len(lines) - _COMPLAINTS
    more = [f"… and {left} more such lines; --json has them all"] if left > 0 else []
    return lines[:_COMPLAINTS] + more
