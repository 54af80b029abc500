"""`data --label-issues`: rows whose label the heads of a cross-validation contradict; cleanlab's confident learning.

Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70 (2021).
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import MachineError
from featcache.evaluation.cross_validation import CrossValidation, cross_validate
from featcache.features import refuse_targets
from featcache.heads import HeadOptions
from featcache.recipe import StoreOptions, pick_options

NO_CLEANLAB = "label issues are found by cleanlab, which is not installed: pip install 'featcache[cleanlab]'"


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """One row whose label the heads that have not seen it contradict."""

    path: str
    label: str
    suggested: str  # the most probable class
    of_label: float  # the probability of the label
    of_suggested: float  # and of the class that is suggested
    clip: str
    subject: str
    fold: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelIssues:
    """The rows of train and val whose labels are in doubt, the most doubtful first."""

    issues: tuple[LabelIssue, ...]
    rows: npt.NDArray[np.int64]  # (issues,), which rows of `validation.unseen.rows` they are
    validation: CrossValidation  # whose probabilities contradict them

    def to_json(self) -> dict[str, Any]:
        """Return the part `label_issues` of the document of `featcache data --label-issues --json`."""
        unseen = self.validation.unseen
        return {
            "splits": list(unseen.splits),
            "left_out": list(unseen.left_out),
            "rows": len(unseen.fold),
            "folds": unseen.folds,
            "by": unseen.by,
            "head": self.validation.head,
            "macro_recall": self.validation.evaluation.macro_recall,
            "issues": [
                {
                    "path": issue.path,
                    "label": issue.label,
                    "suggested": issue.suggested,
                    "probability_of_label": issue.of_label,
                    "probability_of_suggested": issue.of_suggested,
                    "clip": issue.clip or None,
                    "subject": issue.subject or None,
                    "fold": issue.fold,
                }
                for issue in self.issues
            ],
            "notes": list(unseen.notes),
        }


@checked
def find_label_issues(
    folds: int = 5,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> LabelIssues:
    """Find the images of train and val whose label is probably wrong; nothing is changed.

    Every image is predicted by heads that have not seen it (`cross_validate`); cleanlab decides from these
    probabilities which labels are in doubt. A doubtful label may still be right: look at the image.

    Args:
        folds: of the cross-validation, 2 to 100.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: as of `fit_head`.
        **settings: as of `fit_head`; what is left out comes from the recipe.

    Returns:
        The doubtful rows, the least probable label first.

    Raises:
        UsageError: as `cross_validate`.
        CacheError: as `cross_validate`.
        DataError: as `cross_validate`.
        MachineError: cleanlab is not installed; else as `cross_validate`.
    """
    recipe = DatasetRequest(**pick_options(settings, StoreOptions)).recipe
    refuse_targets(recipe, "find_label_issues()", "find_target_issues()")
    if importlib.util.find_spec("cleanlab") is None:
        raise MachineError(NO_CLEANLAB)
    result = cross_validate(folds, lr, grid=grid, device=device, progress=progress, **settings)
    rows, probabilities = result.unseen.rows, result.unseen.probabilities
    doubtful = contradicted_labels(rows.y, probabilities)
    issues = []
    for row in doubtful.tolist():
        suggested = int(result.unseen.predicted[row])
        issues.append(
            LabelIssue(
                path=rows.paths[row],
                label=rows.classes[rows.y[row]],
                suggested=rows.classes[suggested],
                of_label=float(probabilities[row, rows.y[row]]),
                of_suggested=float(probabilities[row, suggested]),
                clip=rows.clips[row],
                subject=rows.subjects[row],
                fold=int(result.unseen.fold[row]),
            )
        )
    return LabelIssues(tuple(issues), doubtful, result)


def contradicted_labels(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """Return the rows whose label is in doubt, the least probable label first.

    Args:
        labels: (rows,) an index into the classes.
        probabilities: (rows, classes) by models that have not seen the row.
    """
    from cleanlab.filter import find_label_issues as find_doubtful

    present, compact = np.unique(labels, return_inverse=True)  # cleanlab wants rows of every class
    shares = probabilities[:, present].astype(np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    doubtful = find_doubtful(compact, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(doubtful, dtype=np.int64)
