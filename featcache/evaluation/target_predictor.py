"""What a model answers on rows with several labels or numbers: by image, over views of it, or by clip."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import DataError
from featcache.evaluation.options import UNITS
from featcache.evaluation.target_predictions import TargetPredictions
from featcache.features import Features, find_views, read_views
from featcache.heads import KeptTargets, answers_of, thresholds_of
from featcache.heads.saved import SavedTargetModel, drawn_views
from featcache.metrics import calibrate_labels
from featcache.recipe import LABELS
from featcache.store import FeatureStore, ListingKey


class PredictedUnits(NamedTuple):
    """What a model answers, one row a prediction."""

    predictions: TargetPredictions
    left_out: int  # images that are in no clip, where a prediction is of a clip
    note: str  # what the answers are, where they are means over views; else ""


@dataclass(frozen=True, slots=True, eq=False)
class TargetPredictor:
    """A model of several labels or numbers, and whether it answers on the images or on views of them as well.

    As of classes it is probabilities that are averaged, each by the temperature; of numbers, the numbers.
    """

    request: DatasetRequest  # it names the command that makes views
    store: FeatureStore  # that of the plain images
    model: SavedTargetModel
    temperature: float | None
    test_views: bool = False
    augment: str | None = None  # which set of views; None: that of the model's training, or the only one that there is

    def predict(self, features: Features, key: ListingKey, by: str) -> PredictedUnits:
        """Return one prediction an image, or one a clip: the mean of those on its images.

        Args:
            features: the plain images.
            key: their (data set, variant, split).
            by: "image" or "clip".

        Raises:
            UsageError: averages over views, and the features stand in several stores.
            CacheError: there are no such views, several sets of which none is the model's, or an image lacks one.
            DataError: by clip, and there is none, or the images of one have different targets.
            MachineError: they do not fit into memory.
        """
        rows, note = [features.x], ""
        if self.test_views:
            views = find_views(self.request, self.store, key, self.augment or drawn_views(self.model)[0])
            rows += list(read_views(self.request, features, views))
            what = "probabilities" if self.model.target_kind == LABELS else "numbers"
            note = f"{self.model.name}: {what} are the mean over each image and its {views.sentence} (--test-views)"
        of_views = [predict_targets(self.model, replace(features, x=x), self.temperature) for x in rows]
        images = of_views[0]
        if len(of_views) > 1:
            images = replace(images, answers=np.mean([part.answers for part in of_views], axis=0))
        if by == UNITS[1]:
            return PredictedUnits(*group_targets(images), note)
        return PredictedUnits(images, 0, note)


def predict_targets(
    model: SavedTargetModel, features: Features, temperature: float | None = None
) -> TargetPredictions:  # fmt: skip
    """Return what a model answers on every image of a split, of labels by a temperature, beside what is true of it."""
    assert features.targets is not None  # noqa: S101 (the recipe says so, and the listing was made by it)
    kind, truth = features.targets.kind, features.targets.values
    outputs = model.predict_targets(features.x, features.clips, as_answers=False)
    answers, thresholds = answers_of(kind, outputs), thresholds_for(model.kept_targets, kind, truth.shape[1])
    if temperature is not None and kind == LABELS:
        answers, thresholds = calibrate_labels(outputs, thresholds, temperature)
    return TargetPredictions(
        kind=kind, names=features.classes, by=UNITS[0], truth=truth, answers=answers, thresholds=thresholds,
        paths=features.paths, clips=features.clips, subjects=features.subjects,
    )  # fmt: skip


def thresholds_for(kept: KeptTargets, kind: str, outputs: int) -> npt.NDArray[np.float64]:
    """Return the threshold of each label, (labels,); none of numbers."""
    return thresholds_of(kept, outputs) if kind == LABELS else np.zeros(0)


def group_targets(images: TargetPredictions) -> tuple[TargetPredictions, int]:
    """Return one prediction a clip, the mean of those on its images, and how many images are in no clip.

    Raises:
        DataError: no image belongs to a clip, or the images of a clip have different targets or subjects.
    """
    inside = np.flatnonzero([bool(clip) for clip in images.clips])
    if not len(inside):
        raise DataError("no image of this split belongs to a clip; leave out --by clip, or name the clips in the table")
    numbers: dict[str, int] = {}
    clip = np.array([numbers.setdefault(images.clips[row], len(numbers)) for row in inside])
    _, first = np.unique(clip, return_index=True)
    rows = inside[first]  # of each clip the first image
    differs = (images.truth[inside] != images.truth[rows[clip]]).any(axis=1)
    people = np.array(images.subjects, dtype=object)
    differs |= people[inside] != people[rows[clip]]
    if differs.any():
        name = images.clips[inside[int(np.flatnonzero(differs)[0])]]
        raise DataError(
            f"clip {name!r} has images with different targets or subjects: one prediction a clip needs the same for "
            f"all of them. Leave out --by clip, or name shorter clips."
        )
    answers = np.zeros((len(numbers), images.answers.shape[1]))
    np.add.at(answers, clip, images.answers[inside])
    grouped = TargetPredictions(
        kind=images.kind, names=images.names, by=UNITS[1], truth=images.truth[rows],
        answers=answers / np.bincount(clip)[:, None], thresholds=images.thresholds,
        paths=tuple(images.paths[row] for row in rows), clips=tuple(numbers),
        subjects=tuple(images.subjects[row] for row in rows),
    )  # fmt: skip
    return grouped, len(images.clips) - len(inside)
