"""FittedTargets: a model of `featcache fit` on several labels or numbers, with what it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, UsageError
from featcache.features import Features
from featcache.heads import KeptTargets, OutputLayer, Scores, answers_of, score_answers, truth_of
from featcache.heads.classifiers import ClassifierSettings, ModelOutput, SearchTrial, TargetModel
from featcache.heads.modules import TrainedHead
from featcache.heads.saved.documents import settings_in_words
from featcache.store import FeatureStore


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittedTargets:
    """A model of `featcache fit` on several labels or numbers, with what it came from; a `SavedTargetModel`."""

    name: str
    folder: Path
    kind: str  # "knn", "ridge", "logreg"
    target_kind: str  # LABELS or VALUE
    settings: ClassifierSettings
    trials: tuple[SearchTrial, ...]  # every combination that was tried
    classes: tuple[str, ...]  # the names of the labels or numbers
    train: Scores | None
    val: Scores | None
    seconds: float
    sources: Mapping[str, Mapping[str, str]]
    model: TargetModel | None  # None where it is only described
    kept_targets: KeptTargets
    versions: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that fits such a model."""
        return "fit"

    @property
    def predictions(self) -> Mapping[str, Mapping[str, str]]:
        """None: the model is always kept, and answers anew."""
        return {}

    @property
    def has_diverged(self) -> bool:
        """Never: only a head that is trained in steps diverges."""
        return False

    @property
    def has_model(self) -> bool:
        """Always: see `predictions`."""
        return True

    @property
    def gives_probabilities(self) -> bool:
        """Not of one class: `predict_targets` answers."""
        return False

    @property
    def layer(self) -> TrainedHead | None:
        """None: it is no head of `featcache fit-head`."""
        return None

    @property
    def output_layer(self) -> OutputLayer | None:
        """A linear map as the last layer of a network; None of k-NN."""
        return None if self.model is None else self.model.output_layer

    def facts(self) -> list[tuple[str, str]]:
        """Return the kind and all settings in one text."""
        return [("classifier", ", ".join([self.kind, *settings_in_words(self.settings)]))]

    def predict(self, features: Features) -> ModelOutput:
        """Return nothing: it says no single class of a row.

        Args:
            features: Of no use.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.name} predicts {self.target_kind}, and no class of split {features.split!r}")

    def predict_probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what `predict_targets` does.

        Args:
            x: (rows, dim) float32, as the trunk gave them.
        """
        return self.predict_targets(x)

    def predict_targets(
        self, x: npt.NDArray[np.float32], clips: Sequence[str] = (), *, as_answers: bool = True  # noqa: ARG002
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """Return the probability of each label, or the numbers, of rows, (rows, outputs) float64.

        Args:
            x: (rows, dim) float32, as the trunk gave them.
            clips: Of no use: each image is answered by itself.
            as_answers: Whether probabilities are wanted, and not the outputs that they are made of.
        """
        assert self.model is not None  # noqa: S101 (who predicts has loaded it)
        outputs = self.model.outputs(x)
        return answers_of(self.target_kind, outputs) if as_answers else outputs

    def score_targets(self, features: Features) -> Scores:
        """Return the scores on a split.

        Args:
            features: The split.
        """
        outputs = self.predict_targets(features.x, as_answers=False)
        return score_answers(self.target_kind, self.kept_targets, outputs, truth_of(features))

    def refuse_unusable(self, store: FeatureStore) -> None:
        """Raise a CacheError unless the model can predict on embeddings of a store.

        Args:
            store: Whose embeddings it is to predict on; an empty one fits.

        Raises:
            CacheError: it takes embeddings of another width.
        """
        if self.model is not None and store.dim not in (None, self.model.width):
            raise CacheError(
                f"{self.name} takes embeddings of {self.model.width}, store {store.name} holds {store.dim}"
            )
