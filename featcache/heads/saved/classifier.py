"""A classifier as a store keeps it, with its scores, what it came from, and the predictions that are kept beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.features import Features
from featcache.files import (
    read_hashed_file,
)
from featcache.heads import OutputLayer, Scores
from featcache.heads.classifiers import (
    Classifier,
    ClassifierSettings,
    ModelOutput,
    SearchTrial,
    make_output_layer,
)
from featcache.heads.modules import TrainedHead
from featcache.heads.saved import RefusedModelError
from featcache.heads.saved.classifier_files import output_from_bytes, predictions_file
from featcache.heads.saved.documents import CLASSIFIER, settings_in_words
from featcache.heads.saved.model import is_function, refuse_other_trunk
from featcache.store import FeatureStore


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SavedClassifier:
    """A classifier with what it came from; a `SavedModel`, as `SavedHead` is for linear heads."""

    name: str
    folder: Path
    kind: str  # as it was asked for: "knn", "sklearn.svm:SVC"
    settings: ClassifierSettings
    trials: tuple[SearchTrial, ...]  # every combination that was tried
    classes: tuple[str, ...]
    train: Scores | None
    val: Scores | None
    seconds: float
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source
    classifier: Classifier | None  # None: only its predictions are kept
    without_model: str = ""  # why
    predictions: Mapping[str, Mapping[str, str]]  # by split: the listing's sha256, and the file's
    versions: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that fits such a classifier."""
        return "fit"

    @property
    def has_diverged(self) -> bool:
        """Never: only a head that is trained in steps diverges."""
        return False

    @property
    def has_model(self) -> bool:
        """Whether the model is kept, and not its predictions alone."""
        return self.classifier is not None

    @property
    def gives_probabilities(self) -> bool:
        """Whether the model gives probabilities beside labels; True where only its predictions are kept."""
        return self.classifier is None or self.classifier.gives_probabilities

    @property
    def layer(self) -> TrainedHead | None:
        """None: it is no head of `featcache fit-head`."""
        return None

    @property
    def output_layer(self) -> OutputLayer | None:
        """The last layer of a network that answers as a linear classifier does; None where it is not linear."""
        return None if self.classifier is None else make_output_layer(self.classifier, len(self.classes))

    def facts(self) -> list[tuple[str, str]]:
        """Return the kind and all settings in one text."""
        return [("classifier", ", ".join([self.kind, *settings_in_words(self.settings)]))]

    def predict(self, features: Features) -> ModelOutput:
        """Return its predictions on a split: those that are kept, where they are of that very listing.

        Args:
            features: The split, as `featcache.load` gives it.

        Raises:
            CacheError: features of another trunk, a damaged file, or no model and no predictions.
        """
        refuse_other_trunk(self, features.source.get("trunk", "unknown"))
        kept = self.predictions.get(features.split)
        if kept is not None and kept["listing"] == features.source["listing"]:
            return _read_predictions(self.folder, features, kept["sha256"], len(self.classes))
        if self.classifier is None:
            splits = ", ".join(self.predictions) or "none"
            how = f"`featcache fit {self.kind} --predict {features.split}` keeps"
            if is_function(self.kind):
                how = f"`featcache.keep_head(…, {self.kind.partition(':')[2]!r})` with the function keeps"
            raise CacheError(
                f"{self.name} was kept without its model: {self.without_model}. Its predictions are kept for: "
                f"{splits}. {how} those of {features.split!r} too."
            )
        return self.classifier.predict(features.x)

    def predict_probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the probabilities of embeddings, (rows, classes) float64; 1 for the label where there are none.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            CacheError: only its predictions are kept.
        """
        output = self._model().predict(x)
        if output.probabilities is not None:
            return output.probabilities.astype(np.float64)
        certain = np.zeros((len(x), len(self.classes)))
        certain[np.arange(len(x)), output.predicted] = 1
        return certain

    def refuse_unusable(self, store: FeatureStore) -> None:  # noqa: ARG002 (its width was checked when it was read)
        """Raise a CacheError unless the model is kept.

        Args:
            store: Whose embeddings it is to predict on.

        Raises:
            CacheError: only its predictions are.
        """
        self._model()

    def _model(self) -> Classifier:
        if self.classifier is None:
            way_out = ". Call the function on `featcache.embed(images)`" if is_function(self.kind) else ""
            reason = f"was kept without its model ({self.without_model})"
            raise CacheError(f"{self.name} {reason}: it cannot predict anything new{way_out}")
        return self.classifier


def _read_predictions(folder: Path, features: Features, sha256: str, classes: int) -> ModelOutput:
    path = folder / predictions_file(features.split)
    data = read_hashed_file(path, sha256, way_out=CLASSIFIER.way_out)
    try:
        return output_from_bytes(data, len(features.y), classes)
    except RefusedModelError as error:
        raise CacheError(
            f"{path}: these are not predictions of this split: {error}; fit the classifier again"
        ) from None
