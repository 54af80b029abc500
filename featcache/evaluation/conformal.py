"""Conformal sets of a split's predictions: calibrated on val, measured on the split, by subject."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import FeatcacheError, UsageError
from featcache.evaluation.json_parts import finite_or_none, interval_json
from featcache.evaluation.predictions import SplitPredictions
from featcache.metrics import Interval, conformal_sets, conformal_threshold, wilson_interval

TEST_SHARE = 0.15  # of the test split that is advised where there is none
SETS_ON_TRAIN = "the coverage of the conformal sets shows nothing here, on images that the head was trained on"


@dataclass(frozen=True, slots=True)
class SubjectCoverage:
    """How the sets of one person's rows do."""

    subject: str
    rows: int
    coverage: float
    mean_size: float


@dataclass(frozen=True, eq=False, kw_only=True)  # no slots: what follows from the sets is computed once
class ConformalSets:
    """A set of classes for each row of a split, and how often it holds the true one."""

    level: float  # the share that was asked for
    threshold: float  # the least probability of a class in a set; 0 where val has too few rows
    calibrated_on: int  # rows of val
    members: npt.NDArray[np.bool_]  # (rows, classes)
    predictions: SplitPredictions  # of the same rows

    @cached_property
    def is_covered(self) -> npt.NDArray[np.bool_]:
        """(rows,) whether the set holds the true class."""
        truth = self.predictions.truth
        covered: npt.NDArray[np.bool_] = self.members[np.arange(len(truth)), truth]
        return covered

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(rows,) how many classes each set holds."""
        sizes: npt.NDArray[np.int64] = self.members.sum(axis=1, dtype=np.int64)
        return sizes

    @property
    def coverage(self) -> float:
        """The share of the sets that hold the true class; nan without rows."""
        return float(self.is_covered.mean()) if len(self.is_covered) else float("nan")

    @property
    def mean_size(self) -> float:
        """The mean number of classes in a set; nan without rows."""
        return float(self.sizes.mean()) if len(self.sizes) else float("nan")

    @cached_property
    def interval(self) -> Interval | None:
        """Wilson's interval of the coverage, over subjects or clips where there are such; None for too few."""
        _, names = self.predictions.groups
        group = np.unique(np.array(names), return_inverse=True)[1] if len(names) else None
        return wilson_interval(self.is_covered.astype(np.float64), group)

    @property
    def counts(self) -> dict[int, int]:
        """How many sets have each size, the smallest size first."""
        sizes, counts = np.unique(self.sizes, return_counts=True)
        return dict(zip(sizes.tolist(), counts.tolist(), strict=True))

    @cached_property
    def subjects(self) -> tuple[SubjectCoverage, ...]:
        """The same by subject, in the order of their names; none where no row names one."""
        return tuple(self._of_subjects()) if any(self.predictions.subjects) else ()

    def _of_subjects(self) -> Iterator[SubjectCoverage]:
        names = np.array(self.predictions.subjects)
        for subject in np.unique(names).tolist():
            rows = names == subject
            yield SubjectCoverage(
                subject, int(rows.sum()), float(self.is_covered[rows].mean()), float(self.sizes[rows].mean())
            )

    def to_json(self) -> dict[str, Any]:
        """Return level, threshold, coverage and sizes, and the figures of each subject."""
        return {
            "level": self.level,
            "threshold": self.threshold,
            "calibrated_on": self.calibrated_on,
            "coverage": finite_or_none(self.coverage),
            "coverage_interval": interval_json(self.interval),
            "mean_size": finite_or_none(self.mean_size),
            "sizes": [{"size": size, "rows": rows} for size, rows in self.counts.items()],
            "subjects": [
                {"subject": one.subject, "rows": one.rows, "coverage": one.coverage, "mean_size": one.mean_size}
                for one in self.subjects
            ],
        }


def make_sets(predictions: SplitPredictions, on_val: SplitPredictions, level: float) -> ConformalSets:
    """Return the sets of a split's rows.

    Args:
        predictions: of the split, with probabilities.
        on_val: the same model's on val, by the same unit and rule.
        level: the share of sets that are to hold the true class.
    """
    threshold = conformal_threshold(on_val.probabilities, on_val.truth, level)
    return ConformalSets(
        level=level, threshold=threshold, calibrated_on=len(on_val.truth), predictions=predictions,
        members=conformal_sets(predictions.probabilities, threshold),
    )  # fmt: skip


def refuse_level(level: float | None) -> None:
    """Raise a UsageError unless sets can hold the true class so often; None asks for none.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if level is None or 0 < level < 1:
        return
    error = UsageError(
        f"--conformal: found {level:g}, expected a share above 0 and below 1, such as 0.9: how many of the sets are to "
        f"hold the true class"
    )
    raise error.correct("--conformal", f"{level / 100:g}" if 1 < level < 100 else "0.9")


def refuse_sets(request: DatasetRequest, split: str, *, has_probabilities: bool, name: str) -> None:
    """Raise a UsageError unless sets can be made for a split.

    Raises:
        UsageError: the split is val, which the sets are calibrated on, or the model gives no probabilities.
    """
    if split == "val":
        raise UsageError(
            "--conformal calibrates the sets on val, so on val itself their coverage is what was asked for and shows "
            f"nothing. {_advise_test(request)}."
        )
    if not has_probabilities:
        raise UsageError(f"--conformal: {name} gives labels, not probabilities, so there is nothing to make sets from")


def _advise_test(request: DatasetRequest) -> str:
    """Return how to have a split other than val to measure the sets on, as a sentence without its full stop."""
    if "test" in request.cached_splits:
        return "Name test with --split test"
    if "test" in (request.splits_on_disk or ()):
        return f"Run `{request.command_line('extract', '--split', 'test')}` first, and name test with --split test"
    section = request.recipe.data.split
    division: dict[str, Any] = (
        {} if section is None else {"val": section.val, "split_by": section.by, "split_seed": section.seed}
    )
    try:
        extract = replace(request, **{**division, "test": TEST_SHARE}).command_line("extract")
    except FeatcacheError:  # a data set that is not divided by shares
        return "Name another split with --split"
    return (
        f"There is no test split to measure them on: run `{extract}` first, then fit-head and this report with "
        f"--test {TEST_SHARE:g} as well"
    )
