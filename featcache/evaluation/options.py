"""Which predictions of a head are evaluated: the keywords that every function has that evaluates one."""

from typing import TypedDict

from featcache.dataset import DatasetRequest
from featcache.recipe import KeptHeadOptions, pick_options

UNITS = ("image", "clip")  # what one row of an evaluation is


class SplitOptions(TypedDict, total=False):
    """Which split, and what one prediction on it is about."""

    split: str | None  # the split's name; None for test, or val where there is no test
    by: str  # "image" or "clip": what one prediction is about; left out, "image"
    clip_rule: str | None  # one of CLIP_RULES: how a clip's prediction comes from its images'; None for the first
    allow_shared_subjects: bool  # whether people may stand in train too; left out, False
    conformal: float | None  # the share of conformal sets that are to hold the true class; None makes no sets
    test_views: bool  # whether probabilities are averaged over each image and its embedded views; left out, False
    augment: str | None  # with test_views, over which set of views; None for those of the training, or the only set


class EvaluationOptions(SplitOptions, KeptHeadOptions, total=False):
    """… and of which data set, cache and store the head and the embeddings are."""


def separate_options(options: EvaluationOptions) -> tuple[DatasetRequest, SplitOptions, str]:
    """Return the data set and its cache, which predictions on it are meant, and what one of them is about.

    Args:
        options: all that a function was called with.
    """
    choice = pick_options(options, SplitOptions)
    return DatasetRequest(**pick_options(options, KeptHeadOptions)), choice, choice.get("by", UNITS[0])


def without_views(choice: SplitOptions) -> SplitOptions:
    """Return the same options, predictions being on the plain images: those of a head that another is held against.

    Args:
        choice: Which predictions of the other head are meant.
    """
    return {**choice, "test_views": False, "augment": None}
