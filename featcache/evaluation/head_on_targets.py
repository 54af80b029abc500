"""A saved head on a split with several labels or numbers a row: resolve, load, check, predict."""

from dataclasses import dataclass
from typing import TypedDict, Unpack

from featcache.arguments import checked, nearest_name
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.evaluation.checks import notes_on, refuse_unfit
from featcache.evaluation.conformal import SETS_ON_TRAIN, refuse_level, refuse_sets
from featcache.evaluation.options import UNITS
from featcache.evaluation.resolve_head import resolve_head
from featcache.evaluation.target_evaluation import TargetEvaluation
from featcache.evaluation.target_predictions import TargetPredictions
from featcache.evaluation.target_predictor import TargetPredictor
from featcache.evaluation.target_sets import TargetSets, make_target_sets
from featcache.features import Features, changes_since_extract, read_features
from featcache.heads.saved import (
    ChosenHead,
    SavedTargetModel,
    SavedTemperature,
    drawn_views,
    load_model,
    predicts_targets,
    read_temperature,
)
from featcache.recipe import LABEL, LABELS, KeptHeadOptions, pick_options
from featcache.store import FeatureStore
from featcache.text import counted


class TargetSplitOptions(TypedDict, total=False):
    """Which split, and what one prediction on it is about."""

    split: str | None  # the split's name; None for test, or val where there is no test
    by: str  # "image" or "clip": what one prediction is about; left out, "image"
    allow_shared_subjects: bool  # whether people may stand in train too; left out, False
    conformal: float | None  # the share of numbers, or of labels, that conformal sets are to hold; None makes none
    test_views: bool  # whether answers are averaged over each image and its embedded views; left out, False
    augment: str | None  # with test_views, over which set of views; None for those of the training, or the only set


class TargetOptions(TargetSplitOptions, KeptHeadOptions, total=False):
    """… and of which data set, cache and store the head and the embeddings are."""


def without_target_views(choice: TargetSplitOptions) -> TargetSplitOptions:
    """Return the same options, answers being on the plain images: those of a head that another is held against.

    Args:
        choice: which answers of the other head are meant.
    """
    return {**choice, "test_views": False, "augment": None}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadOnTargets:
    """A head on a split with several labels or numbers a row: its predictions, and where both come from."""

    request: DatasetRequest
    store: FeatureStore
    head: SavedTargetModel
    choice: ChosenHead
    features: Features
    predictions: TargetPredictions
    temperature: SavedTemperature | None  # by which the probabilities of labels are; None by clip, and of numbers
    sets: TargetSets | None
    notes: tuple[str, ...]
    shared_subjects_allowed: bool = False  # whether --allow-shared-subjects was given
    test_views: bool = False  # whether answers are means over views
    augment: str | None = None  # over which set of them; None: the only one

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
            share of numbers, or of the labels that rows have, that conformal intervals or sets are to hold;
            `test_views`, whether answers are averaged over each image and its embedded views, and `augment`, of which
            set; and the data set and its cache, as the flags of the command line name them.

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
    allow_shared_subjects: bool = False, conformal: float | None = None, test_views: bool = False,
    augment: str | None = None,
) -> HeadOnTargets:  # fmt: skip
    """Return what a head answers on a split with several labels or numbers a row.

    Args:
        request: the data set, its cache, and the stores that are meant.
        head: as of `evaluate_targets`; None for the best.
        split: the split's name; None for test, or val where there is no test.
        by: "image" or "clip": what one prediction is to be about.
        allow_shared_subjects: whether people may stand in train too.
        conformal: the share that conformal intervals or sets are to hold; None makes none.
        test_views: whether answers are averaged over each image and its embedded views.
        augment: with `test_views`, over which set of views; None for those of the training, or the only set.

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
    if augment is not None and not test_views:
        raise UsageError("--augment has no effect without --test-views: it names the views that are averaged over")
    choice, key = resolve_head(request, head, split)
    with choice.explain_choice_in_errors():
        model = load_target_head(choice)
        features = read_features(choice.store, key, any_targets=True)
        refuse_unfit(model, choice.store, features, allow_shared_subjects=allow_shared_subjects)
    temperature = read_temperature(model.folder) if by == UNITS[0] else None  # as of classes: a clip has none
    value = None if temperature is None else temperature.value
    predictor = TargetPredictor(request, choice.store, model, value, test_views=test_views, augment=augment)
    predictions, left_out, view_note = predictor.predict(features, key, by)
    notes = notes_on(model, choice.store, features, choice.selected_by)
    notes += [view_note] * bool(view_note)
    notes += [f"left out: {counted(left_out, 'image')} that are in no clip"] if left_out else []
    sets = None
    if conformal is not None:
        refuse_sets(request, key[2], has_probabilities=True, name=model.name)
        sets = make_target_sets(predictions, _predict_val(predictor, choice, by), conformal)
        notes += [SETS_ON_TRAIN] if key[2] == "train" else []
    changes = changes_since_extract(choice.store, request.recipe, [key[2]])
    return HeadOnTargets(
        request=request, store=choice.store, head=model, choice=choice, features=features, predictions=predictions,
        temperature=temperature, sets=sets,
        notes=(*choice.notes, *changes, *notes, *_threshold_notes(model, features)),
        shared_subjects_allowed=allow_shared_subjects, test_views=test_views,
        augment=(augment or drawn_views(model)[0] or None) if test_views else None,
    )  # fmt: skip


def _predict_val(predictor: TargetPredictor, choice: ChosenHead, by: str) -> TargetPredictions:
    """Return what a head answers on val, by the same unit as on the split."""
    key = predictor.request.require_key(choice.store, "val")
    val = read_features(choice.store, key, any_targets=True)
    with choice.explain_choice_in_errors():
        refuse_unfit(predictor.model, choice.store, val, allow_shared_subjects=True)
    return predictor.predict(val, key, by).predictions


def load_target_head(choice: ChosenHead) -> SavedTargetModel:
    """Return the model of a head on several labels or numbers.

    Raises:
        CacheError: it is damaged, or one of classes.
    """
    model = load_model(choice.folder, choice.store)
    if not predicts_targets(model):
        raise CacheError(f"{model.name} was trained on one class a row; run `featcache fit-head` on these targets")
    return model


def _threshold_notes(model: SavedTargetModel, features: Features) -> list[str]:
    if model.target_kind != LABELS:
        return []
    if not model.kept_targets.thresholds:
        return ["there was no val split to choose thresholds on: every label has 0.5"]
    return ["the thresholds of the labels were chosen on these rows: F1 flatters"] if features.split == "val" else []
