"""keep_head: what a head of one's own predicts, kept under a name, so that every command can compare and report it."""

import re
import time
from typing import Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.features import Features, read_features, refuse_targets
from featcache.files import NAME_PATTERN
from featcache.heads.classifiers import (
    FunctionClassifier,
    HeadFunction,
    ModelOutput,
    SearchResult,
    SearchTrial,
    score_output,
)
from featcache.heads.fit_classifier import keep_classifier
from featcache.heads.fitted import Fitted
from featcache.heads.saved import FUNCTION, refuse_given_name
from featcache.heads.splits import read_splits, refuse_unfit
from featcache.recipe import StoreOptions


@checked
def keep_head(head: HeadFunction, head_name: str, **options: Unpack[StoreOptions]) -> Fitted:
    """Keep what a head of your own predicts, under a name: `featcache compare` and `featcache report` then know it.

    The function itself is not kept, so that no file can ever run code: `predict` and `export-model` refuse such a head,
    and what it says of images that are extracted later is not known until it is kept again. It is called for train,
    val and every other split that the cache holds; the predictions on all but train are kept.

    Args:
        head: a function from embeddings to scores, as `evaluate` takes it.
        head_name: what the head is called, letters, digits, dots and dashes; its folder is `NAME-<hash>`. Under the
            same name and on the same splits it replaces what was kept before.
        **options: the data set and its cache, as of `evaluate`.

    Returns:
        What was kept, with its scores on train and val.

    Raises:
        UsageError: the recipe, or the name; or the function returns something else than scores.
        CacheError: the train split is not in the cache.
        MachineError: the disk refuses.
    """
    if not re.fullmatch(NAME_PATTERN, head_name):
        raise UsageError(
            f"keep_head(): head_name is {head_name!r}, expected letters, digits, dots and dashes, such as my-mlp"
        )
    refuse_given_name(head_name)
    request = DatasetRequest(**options)
    refuse_targets(request.recipe, "keep_head()")
    splits = read_splits(request)
    store, train, val = splits.source, splits.in_memory, splits.val
    begun = time.perf_counter()
    function = FunctionClassifier(head, head_name, len(train.classes))
    outputs: dict[str, tuple[Features, ModelOutput]] = {}
    for split in (key[2] for key in request.keys_of(store) if key[2] != "train"):
        features = val if split == "val" and val is not None else read_features(store, request.key_of(store, split))
        refuse_unfit(train, features)
        outputs[split] = features, function.predict(features.x)
    on_val = outputs["val"][1] if "val" in outputs else None
    scores = None if val is None or on_val is None else score_output(on_val, val.y, len(train.classes))
    on_train = score_output(function.predict(train.x), train.y, len(train.classes))
    seconds = time.perf_counter() - begun
    trial = SearchTrial(settings={}, val=scores, seconds=seconds)
    result = SearchResult((trial,), 0, function, on_train, on_val)
    return keep_classifier(f"{FUNCTION}:{head_name}", result, splits, outputs, seconds, head_name)
