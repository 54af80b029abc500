"""`data --label-issues` on rows with several labels or numbers: those that heads contradict which have not seen them.

Of labels each is one question, whether the row has it, and cleanlab's confident learning decides from the out-of-fold
probabilities (as its `multilabel_classification.filter` does, label by label). Of numbers, with e the out-of-fold error
of a row, m the median of e and d that of |e - m| times 1.4826 (the deviation, where errors are normal), cleanlab's
quality of a row is exp(-|e - m| / d), and a row is in doubt where it is below 0.05 of the median quality, the threshold
of its Datalab: some 3.7 deviations.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.errors import MachineError
from featcache.evaluation.json_parts import finite_or_none
from featcache.evaluation.label_issues import NO_CLEANLAB, contradicted_labels
from featcache.evaluation.target_cross_validation import TargetCrossValidation, cross_validate_targets
from featcache.evaluation.target_predictions import Doubles, TargetPredictions
from featcache.heads import HeadOptions
from featcache.recipe import LABELS

_OF_MEDIAN = 0.05  # cleanlab.datalab's threshold for numbers
_NORMAL = 1.4826  # deviation of normal errors over their median distance from the median


@dataclass(frozen=True, slots=True)
class TargetIssue:
    """One label or number of one row that the heads which have not seen the row contradict."""

    path: str
    name: str  # of the label or number
    given: float  # 1 where the row has the label, 0 where it lacks it; or the number
    answer: float  # the probability of the label, or the number that the heads answer
    clip: str
    subject: str
    fold: int


@dataclass(frozen=True, slots=True, eq=False)
class TargetIssues:
    """The labels or numbers of train and val that are in doubt, the most doubtful first."""

    issues: tuple[TargetIssue, ...]
    validation: TargetCrossValidation  # whose answers contradict them

    @property
    def kind(self) -> str:
        """LABELS or VALUE."""
        return self.validation.evaluation.kind

    @property
    def cells(self) -> int:
        """How many labels or numbers were looked at: rows times labels or numbers."""
        return int(self.validation.evaluation.predictions.truth.size)

    def to_json(self) -> dict[str, Any]:
        """Return the part `label_issues` of the document of `featcache data --label-issues --json`."""
        unseen, evaluation = self.validation.unseen, self.validation.evaluation
        chief = evaluation.metric_names[0]
        return {
            "splits": list(unseen.splits),
            "left_out": list(unseen.left_out),
            "rows": len(unseen.fold),
            "folds": unseen.folds,
            "by": unseen.by,
            "head": evaluation.head,
            "targets": self.kind,
            chief: finite_or_none(evaluation.metrics[chief]),
            "issues": [self._issue_json(issue) for issue in self.issues],
            "notes": list(unseen.notes),
        }

    def _issue_json(self, issue: TargetIssue) -> dict[str, Any]:
        of_label = {"label": issue.name, "given": bool(issue.given), "probability": issue.answer}
        of_number = {"number": issue.name, "given": issue.given, "predicted": issue.answer}
        return {
            "path": issue.path,
            **(of_label if self.kind == LABELS else of_number),
            "clip": issue.clip or None,
            "subject": issue.subject or None,
            "fold": issue.fold,
        }


@checked
def find_target_issues(
    folds: int = 5,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> TargetIssues:
    """Find the labels or numbers of train and val that are probably wrong; nothing is changed.

    Every image is predicted by heads that have not seen it (`cross_validate_targets`); cleanlab decides from their
    answers what is in doubt. A doubtful label may still be right: look at the image.

    Args:
        folds: of the cross-validation, 2 to 100.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: as of `fit_head`.
        **settings: as of `fit_head`; what is left out comes from the recipe.

    Returns:
        The doubtful labels or numbers, the least likely first.

    Raises:
        UsageError: as `cross_validate_targets`.
        CacheError: as `cross_validate_targets`.
        DataError: as `cross_validate_targets`.
        MachineError: cleanlab is not installed; else as `cross_validate_targets`.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise MachineError(NO_CLEANLAB)
    result = cross_validate_targets(folds, lr, grid=grid, device=device, progress=progress, **settings)
    return TargetIssues(tuple(_issues(result)), result)


def _issues(result: TargetCrossValidation) -> Iterator[TargetIssue]:
    part, fold = result.evaluation.predictions, result.unseen.fold
    for row, output in doubtful_cells(part):
        yield TargetIssue(
            path=part.paths[row],
            name=part.names[output],
            given=float(part.truth[row, output]),
            answer=float(part.answers[row, output]),
            clip=part.clips[row],
            subject=part.subjects[row],
            fold=int(fold[row]),
        )


def doubtful_cells(part: TargetPredictions) -> list[tuple[int, int]]:
    """Return (row, label or number) of what is in doubt, the most doubtful first.

    Args:
        part: answers by heads that have not seen the rows.
    """
    find = _doubtful_labels if part.kind == LABELS else _doubtful_numbers
    cells = []
    for output, columns in enumerate(zip(part.truth.T, part.answers.T, strict=True)):
        rows, quality = find(*columns)
        cells += [(quality[row], int(row), output) for row in rows]
    return [(row, output) for _, row, output in sorted(cells)]


def _doubtful_labels(truth: Doubles, probability: Doubles) -> tuple[npt.NDArray[np.int64], Doubles]:
    """Return the rows where a label is in doubt, and how probable it is, (rows,), that each row's is right."""
    quality = np.where(truth > 0, probability, 1 - probability)
    if len(np.unique(truth)) < 2:  # nothing was learnt of it
        return np.empty(0, dtype=np.int64), quality
    return contradicted_labels(truth.astype(np.int64), np.stack([1 - probability, probability], axis=1)), quality


def _doubtful_numbers(truth: Doubles, answers: Doubles) -> tuple[npt.NDArray[np.int64], Doubles]:
    """Return the rows whose number is in doubt, and cleanlab's quality of each row's, (rows,)."""
    from cleanlab.regression.rank import get_label_quality_scores

    error = answers - truth
    deviation = _NORMAL * float(np.median(np.abs(error - np.median(error))))
    if not deviation > 0:
        return np.empty(0, dtype=np.int64), np.ones(len(truth))
    quality: Doubles = get_label_quality_scores(
        truth / deviation, (answers - np.median(error)) / deviation, method="residual"
    )
    return np.flatnonzero(quality < _OF_MEDIAN * np.median(quality)), quality
