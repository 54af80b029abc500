"""What a model predicts on a split: by image, with its temperature, and by clip."""

from dataclasses import replace

from featcache.errors import DataError, UsageError
from featcache.evaluation.predictions import CLIP_RULES, SplitPredictions, group_by_clip, label_predictions
from featcache.features import Features
from featcache.heads.saved import SavedModel, SavedTemperature
from featcache.metrics import apply_temperature
from featcache.text import counted


def predict_images(model: SavedModel, features: Features) -> SplitPredictions:
    """Return the model's prediction on every image, beside what is true of it; its own probabilities."""
    return label_predictions(
        model.predict(features), features.y, features.classes,
        paths=features.paths, clips=features.clips, subjects=features.subjects,
    )  # fmt: skip


def calibrate_images(images: SplitPredictions, temperature: SavedTemperature | None) -> SplitPredictions:
    """Return the predictions with the probabilities that a temperature makes of theirs."""
    if temperature is None or temperature.value is None or not images.has_probabilities:
        return images
    return replace(images, probabilities=apply_temperature(images.probabilities, temperature.value))


def group_images(
    images: SplitPredictions, by: str, clip_rule: str | None, split: str
) -> tuple[SplitPredictions | None, str]:
    """Return the predictions by clip, and what a reader must know of them; (None, the reason) where there are none.

    Args:
        images: with the model's own probabilities.
        by: "image" or "clip": what one prediction is to be about.
        clip_rule: one of `CLIP_RULES`; None for the first.
        split: the split's name.

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
        note = f"left out of the figures by clip: {counted(clips.left_out, 'image')} that are in no clip"
    if clips is None and clip_rule is not None:
        reason = note or f"no image of split {split!r} belongs to a clip"
        raise UsageError(f"--clip-rule {clip_rule} has no effect here: {reason}. Leave it out.")
    return clips, note
