"""What a head answers on every row of a split, and on every clip of it."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.heads.classifiers import Answers as Said

# How the answers on a clip's images become one; the first is the default.
RULES = ("mean-probability", "mean-logit", "majority")
BLOCK = 2**22  # probabilities that are averaged at a time
LEAST = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answers:
    """One answer a row: an image, or a clip."""

    by: str  # what one row is: "image" or "clip"
    rule: str = ""  # how a clip's answer comes from those on its images: one of RULES
    truth: npt.NDArray[np.int64]  # (rows,), an index into `classes`
    predicted: npt.NDArray[np.int64]  # (rows,)
    probabilities: npt.NDArray[np.floating]  # (rows, classes); of a majority the share of its votes
    votes: bool = False  # the classifier gives no probabilities: 1 for its answer, 0 for every other class
    classes: tuple[str, ...]
    names: tuple[str, ...]  # (rows,), an image's path or a clip's name
    paths: tuple[str, ...]  # (rows,), the image that shows it: of a clip the middle one
    clips: tuple[str, ...]  # (rows,), "" where there is none
    subjects: tuple[str, ...]  # (rows,), "" where nobody is named
    left_out: int = 0  # images that belong to no clip

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(rows,) whether the answer is right."""
        right: npt.NDArray[np.bool_] = self.truth == self.predicted
        return right

    @property
    def confidence(self) -> npt.NDArray[np.floating]:
        """(rows,) the probability of the answer."""
        sure: npt.NDArray[np.floating] = self.probabilities[np.arange(len(self.truth)), self.predicted]
        return sure


def answers_of(
    said: Said,
    truth: npt.NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    paths: tuple[str, ...],
    clips: tuple[str, ...],
    subjects: tuple[str, ...],
) -> Answers:
    """The answers on images, as a head or another classifier gave them."""
    sure = said.probabilities
    return Answers(
        by="image", truth=truth, predicted=said.predicted, classes=classes, names=paths, paths=paths, clips=clips,
        subjects=subjects, votes=sure is None,
        probabilities=np.eye(len(classes), dtype=np.float32)[said.predicted] if sure is None else sure,
    )  # fmt: skip


def by_clip(images: Answers, rule: str = RULES[0]) -> Answers:
    """One answer a clip, from those on its images.

    mean-probability: the mean of the probabilities. mean-logit: the softmax of the mean of the logits, computed as
    the geometric mean of the probabilities, normalised, which is the same. majority: the class with most images;
    of equals the one with the higher mean probability.

    Raises:
        ValueError: no such rule.
        DataError: no image belongs to a clip, or the images of a clip have several classes or subjects.
    """
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(RULES)}")
    inside = np.flatnonzero(np.array([bool(clip) for clip in images.clips], dtype=bool))
    if not len(inside):
        raise DataError("no image of this split belongs to a clip; leave out --by clip, or name the clips in the table")
    table: dict[str, int] = {}
    code = np.array([table.setdefault(images.clips[row], len(table)) for row in inside])
    size = np.bincount(code)
    order = np.argsort(code, kind="stable")
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])
    first = inside[order[starts]]  # clips in the order of their first image
    _refuse_mixed(images, inside, code, first)

    mean = _means(images.probabilities, inside[order], starts, logs=rule == "mean-logit")
    probabilities = ranked = softmax(mean) if rule == "mean-logit" else mean
    if rule == "majority":
        votes = np.zeros_like(mean)
        np.add.at(votes, (code, images.predicted[inside]), 1)
        probabilities, ranked = votes / size[:, None], votes + np.nan_to_num(mean) / 2  # below one vote
    middle = inside[order[starts + size // 2]]
    return replace(
        images,
        by="clip",
        rule=rule,
        truth=images.truth[first],
        predicted=ranked.argmax(axis=1),
        probabilities=probabilities,
        names=tuple(table),
        clips=tuple(table),
        paths=tuple(images.paths[row] for row in middle),
        subjects=tuple(images.subjects[row] for row in first),
        left_out=len(images.truth) - len(inside),
    )


def _means(
    probabilities: npt.NDArray[np.floating], rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], *, logs: bool
) -> npt.NDArray[np.float64]:
    """(clips, classes) the mean over each clip's rows, or that of their logarithms, some clips at a time.

    `rows` are sorted by clip, `starts` is where each clip begins.
    """
    ends = np.append(starts[1:], len(rows))
    mean = np.empty((len(starts), probabilities.shape[1]))
    first = 0
    while first < len(starts):
        room = starts[first] + max(1, BLOCK // mean.shape[1])
        last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
        of = probabilities[rows[starts[first] : ends[last - 1]]].astype(np.float64)
        if logs:
            with np.errstate(invalid="ignore"):  # nan of a diverged head
                of = np.log(np.maximum(of, LEAST))
        mean[first:last] = np.add.reduceat(of, starts[first:last] - starts[first])
        first = last
    return mean / (ends - starts)[:, None]


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(rows, classes) logits -> probabilities; nan where a diverged head answers nan or inf."""
    with np.errstate(invalid="ignore", over="ignore"):
        z = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
        shares: npt.NDArray[np.float64] = z / z.sum(axis=1, keepdims=True)
    return shares


def _refuse_mixed(
    images: Answers, inside: npt.NDArray[np.int64], code: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> None:
    of = first[code]
    mixed = np.flatnonzero(images.truth[of] != images.truth[inside])
    if len(mixed):
        clip, labels = images.clips[inside[mixed[0]]], (images.truth[of[mixed[0]]], images.truth[inside[mixed[0]]])
        named = " and ".join(repr(images.classes[label]) for label in labels)
        raise DataError(
            f"clip {clip!r} has images of {named}: one answer a clip needs one class a clip. "
            f"Leave out --by clip, or name shorter clips."
        )
    for row, head in zip(inside.tolist(), of.tolist(), strict=True):
        if images.subjects[row] != images.subjects[head]:
            raise DataError(
                f"clip {images.clips[row]!r} shows {images.subjects[head]!r} and {images.subjects[row]!r}: "
                f"clips of different subjects need different names."
            )
