"""A saved head on a split, in five steps: resolve, load, check, predict, group."""

from dataclasses import dataclass, replace
from typing import Unpack

from featcache.arguments import checked, nearest_name
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.evaluation.checks import notes_on, refuse_unfit
from featcache.evaluation.conformal import SETS_ON_TRAIN, ConformalSets, make_sets, refuse_level, refuse_sets
from featcache.evaluation.evaluation import Evaluation, TemperatureEffect
from featcache.evaluation.model_predictions import group_images
from featcache.evaluation.options import UNITS, EvaluationOptions, separate_options
from featcache.evaluation.predictions import CLIP_RULES, SplitPredictions
from featcache.evaluation.resolve_head import load_head, resolve_head
from featcache.evaluation.row_evaluation import calibrate_predictions, evaluate_rows
from featcache.evaluation.view_predictions import ImagePredictor
from featcache.features import Features, changes_since_extract, read_features, refuse_targets
from featcache.heads.classifiers import HeadFunction
from featcache.heads.saved import (
    ChosenHead,
    FitRun,
    SavedModel,
    SavedTemperature,
    is_function,
    read_temperature,
)
from featcache.store import FeatureStore
from featcache.text import counted


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadOnSplit:
    """A head on a split: its predictions, and where both come from."""

    request: DatasetRequest
    store: FeatureStore
    head: SavedModel
    choice: ChosenHead  # how the head was chosen, and the runs that made it
    shared_subjects_allowed: bool  # whether --allow-shared-subjects was given
    test_views: bool = False  # whether --test-views was given
    augment: str | None = None  # the set of views that --augment named; None where it was not given
    features: Features
    images: SplitPredictions
    uncalibrated: SplitPredictions  # the same by image, with the model's own probabilities
    temperature: SavedTemperature | None  # that made `images` of them; None where the model has none
    clips: SplitPredictions | None  # None where no image belongs to a clip, or a clip has no single class
    sets: ConformalSets | None  # of the unit that was asked for; None where no level was given
    notes: tuple[str, ...]

    @property
    def run(self) -> FitRun:
        """The newest run that made this head."""
        return self.choice.run

    def predictions(self, by: str) -> SplitPredictions:
        """Return the predictions by image or by clip.

        Args:
            by: what one prediction is about: "image"; or "clip", which `predict_on_split` must have been called with.
        """
        chosen = self.clips if by == "clip" else self.images
        assert chosen is not None  # noqa: S101 (`predict_on_split` refused it)
        is_theirs = self.sets is not None and self.sets.predictions is chosen
        return replace(chosen, sets=self.sets.members) if self.sets is not None and is_theirs else chosen

    def evaluation(self, by: str = UNITS[0]) -> Evaluation:
        """Return what follows from the predictions by image or by clip, with those of the other unit beside it.

        Args:
            by: what one prediction is about, as for `predictions`.
        """
        other = self.images if by == "clip" else self.clips
        notes = self.notes
        if by == "clip" and self.features.failed:
            notes = (
                *notes,
                f"missing from their clips: {counted(self.features.failed, 'image')} that could not be embedded",
            )
        beside = None if other is None else self._evaluate(other)
        return replace(self._evaluate(self.predictions(by)), beside=beside, notes=notes, conformal=self.sets)

    def _evaluate(self, predictions: SplitPredictions) -> Evaluation:
        return evaluate_rows(
            predictions,
            head=self.head.name,
            data_set=self.request.recipe.name,
            split=self.features.split,
            failed=self.features.failed if predictions.by == "image" else 0,
            selected_by=self.choice.selected_by,
            variant=self.request.variant,
            handle=self.choice.handle,
            chosen=self.choice.reason,
            temperature=None if predictions.by == "clip" else self._temperature(),
        )

    def _temperature(self) -> TemperatureEffect | None:
        """Return what the temperature does to the calibration of the images."""
        before = calibrate_predictions(self.uncalibrated)
        return None if self.temperature is None or before is None else TemperatureEffect(self.temperature, before)


@checked
def evaluate(
    head: str | HeadFunction | None = None,
    **options: Unpack[EvaluationOptions],
) -> Evaluation:
    """Evaluate a head on a split.

    Args:
        head: a head's name, or the start of one that no other head of this data set has; "best" (as None), which
            `compare` shows first; or "latest", the newest run's best. Or a head of your own: a function that gets
            embeddings (n, dim) float32, at most 16,384 at a time, and returns scores (n, classes), an array or tensor
            with a column for each class in the order of `Features.classes`. The highest score is the prediction. Where
            no score is below 0 and every row has a sum of 1, they are the probabilities; else their softmax is.
        **options: `split`, None for test, or val where there is no test; `by`, "image" or "clip": what one prediction
            is about; `clip_rule`, one of `CLIP_RULES`: how a clip's prediction comes from those on its images, None for
            the first; `allow_shared_subjects`, whether people may stand in train too; `conformal`, the share of
            conformal sets, calibrated on val, that are to hold the true class; `test_views`, whether the probabilities
            are averaged over each image and its embedded views, and `augment`, of which set; and the data set and its
            cache, as the flags of the command line name them.

    Returns:
        The confusion matrix and all that follows from it, with intervals.

    Raises:
        UsageError: the recipe; another `by` or `clip_rule` than these; or a rule where no image belongs to a clip;
            or your function returns scores of another shape, or not finite.
        CacheError: no head, no split to evaluate on, another variant, other classes, or subjects in both splits; or a
            file of the cache is damaged.
        DataError: by clip, and there is none, or one has several classes or subjects.
        MachineError: the embeddings of the split do not fit into memory.
    """
    request, choice, by = separate_options(options)
    return predict_on_split(request, head, **choice).evaluation(by)


