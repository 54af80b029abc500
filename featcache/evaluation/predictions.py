"""What a head predicts on every image of a split, and on every clip of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.heads.classifiers import ModelOutput
from featcache.machine import run_in_threads
from featcache.metrics import GroupCounts, choose_unit, count_groups, number_names, softmax

# How the predictions on a clip's images become one; the first is the default.
CLIP_RULES = ("mean-probability", "mean-logit", "majority")
BLOCK = 2**22  # probabilities that are averaged at a time
LEAST = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SplitPredictions:
    """One prediction a row, beside what is true; a row is an image, or a clip."""

    by: str  # what one row is: "image" or "clip"
    rule: str = ""  # how a clip's prediction comes from those on its images: one of CLIP_RULES
    truth: npt.NDArray[np.int64]  # (rows,), an index into `classes`
    predicted: npt.NDArray[np.int64]  # (rows,)
    probabilities: npt.NDArray[np.floating]  # (rows, classes); of a majority the share of its votes
    has_probabilities: bool = True  # else they are votes: 1 for the class that was predicted, 0 for every other one
    classes: tuple[str, ...]
    names: tuple[str, ...]  # (rows,), an image's path or a clip's name
    paths: tuple[str, ...]  # (rows,), the image that shows it: of a clip the middle one
    clips: tuple[str, ...]  # (rows,), "" where there is none
    subjects: tuple[str, ...]  # (rows,), "" where nobody is named
    left_out: int = 0  # images that belong to no clip
    sets: npt.NDArray[np.bool_] | None = None  # (rows, classes), which classes each conformal set holds; None: no sets

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(rows,) whether the prediction is right."""
        right: npt.NDArray[np.bool_] = self.truth == self.predicted
        return right

    @property
    def confidence(self) -> npt.NDArray[np.floating]:
        """(rows,) the probability of the class that was predicted."""
        confidence: npt.NDArray[np.floating] = self.probabilities[np.arange(len(self.truth)), self.predicted]
        return confidence

    @property
    def groups(self) -> tuple[str, Sequence[str]]:
        """What counts as one in an interval, and each row's; no names where each row is its own."""
        unit, names = choose_unit(self.subjects, self.clips)
        return ("clip", ()) if unit != "subject" and self.by == "clip" else (unit, names)

    def count_groups(self, right: npt.NDArray[np.bool_]) -> GroupCounts:
        """Return the groups that a bootstrap draws from these rows.

        Where neither subjects nor clips are named, each row is a group of its own.

        Args:
            right: (rows, columns) what is counted beside the rows of each class: whether each head's prediction is
                right.
        """
        unit, names = self.groups
        return count_groups(unit, names, self.truth, right, len(self.classes))


def label_predictions(
    output: ModelOutput,
    truth: npt.NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    paths: tuple[str, ...],
    clips: tuple[str, ...],
    subjects: tuple[str, ...],
) -> SplitPredictions:
    """Return what a model predicted on the images of a split, beside their true classes, clips and subjects."""
    probabilities = output.probabilities
    return SplitPredictions(
        by="image", truth=truth, predicted=output.predicted, classes=classes, names=paths, paths=paths, clips=clips,
        subjects=subjects, has_probabilities=probabilities is not None,
        probabilities=np.eye(len(classes), dtype=np.float32)[output.predicted]
        if probabilities is None else probabilities,
    )  # fmt: skip


