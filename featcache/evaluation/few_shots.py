"""How many labels are enough: macro recall against the labels of each class, with intervals.

Of rows with several labels it is the mean average precision, of numbers R2, against the number of images.

The figure of a number of labels is the mean over its draws. Its interval covers both of its sources of chance: which
labels are drawn, by Student's t over the n draws, t(n - 1) s / sqrt(n); and which subjects, clips or images stand in
the split that is scored, by the bootstrap of every report. The distances of the ends of two independent parts are put
together as the root of the sum of their squares (Zou and Donner, Statistics in Medicine 27, 2008).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.evaluation.json_parts import finite_or_none, interval_json
from featcache.evaluation.target_predictions import Doubles
from featcache.heads import USUAL_SHOTS, FewShots, HeadOptions, ShotLevel, predict_few_shots
from featcache.metrics import (
    HALF,
    LABEL_METRICS,
    LEVEL,
    VALUE_FIGURES,
    Interval,
    accuracy,
    bootstrap_intervals,
    choose_unit,
    confusion_matrix,
    count_groups,
    figures_of_values,
    label_figures,
    label_metrics,
    macro_recall,
    mean_intervals,
    value_metrics,
)
from featcache.recipe import LABELS
from featcache.text import counted, metric_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotPoint:
    """What heads reach that were trained on so many labels of each class."""

    shots: int | None  # labels of each class; of several labels or numbers, images; None: all that there are
    labels: int  # all of them
    settings: str  # of the heads, as a head's name has them
    macro_recalls: tuple[float, ...] = ()  # of each draw, of classes
    accuracies: tuple[float, ...] = ()
    metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # of labels or numbers, the chief one first
    interval: Interval | None  # 95 %, of the mean of the chief one; None where there are too few groups, or one draw

    @property
    def metric(self) -> str:
        """The name of the chief metric: "macro_recall"; of labels "mean_average_precision", of numbers "r2"."""
        return next(iter(self.metrics), "macro_recall")

    @property
    def draws(self) -> tuple[float, ...]:
        """The chief metric of each draw."""
        return self.metrics[self.metric] if self.metrics else self.macro_recalls

    @property
    def mean(self) -> float:
        """The chief metric's mean over the draws."""
        return float(np.mean(self.draws))

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
        point: dict[str, Any] = {
            "shots": "all" if self.shots is None else self.shots,
            "labels": self.labels,
            "settings": self.settings,
        }
        if self.metrics:
            return {
                **point,
                "metrics": {
                    name: {"mean": finite_or_none(float(np.mean(draws))), "of_draws": list(map(finite_or_none, draws))}
                    for name, draws in self.metrics.items()
                },
                "interval": interval_json(self.interval),
            }
        return {
            **point,
            "macro_recall": finite_or_none(self.macro_recall),
            "interval": interval_json(self.interval),
            "accuracy": finite_or_none(self.accuracy),
            "macro_recall_of_draws": [finite_or_none(share) for share in self.macro_recalls],
        }