@checked
def predict_split(
    head: str | HeadFunction | None = None,
    **options: Unpack[EvaluationOptions],
) -> SplitPredictions:
    """Return what a head predicts on every image of a split (by clip: on every clip), beside what is true.

    `save_predictions` writes it as a table.

    Args:
        head: as of `evaluate`.
        **options: as of `evaluate`.

    Raises:
        UsageError: as `evaluate`.
        CacheError: as `evaluate`.
        DataError: as `evaluate`.
        MachineError: as `evaluate`.
    """
    request, choice, by = separate_options(options)
    return predict_on_split(request, head, **choice).predictions(by)


def predict_on_split(
    request: DatasetRequest,
    head: str | HeadFunction | None = None,
    *,
    split: str | None = None,
    by: str = UNITS[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    conformal: float | None = None,
    test_views: bool = False,
    augment: str | None = None,
) -> HeadOnSplit:
    """Return the predictions of a head on a split.

    Only the embeddings of that split are read: what is said of train comes from its listing.

    Args:
        request: the data set, its cache, and the stores that are meant.
        head: as of `evaluate`; None for the best.
        split: the split's name; None for test, or val where there is no test.
        by: "image" or "clip": what one prediction is to be about.
        clip_rule: as of `evaluate`; None for the first of `CLIP_RULES`.
        allow_shared_subjects: whether people may stand in train too.
        conformal: the share of conformal sets that are to hold the true class; None makes no sets.
        test_views: whether the probabilities are averaged over each image and its embedded views.
        augment: with `test_views`, over which set of views; None for those of the training, or the only set.

    Returns:
        The predictions by image and, where the images belong to clips of one class each, by clip, whatever `by` is.

    Raises:
        UsageError: as `evaluate`.
        CacheError: as `evaluate`.
        DataError: as `evaluate`.
        MachineError: as `evaluate`.
    """
    for flag, value, words in (("--by", by, UNITS), ("--clip-rule", clip_rule, CLIP_RULES)):
        if value is not None and value not in words:
            error = UsageError(f"{flag}: found {value!r}, expected {' or '.join(words)}")
            raise error.correct(flag, nearest_name(value, words) or words[0])
    refuse_targets(request.recipe, "this evaluation", "evaluate_targets()")
    refuse_level(conformal)
    if augment is not None and not test_views:
        raise UsageError("--augment has no effect without --test-views: it names the views that are averaged over")
    choice, key = resolve_head(request, head, split)
    model, features = load_head(choice, key, head)
    with choice.explain_choice_in_errors():
        refuse_unfit(model, choice.store, features, allow_shared_subjects=allow_shared_subjects)
        temperature = read_temperature(model.folder)
        predictor = ImagePredictor(request, choice.store, model, temperature, test_views, augment)
        images, uncalibrated, view_note = predictor.predict(features, key)
    clips, clip_note = group_images(uncalibrated, by, clip_rule, key[2])
    sets = None
    if conformal is not None:
        refuse_sets(request, key[2], has_probabilities=images.has_probabilities, name=model.name)
        on_val = _predict_val(predictor, choice, by, clip_rule)
        sets = make_sets(clips if by == "clip" and clips is not None else images, on_val, conformal)
    changes = changes_since_extract(choice.store, request.recipe, [key[2]])
    notes = notes_on(model, choice.store, features, choice.selected_by)
    if sets is not None and key[2] == "train" and not is_function(model.kind):
        notes.append(SETS_ON_TRAIN)
    return HeadOnSplit(
        request=request,
        store=choice.store,
        head=model,
        choice=choice,
        shared_subjects_allowed=allow_shared_subjects,
        test_views=test_views,
        augment=augment,
        features=features,
        images=images,
        uncalibrated=uncalibrated,
        temperature=temperature,
        clips=clips,
        sets=sets,
        notes=tuple(filter(None, (*choice.notes, *changes, *notes, view_note, clip_note))),
    )


def _predict_val(predictor: ImagePredictor, choice: ChosenHead, by: str, clip_rule: str | None) -> SplitPredictions:
    """Return what a model predicts on val as it does on the split: with or without views, by image or by clip."""
    key = predictor.request.require_key(choice.store, "val")
    val = read_features(choice.store, key)
    with choice.explain_choice_in_errors():
        refuse_unfit(predictor.model, choice.store, val, allow_shared_subjects=True)
        images, uncalibrated, _ = predictor.predict(val, key)
    clips = group_images(uncalibrated, by, clip_rule, "val")[0] if by == "clip" else None
    return clips or images
