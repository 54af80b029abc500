"""A saved head on a split, in five steps: resolve, load, check, predict, group."""

from dataclasses import dataclass, replace
from typing import Unpack

from featcache.arguments import checked, nearest_name
from featcache.dataset import DatasetRequest
from featcache.errors import DataError, UsageError
from featcache.evaluation.checks import notes_on, refuse_unfit
from featcache.evaluation.evaluation import Evaluation, evaluate_predictions
from featcache.evaluation.options import UNITS, EvaluationOptions, separate_options
from featcache.evaluation.predictions import (
    CLIP_RULES,
    SplitPredictions,
    group_by_clip,
    label_predictions,
)
from featcache.evaluation.resolve_head import load_head, resolve_head
from featcache.evaluation.view_predictions import predict_with_views
from featcache.features import Features, changes_since_extract
from featcache.heads.classifiers import HeadFunction, ModelOutput
from featcache.heads.saved import (
    ChosenHead,
    FitRun,
    SavedModel,
)
from featcache.metrics import bootstrap_intervals, calibration
from featcache.store import FeatureStore


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadOnSplit:
    """A head on a split: its predictions, and where both come from."""

    request: DatasetRequest
    store: FeatureStore
    head: SavedModel
    choice: ChosenHead  # how the head was chosen, and the runs that made it
    shared_subjects_allowed: bool  # whether --allow-shared-subjects was given
    test_views: bool = False  # whether --test-views was given
    features: Features
    images: SplitPredictions
    clips: SplitPredictions | None  # None where no image belongs to a clip, or a clip has no single class
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
        return chosen

    def evaluation(self, by: str = UNITS[0]) -> Evaluation:
        """Return what follows from the predictions by image or by clip, with those of the other unit beside it.

        Args:
            by: what one prediction is about, as for `predictions`.
        """
        other = self.images if by == "clip" else self.clips
        notes = self.notes
        if by == "clip" and self.features.failed:
            notes = (*notes, f"{self.features.failed:,} images could not be embedded and are missing from their clips")
        beside = None if other is None else self._evaluate(other)
        return replace(self._evaluate(self.predictions(by)), beside=beside, notes=notes)

    def _evaluate(self, predictions: SplitPredictions) -> Evaluation:
        evaluation = evaluate_predictions(
            predictions.truth,
            predictions.predicted,
            predictions.classes,
            head=self.head.name,
            data_set=self.request.recipe.name,
            split=self.features.split,
            by=predictions.by,
            failed=self.features.failed if predictions.by == "image" else 0,
            selected_by=self.choice.selected_by,
        )
        right, (unit, groups) = predictions.right, predictions.groups
        return replace(
            evaluation,
            handle=self.choice.handle,
            chosen=self.choice.reason,
            rule=predictions.rule,
            intervals=bootstrap_intervals(predictions.count_groups(right[:, None])) if len(right) else None,
            calibration=calibration(predictions.confidence, right, unit=unit, groups=groups)
            if predictions.has_probabilities
            else None,
        )


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
            the first; `allow_shared_subjects`, whether people may stand in train too; `test_views`, whether the
            probabilities are averaged over each image and its embedded views, and `augment`, of which set; and the data
            set and its cache, as the flags of the command line name them.

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
    if augment is not None and not test_views:
        raise UsageError("--augment has no effect without --test-views: it names the views that are averaged over")
    choice, key = resolve_head(request, head, split)
    model, features = load_head(choice, key, head)
    with choice.explain_choice_in_errors():
        refuse_unfit(model, choice.store, features, allow_shared_subjects=allow_shared_subjects)
        if test_views:
            output, view_note = predict_with_views(request, choice.store, key, model, features, augment)
        else:
            output, view_note = model.predict(features), ""
    images = _label(output, features)
    clips, clip_note = _group(images, by, clip_rule, key[2])
    changes = changes_since_extract(choice.store, request.recipe, [key[2]])
    notes = notes_on(model, choice.store, features, choice.selected_by)
    return HeadOnSplit(
        request=request,
        store=choice.store,
        head=model,
        choice=choice,
        shared_subjects_allowed=allow_shared_subjects,
        test_views=test_views,
        features=features,
        images=images,
        clips=clips,
        notes=tuple(filter(None, (*choice.notes, *changes, *notes, view_note, clip_note))),
    )


def _label(output: ModelOutput, features: Features) -> SplitPredictions:
    """Return the model's prediction on every image, beside what is true of it."""
    return label_predictions(
        output, features.y, features.classes,
        paths=features.paths, clips=features.clips, subjects=features.subjects,
    )  # fmt: skip


def _group(
    images: SplitPredictions, by: str, clip_rule: str | None, split: str
) -> tuple[SplitPredictions | None, str]:  # fmt: skip
    """Return the predictions by clip, and what a reader must know of them; (None, the reason) where there are none.

    Raises:
        DataError: by clip, and there is none, or one has several classes.
        UsageError: a rule for clips where there are none.
    """
    clips, note = None, ""
    try:
        clips = group_by_clip(images, clip_rule or CLIP_RULES[0]) if by == "clip" or any(images.clips) else None
    except DataError as error:
        if by == "clip":
            raise
        note = f"no figures by clip: {error}"
    if clips is not None and clips.left_out:
        note = f"{clips.left_out:,} images belong to no clip and are left out of the figures by clip"
    if clips is None and clip_rule is not None:
        reason = note or f"no image of split {split!r} belongs to a clip"
        raise UsageError(f"--clip-rule {clip_rule} has no effect here: {reason}. Leave it out.")
    return clips, note
