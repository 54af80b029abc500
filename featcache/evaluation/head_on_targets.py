"""A saved head on a split with several labels or numbers a row: resolve, load, check, predict, group."""

from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from featcache.arguments import checked, nearest_name
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, DataError, UsageError
from featcache.evaluation.checks import notes_on, refuse_unfit
from featcache.evaluation.conformal import SETS_ON_TRAIN, refuse_level, refuse_sets
from featcache.evaluation.options import UNITS
from featcache.evaluation.resolve_head import resolve_head
from featcache.evaluation.target_evaluation import TargetEvaluation
from featcache.evaluation.target_predictions import TargetPredictions
from featcache.evaluation.target_sets import TargetSets, make_target_sets
from featcache.features import Features, changes_since_extract, read_features
from featcache.heads import KeptTargets, answers_of, thresholds_of
from featcache.heads.saved import ChosenHead, SavedHead, SavedTemperature, load_model, read_temperature
from featcache.metrics import calibrate_labels
from featcache.recipe import LABEL, LABELS, KeptHeadOptions, pick_options
from featcache.store import FeatureStore
from featcache.text import counted


class TargetSplitOptions(TypedDict, total=False):
    """Which split, and what one prediction on it is about."""

    split: str | None  # the split's name; None for test, or val where there is no test
    by: str  # "image" or "clip": what one prediction is about; left out, "image"
    allow_shared_subjects: bool  # whether people may stand in train too; left out, False
    conformal: float | None  # the share of numbers, or of labels, that conformal sets are to hold; None makes none


