"""What a report says of labels and numbers, beside its figures."""

import numpy as np
import pytest

from featcache.evaluation.target_evaluation import TargetEvaluation
from featcache.evaluation.target_predictions import TargetPredictions
from featcache.report import baseline_lines
from featcache.report.page.targets import worst_rows

TRUTH = np.array([[0.0], [1.0], [1.0], [0.0]])


def predicted(answers: list[float], kind: str = "value") -> TargetPredictions:
    nothing = ("",) * len(TRUTH)
    return TargetPredictions(
        kind=kind, names=("light",), by="image", truth=TRUTH, answers=np.array(answers)[:, None],
        thresholds=np.full(int(kind == "labels"), 0.5), paths=nothing, clips=nothing, subjects=nothing,
    )  # fmt: skip


@pytest.mark.parametrize(("answers", "lines"), [([0.1, 0.9, 0.9, 0.1], 1), ([1, 0, 0, 1], 2)])
def test_an_r2_below_0_is_said_to_be_worse_than_the_mean(answers, lines):
    """Nobody need know what the figure means to see that the head is of no use."""
    said = baseline_lines(TargetEvaluation(head="x", data_set="d", split="test", predictions=predicted(answers)))
    assert len(said) == lines
    assert said[0] == "baseline: always answering the mean has an R2 of 0"
    assert said[1:] in ([], ["R2 is below 0: always answering the mean of test would do better than this head"])


def test_rows_whose_labels_are_right_are_none_of_the_worst():
    """However unsure they are; the surest mistake comes first. Of numbers, no row is exactly right."""
    assert worst_rows(predicted([0.4, 0.6, 0.6, 0.4], "labels")) == []
    assert worst_rows(predicted([0.6, 0.4, 0.6, 0.9], "labels")) == [3, 0, 1]
    assert worst_rows(predicted([0.4, 0.6, 0.6, 0.5])) == [3, 0, 1, 2]