@dataclass(frozen=True, slots=True, eq=False)
class FewShotCurve:
    """Macro recall against the number of labels; or of labels and numbers, their chief metric against the images."""

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
    def metric(self) -> str:
        """The name of the metric that is shown."""
        return self.points[0].metric

    @property
    def is_of_classes(self) -> bool:
        """Whether each row has one class, so that labels of each class are counted, and not images."""
        return self.answers.scored.targets is None

    @property
    def row(self) -> str:
        """What a row of train is: "image", or "clip" of a head over clips."""
        return "image" if self.answers.scored.digests is not None else "clip"

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the labels were drawn and the settings chosen, and what the intervals are."""
        answers, most = self.answers, max(len(level.configs) for level in self.answers.levels)
        drawn = "at random" if answers.by == "image" else f"from as many {answers.by}s as there are"
        what = "the labels of each class" if self.is_of_classes else f"the {self.row}s"
        sentences = [
            f"{what} are drawn {counted(answers.tries, 'time')}, {drawn}; every head with this seed gets the same "
            f"draws",
            f"95 % intervals of the mean: other draws, and other {self.unit}s of {self.split}",
        ]
        if not self.is_of_classes and answers.scored.targets is not None and answers.scored.targets.kind == LABELS:
            sentences.insert(1, f"their labels do not decide what is drawn: few {self.row}s may lack a rare label")
        if answers.val_rows is not None:
            chosen = f"{counted(most, 'setting')} by {metric_in_words(answers.select)} on val"
            noun = "label" if self.is_of_classes else self.row
            rows = f"{counted(answers.val_rows, noun)} {'is' if answers.val_rows == 1 else 'are'} not counted"
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
            **({} if answers.scored.targets is None else {"targets": answers.scored.targets.kind}),
            "by": answers.by,
            "tries": answers.tries,
            "classes": answers.classes_drawn,
            "points": [point.to_json() for point in self.points],
            "interval_of": {"unit": self.unit, "groups": self.groups, "level": LEVEL},
            "selected_by": None if answers.val_rows is None else f"{metric_in_words(answers.select)} on val",
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

    Of rows with several labels or numbers so many images are drawn, and the curve is that of the mean average precision
    or of R2.

    The labels of a class are drawn from train, from as many subjects as there are; where train names none, clips; else
    images. The draws follow from the seed alone: every head gets the same ones. The heads are those that `fit_head`
    trains with these settings; of several, val chooses one for each number of labels. They are scored on test, or on
    val where the cache has no test. No head is kept.

    Args:
        shots: labels of each class, or images: "1,2,4,all", or a list of numbers in which "all" may stand.
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
    if level.answers is not None:
        return _score_targets(answers, level, level.answers)
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


def _score_targets(answers: FewShots, level: ShotLevel, of_draws: Doubles) -> FewShotPoint:
    """Return the figures of one number of images with several labels, or with numbers."""
    scored, targets = answers.scored, answers.scored.targets
    assert targets is not None  # noqa: S101 (its caller has looked)
    truth, is_labels = targets.values, targets.kind == LABELS
    thresholds = np.full(truth.shape[1], HALF)
    scores = [label_metrics(truth, of, thresholds) if is_labels else value_metrics(truth, of) for of in of_draws]
    names = LABEL_METRICS[:1] if is_labels else VALUE_FIGURES  # F1 needs thresholds, which nobody chose
    metrics = {name: tuple(of_draw[name] for of_draw in scores) for name in names}
    parts = [label_figures(truth, of, thresholds) if is_labels else figures_of_values(truth, of) for of in of_draws]
    groups = scored.subjects, scored.clips
    of_rows = mean_intervals(parts, len(truth), truth.shape[1], *groups, of_labels=is_labels).overall[0]
    values, least = metrics[names[0]], 0.0 if is_labels else -math.inf
    return FewShotPoint(
        shots=level.shots,
        labels=level.labels,
        settings=level.config.name,
        metrics=metrics,
        interval=of_rows if level.shots is None else widen_by_draws(of_rows, values, least=least),
    )


def widen_by_draws(interval: Interval | None, values: Sequence[float], *, least: float = 0.0) -> Interval | None:
    """Return the interval of a mean over draws, from one that leaves out the chance of the draws.

    Args:
        interval: of the mean for these very draws; None where there is none.
        values: of each draw, at most 1.
        least: what they can be.

    Returns:
        None where there is no interval, or a single draw, which says nothing of others.
    """
    from scipy.special import stdtrit

    draws, mean = len(values), float(np.mean(values))
    if interval is None or draws < 2:
        return None
    reach = float(stdtrit(draws - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(draws))
    low, high = (math.hypot(end - mean, reach) for end in (interval.low, interval.high))
    return Interval(max(least, mean - low), min(1.0, mean + high))
