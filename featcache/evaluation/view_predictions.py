"""Predictions on an image and on its embedded views, averaged: test-time augmentation."""

from dataclasses import replace

import numpy as np

from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.features import Features, find_views, read_views
from featcache.heads.classifiers import ModelOutput
from featcache.heads.saved import SavedModel, drawn_views
from featcache.store import FeatureStore, ListingKey


def predict_with_views(
    request: DatasetRequest, store: FeatureStore, key: ListingKey, model: SavedModel, features: Features,
    augment: str | None,
) -> tuple[ModelOutput, str]:  # fmt: skip
    """Return a model's mean probabilities over each image and its views, and what they are, in a sentence.

    Probabilities are averaged and not logits, as Krizhevsky et al. (2012, section 4.1) average over ten crops: a model
    that has no logits has them too. The plain image counts as one view does.

    Args:
        request: The data set; it names the command that makes views.
        store: That of the plain images.
        key: (data set, variant, split).
        model: What predicts.
        features: The plain images.
        augment: Which set of views; None: that of the model's training, or the only one that there is.

    Raises:
        UsageError: the model gives labels and no probabilities.
        CacheError: there are no such views, several sets of which none is the model's, or an image lacks one.
        MachineError: they do not fit into memory.
    """
    views = find_views(request, store, key, augment or drawn_views(model)[0])
    outputs = [model.predict(replace(features, x=x)) for x in (features.x, *read_views(request, features, views))]
    probabilities = [output.probabilities for output in outputs if output.probabilities is not None]
    if len(probabilities) < len(outputs):
        raise UsageError(
            f"--test-views: {model.name} gives labels and no probabilities that could be averaged; leave it out"
        ).correct("--test-views", None)
    mean = np.stack(probabilities).mean(axis=0, dtype=np.float64).astype(np.float32)
    note = f"{model.name}: probabilities are the mean over each image and its {views.sentence} (--test-views)"
    return ModelOutput(mean.argmax(axis=1), mean), note