def group_by_clip(images: SplitPredictions, rule: str = CLIP_RULES[0]) -> SplitPredictions:
    """Return one prediction a clip, in the order of their first images.

    mean-probability: the mean of the probabilities. mean-logit: the softmax of the mean of the logits, computed as
    the geometric mean of the probabilities, normalised, which is the same. majority: the class with most images;
    of equals the one with the higher mean probability.

    Args:
        images: the predictions on images; those that belong to no clip are left out, and counted in `left_out`.
        rule: one of `CLIP_RULES`.

    Raises:
        ValueError: no such rule.
        DataError: no image belongs to a clip, or the images of a clip have several classes or subjects.
    """
    if rule not in CLIP_RULES:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(CLIP_RULES)}")
    of_row, names = number_names(images.clips)
    inside = np.flatnonzero(np.array([bool(name) for name in names], dtype=bool)[of_row])
    if not len(inside):
        raise DataError("no image of this split belongs to a clip; leave out --by clip, or name the clips in the table")
    clip = of_row[inside]
    if "" in names:  # which is no clip: the numbers behind it move up
        clip, names = clip - (clip > names.index("")), tuple(filter(None, names))
    size = np.bincount(clip)
    order = np.argsort(clip, kind="stable")
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])
    first = inside[order[starts]]  # of each clip
    _refuse_mixed(images, inside, clip, first)

    mean = _means(images.probabilities, inside[order], starts, logs=rule == "mean-logit")
    probabilities = ranked = softmax(mean) if rule == "mean-logit" else mean
    if rule == "majority":
        votes = np.zeros_like(mean)
        np.add.at(votes, (clip, images.predicted[inside]), 1)
        probabilities, ranked = votes / size[:, None], votes + np.nan_to_num(mean) / 2  # below one vote
    middle = inside[order[starts + size // 2]]
    return replace(
        images,
        by="clip",
        rule=rule,
        truth=images.truth[first],
        predicted=ranked.argmax(axis=1),
        probabilities=probabilities,
        names=names,
        clips=names,
        paths=tuple(images.paths[row] for row in middle),
        subjects=tuple(images.subjects[row] for row in first),
        left_out=len(images.truth) - len(inside),
    )


def _means(
    probabilities: npt.NDArray[np.floating], rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], *, logs: bool
) -> npt.NDArray[np.float64]:
    """Return the mean over each clip's rows, or that of their logarithms, (clips, classes), some clips at a time.

    `rows` are sorted by clip, `starts` is where each clip begins.
    """
    ends = np.append(starts[1:], len(rows))
    mean = np.empty((len(starts), probabilities.shape[1]))
    blocks, first = [], 0  # clips of each block
    while first < len(starts):
        room = starts[first] + max(1, BLOCK // mean.shape[1])
        last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
        blocks.append((first, last))
        first = last

    def add_up(block: tuple[int, int]) -> None:
        first, last = block
        values = probabilities[rows[starts[first] : ends[last - 1]]].astype(np.float64)
        if logs:
            with np.errstate(invalid="ignore"):  # nan of a diverged head
                values = np.log(np.maximum(values, LEAST))
        mean[first:last] = np.add.reduceat(values, starts[first:last] - starts[first])

    run_in_threads(add_up, blocks)
    return mean / (ends - starts)[:, None]


def _refuse_mixed(
    images: SplitPredictions, inside: npt.NDArray[np.int64], clip: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> None:
    """Refuse clips of two classes or two people: the rows `inside` them are held against their clip's `first` one."""
    reference = first[clip]
    mixed = np.flatnonzero(images.truth[reference] != images.truth[inside])
    if len(mixed):
        row, other = inside[mixed[0]], reference[mixed[0]]
        named = " and ".join(repr(images.classes[label]) for label in (images.truth[other], images.truth[row]))
        raise DataError(
            f"clip {images.clips[row]!r} has images of {named}: one prediction a clip needs one class a clip. "
            f"Leave out --by clip, or name shorter clips."
        )
    subject = number_names(images.subjects)[0]
    mixed = np.flatnonzero(subject[reference] != subject[inside])
    if len(mixed):
        row, other = inside[mixed[0]], reference[mixed[0]]
        raise DataError(
            f"clip {images.clips[row]!r} shows {images.subjects[other]!r} and {images.subjects[row]!r}: "
            f"clips of different subjects need different names."
        )