class TargetOptions(TargetSplitOptions, KeptHeadOptions, total=False):
    """… and of which data set, cache and store the head and the embeddings are."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadOnTargets:
    """A head on a split with several labels or numbers a row: its predictions, and where both come from."""

    request: DatasetRequest
    store: FeatureStore
    head: SavedHead
    choice: ChosenHead
    features: Features
    predictions: TargetPredictions
    temperature: SavedTemperature | None  # by which the probabilities of labels are; None by clip, and of numbers
    sets: TargetSets | None
    notes: tuple[str, ...]
    shared_subjects_allowed: bool = False  # whether --allow-shared-subjects was given

    def evaluation(self) -> TargetEvaluation:
        """Return what follows from the predictions, with intervals."""
        return TargetEvaluation(
            head=self.head.name, handle=self.choice.handle, data_set=self.request.recipe.name,
            variant=self.request.variant, split=self.features.split, predictions=self.predictions,
            intervals=self.predictions.intervals(),
            failed=self.features.failed, selected_by=self.choice.selected_by, chosen=self.choice.reason,
            notes=self.notes, temperature=self.temperature, sets=self.sets,
        )  # fmt: skip


@checked
def evaluate_targets(head: str | None = None, **options: Unpack[TargetOptions]) -> TargetEvaluation:
    """Evaluate a head on a split with several labels or numbers a row.

    Args:
        head: a head's name or number; "best" (as None), which `compare` shows first; or "latest".
        **options: `split`, None for test, or val where there is no test; `by`, "image" or "clip": the mean of a clip's
            probabilities or numbers; `allow_shared_subjects`, whether people may stand in train too; `conformal`, the
            share of numbers, or of the labels that rows have, that conformal intervals or sets are to hold; and the
            data set and its cache, as the flags of the command line name them.

    Returns:
        The metrics, of all labels or numbers together and of each, with intervals.

    Raises:
        UsageError: the recipe; or its rows have one class each, which `evaluate` is for.
        CacheError: no head, no split to evaluate on, or subjects in both splits; or a file of the cache is damaged.
        DataError: by clip, and there is none, or the images of one have different targets.
        MachineError: the embeddings of the split do not fit into memory.
    """
    request = DatasetRequest(**pick_options(options, KeptHeadOptions))
    return predict_on_targets(request, head, **pick_options(options, TargetSplitOptions)).evaluation()


def predict_on_targets(
    request: DatasetRequest, head: str | None = None, *, split: str | None = None, by: str = UNITS[0],
    allow_shared_subjects: bool = False, conformal: float | None = None,
) -> HeadOnTargets:  # fmt: skip
    """Return what a head answers on a split with several labels or numbers a row.

    Args:
        request: the data set, its cache, and the stores that are meant.
        head: as of `evaluate_targets`; None for the best.
        split: the split's name; None for test, or val where there is no test.
        by: "image" or "clip": what one prediction is to be about.
        allow_shared_subjects: whether people may stand in train too.
        conformal: the share that conformal intervals or sets are to hold; None makes none.

    Raises:
        UsageError: as `evaluate_targets`.
        CacheError: as `evaluate_targets`.
        DataError: as `evaluate_targets`.
        MachineError: as `evaluate_targets`.
    """
    if by not in UNITS:
        error = UsageError(f"--by: found {by!r}, expected {' or '.join(UNITS)}")
        raise error.correct("--by", nearest_name(by, UNITS) or UNITS[0])
    if request.recipe.data.target_kind == LABEL:
        raise UsageError("evaluate_targets(): the rows of this data set have one class each; evaluate() is for them")
    refuse_level(conformal)
    choice, key = resolve_head(request, head, split)
    with choice.explain_choice_in_errors():
        model = load_target_head(choice)
        features = read_features(choice.store, key, any_targets=True)
        refuse_unfit(model, choice.store, features, allow_shared_subjects=allow_shared_subjects)
    temperature = read_temperature(model.folder) if by == UNITS[0] else None  # as of classes: a clip has none
    predictions, left_out = predict_units(model, features, by, temperature)
    notes = notes_on(model, choice.store, features, choice.selected_by)
    notes += [f"left out: {counted(left_out, 'image')} that are in no clip"] if left_out else []
    sets = None
    if conformal is not None:
        refuse_sets(request, key[2], has_probabilities=True, name=model.name)
        sets = make_target_sets(predictions, _predict_val(request, choice, model, by, temperature), conformal)
        notes += [SETS_ON_TRAIN] if key[2] == "train" else []
    changes = changes_since_extract(choice.store, request.recipe, [key[2]])
    return HeadOnTargets(
        request=request, store=choice.store, head=model, choice=choice, features=features, predictions=predictions,
        temperature=temperature, sets=sets,
        notes=(*choice.notes, *changes, *notes, *_threshold_notes(model, features)),
        shared_subjects_allowed=allow_shared_subjects,
    )  # fmt: skip


def predict_units(
    model: SavedHead, features: Features, by: str, temperature: SavedTemperature | None
) -> tuple[TargetPredictions, int]:  # fmt: skip
    """Return one prediction an image, by the temperature, or one a clip; and how many images are in no clip."""
    if by == UNITS[1]:
        return group_targets(predict_targets(model, features))
    return predict_targets(model, features, None if temperature is None else temperature.value), 0


def _predict_val(
    request: DatasetRequest, choice: ChosenHead, model: SavedHead, by: str, temperature: SavedTemperature | None
) -> TargetPredictions:
    """Return what a head answers on val, by the same unit as on the split."""
    val = read_features(choice.store, request.require_key(choice.store, "val"), any_targets=True)
    with choice.explain_choice_in_errors():
        refuse_unfit(model, choice.store, val, allow_shared_subjects=True)
    return predict_units(model, val, by, temperature)[0]


def load_target_head(choice: ChosenHead) -> SavedHead:
    """Return the model of a head on several labels or numbers.

    Raises:
        CacheError: it is damaged, or one of classes.
    """
    model = load_model(choice.folder, choice.store)
    if not isinstance(model, SavedHead) or model.head.config.targets == LABEL:
        raise CacheError(f"{model.name} was trained on one class a row; run `featcache fit-head` on these targets")
    return model


def predict_targets(model: SavedHead, features: Features, temperature: float | None = None) -> TargetPredictions:
    """Return what a head answers on every image of a split, of labels by a temperature, beside what is true of it."""
    assert features.targets is not None  # noqa: S101 (the recipe says so, and the listing was made by it)
    kind, truth = features.targets.kind, features.targets.values
    outputs = model.predict_targets(features.x, features.clips, as_answers=False)
    answers, thresholds = (
        answers_of(model.head.config, outputs),
        thresholds_for(model.head.targets, kind, truth.shape[1]),
    )
    if temperature is not None and kind == LABELS:
        answers, thresholds = calibrate_labels(outputs, thresholds, temperature)
    return TargetPredictions(
        kind=kind, names=features.classes, by=UNITS[0], truth=truth, answers=answers, thresholds=thresholds,
        paths=features.paths, clips=features.clips, subjects=features.subjects,
    )  # fmt: skip


def thresholds_for(kept: KeptTargets, kind: str, outputs: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
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


def _threshold_notes(model: SavedHead, features: Features) -> list[str]:
    if model.head.config.targets != LABELS:
        return []
    if not model.head.targets.thresholds:
        return ["there was no val split to choose thresholds on: every label has 0.5"]
    return ["the thresholds of the labels were chosen on these rows: F1 flatters"] if features.split == "val" else []
