"""What a model predicts on images: on each as it is, or the mean over it and its embedded views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.evaluation.model_predictions import calibrate_images, predict_images
from featcache.evaluation.predictions import SplitPredictions
from featcache.features import Features, find_views, read_views
from featcache.heads.saved import SavedModel, SavedTemperature, drawn_views
from featcache.store import FeatureStore, ListingKey


class ImagePredictions(NamedTuple):
    """What a model predicts on the images of a split."""

    images: SplitPredictions  # with the temperature
    uncalibrated: SplitPredictions  # with the model's own probabilities
    note: str  # what the probabilities are, where they are means; else ""


@dataclass(frozen=True, slots=True, eq=False)
class ImagePredictor:
    """A model, and whether it predicts on the images or on views of them as well: test-time augmentation.

    Probabilities are averaged and not logits, as Krizhevsky et al. (2012, section 4.1) average over ten crops: a model
    that has no logits has them too. The plain image counts as one view does. The temperature makes the probabilities of
    each view, as it was fitted to those of single images; their mean is taken after that.
    """

    request: DatasetRequest  # it names the command that makes views
    store: FeatureStore  # that of the plain images
    model: SavedModel
    temperature: SavedTemperature | None
    test_views: bool
    augment: str | None  # which set of views; None: that of the model's training, or the only one that there is

    def predict(self, features: Features, key: ListingKey) -> ImagePredictions:
        """Return what the model predicts on the images of a split.

        Args:
            features: The plain images.
            key: Their (data set, variant, split).

        Raises:
            UsageError: averages over views, and the model gives no probabilities, or its features stand in several
                stores.
            CacheError: there are no such views, several sets of which none is the model's, or an image lacks one.
            MachineError: they do not fit into memory.
        """
        if not self.test_views:
            uncalibrated = predict_images(self.model, features)
            return ImagePredictions(calibrate_images(uncalibrated, self.temperature), uncalibrated, "")
        views = find_views(self.request, self.store, key, self.augment or drawn_views(self.model)[0])
        rows = (features.x, *read_views(self.request, features, views))
        of_views = [predict_images(self.model, replace(features, x=x)) for x in rows]
        if not all(predictions.has_probabilities for predictions in of_views):
            raise UsageError(
                f"--test-views: {self.model.name} gives labels and no probabilities that could be averaged; leave it "
                f"out"
            ).correct("--test-views", None)
        images = average_predictions([calibrate_images(predictions, self.temperature) for predictions in of_views])
        note = f"{self.model.name}: probabilities are the mean over each image and its {views.sentence} (--test-views)"
        return ImagePredictions(images, average_predictions(of_views), note)


def average_predictions(of_views: Sequence[SplitPredictions]) -> SplitPredictions:
    """Return the predictions that the mean probabilities of several make: of the same images, in the same order.

    Args:
        of_views: Each has probabilities.
    """
    mean = np.stack([predictions.probabilities for predictions in of_views]).mean(axis=0, dtype=np.float64)
    probabilities = mean.astype(of_views[0].probabilities.dtype)
    return replace(of_views[0], predicted=probabilities.argmax(axis=1), probabilities=probabilities)
