"""How many labels are enough: macro recall against the labels of each class, with intervals.

The figure of a number of labels is the mean over its draws. Its interval covers both of its sources of chance: which
labels are drawn, by Student's t over the n draws, t(n - 1) s / sqrt(n); and which subjects, clips or images stand in
the split that is scored, by the bootstrap of every report. The distances of the ends of two independent parts are put
together as the root of the sum of their squares (Zou and Donner, Statistics in Medicine 27, 2008).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.evaluation.json_parts import finite_or_none, interval_json
from featcache.heads import USUAL_SHOTS, FewShots, HeadOptions, ShotLevel, predict_few_shots
from featcache.metrics import (
    LEVEL,
    Interval,
    accuracy,
    bootstrap_intervals,
    choose_unit,
    confusion_matrix,
    count_groups,
    macro_recall,
)
from featcache.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotPoint:
    """What heads reach that were trained on so many labels of each class."""

    shots: int | None  # labels of each class; None: all that there are
    labels: int  # all of them
    settings: str  # of the heads, as a head's name has them
    macro_recalls: tuple[float, ...]  # of each draw
    accuracies: tuple[float, ...]
    interval: Interval | None  # 95 %, of the mean of macro recall; None where there are too few groups, or one draw

    @property
    def macro_recall(self) -> float:
        """The mean over the draws."""
        return float(np.mean(self.macro_recalls))

    @property
    def accuracy(self) -> float:
        """The mean over the draws."""
        return float(np.mean(self.accuracies))

    def to_json(self) -> dict[str, Any]:
        """Return the figures of this number of labels."""
        return {
            "shots": "all" if self.shots is None else self.shots,
            "labels": self.labels,
            "settings": self.settings,
            "macro_recall": finite_or_none(self.macro_recall),
            "interval": interval_json(self.interval),
            "accuracy": finite_or_none(self.accuracy),
            "macro_recall_of_draws": [finite_or_none(share) for share in self.macro_recalls],
        }


@dataclass(frozen=True, slots=True, eq=False)
class FewShotCurve:
    """Macro recall against the number of labels."""

    answers: FewShots
    points: tuple[FewShotPoint, ...]
    unit: str  # what the intervals draw again: "subject", "clip" or "image"
    groups: int  # how many of them the scored split has

    @property
    def data_set(self) -> str:
        """Its name."""
        return self.answers.scored.source["data_set"]

    @property
    def split(self) -> str:
        """The split that is scored."""
        return self.answers.scored.split

    @property
    def head(self) -> str:
        """What `--head` calls the heads: "linear", "mlp"."""
        return self.answers.levels[0].config.head

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the labels were drawn and the settings chosen, and what the intervals are."""
        answers, most = self.answers, max(len(level.configs) for level in self.answers.levels)
        drawn = "at random" if answers.by == "image" else f"from as many {answers.by}s as there are"
        sentences = [
            f"the labels of each class are drawn {counted(answers.tries, 'time')}, {drawn}; every head with this seed "
            f"gets the same draws",
            f"95 % intervals of the mean: other draws, and other {self.unit}s of {self.split}",
        ]
        if answers.val_rows is not None:
            chosen = f"{counted(most, 'setting')} by {answers.select.replace('_', ' ')} on val"
            rows = f"{counted(answers.val_rows, 'label')} {'is' if answers.val_rows == 1 else 'are'} not counted"
            flatters = ", and these scores a little too high" if self.split == "val" else ""
            sentences.append(f"at each number of labels the best of {chosen}, whose {rows}{flatters}")
        return tuple(sentences)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache fit-head --shots --json`."""
        answers = self.answers
        return {
            "data_set": self.data_set,
            "split": self.split,
            "rows": len(answers.scored.y),
            "head": self.head,
            "by": answers.by,
            "tries": answers.tries,
            "classes": answers.classes_drawn,
            "points": [point.to_json() for point in self.points],
            "interval_of": {"unit": self.unit, "groups": self.groups, "level": LEVEL},
            "selected_by": None if answers.val_rows is None else f"{answers.select.replace('_', ' ')} on val",
            "seconds": round(answers.seconds, 3),
            "notes": list(answers.notes),
        }


@checked
def few_shot_curve(
    shots: str | Sequence[int | str] = USUAL_SHOTS,
    tries: int = 10,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> FewShotCurve:
    """Train heads on a few labels of each class, and return macro recall against the number of labels.

    The labels of a class are drawn from train, from as many subjects as there are; where train names none, clips; else
    images. The draws follow from the seed alone: every head gets the same ones. The heads are those that `fit_head`
    trains with these settings; of several, val chooses one for each number of labels. They are scored on test, or on
    val where the cache has no test. No head is kept.

    Args:
        shots: labels of each class: "1,2,4,all", or a list of numbers in which "all" may stand.
        tries: draws of each number of labels, 1 to 40; of all labels there is one.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: as of `fit_head`; the epochs are those of all draws.
        **settings: as of `fit_head`; the seed also draws the labels.

    Returns:
        A point for each number of labels, with the mean over the draws and its interval.

    Raises:
        UsageError: a number of labels or draws, a setting or the recipe; or views.
        CacheError: train is not in the cache, or neither test nor val is; a choice and no val; or people of train stand
            in the scored split.
        DataError: a class has fewer labels than are to be drawn; a single class.
        MachineError: no such device, or memory is full.
    """
    answers = predict_few_shots(shots, tries, lr, grid=grid, device=device, progress=progress, **settings)
    unit, names = choose_unit(answers.scored.subjects, answers.scored.clips)
    points = tuple(_score_level(answers, level, unit, names) for level in answers.levels)
    return FewShotCurve(answers, points, unit, len(set(names)) if names else len(answers.scored.y))


def _score_level(answers: FewShots, level: ShotLevel, unit: str, names: Sequence[str]) -> FewShotPoint:
    """Return the figures of one number of labels."""
    scored, classes = answers.scored, len(answers.scored.classes)
    confusions = [confusion_matrix(scored.y, predicted, classes) for predicted in level.predicted]
    recalls = tuple(map(macro_recall, confusions))
    right = (level.predicted == scored.y).T
    of_rows = bootstrap_intervals(count_groups(unit, names, scored.y, right, classes)).macro_recall
    return FewShotPoint(
        shots=level.shots,
        labels=level.labels,
        settings=level.config.name,
        macro_recalls=recalls,
        accuracies=tuple(map(accuracy, confusions)),
        interval=of_rows if level.shots is None else widen_by_draws(of_rows, recalls),
    )


def widen_by_draws(interval: Interval | None, values: Sequence[float]) -> Interval | None:
    """Return the interval of a mean over draws, from one that leaves out the chance of the draws.

    Args:
        interval: of the mean for these very draws; None where there is none.
        values: of each draw, shares.

    Returns:
        None where there is no interval, or a single draw, which says nothing of others.
    """
    from scipy.special import stdtrit

    draws, mean = len(values), float(np.mean(values))
    if interval is None or draws < 2:
        return None
    reach = float(stdtrit(draws - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(draws))
    low, high = (math.hypot(end - mean, reach) for end in (interval.low, interval.high))
    return Interval(max(0.0, mean - low), min(1.0, mean + high))
