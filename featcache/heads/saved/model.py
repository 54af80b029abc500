"""What every saved model can be asked: `SavedModel`, the interface of heads and classifiers that a store keeps.

A new kind of model is one module here: a class with the members of `SavedModel`, and a `ModelKind` that `kinds.KINDS`
lists. Nothing else asks which kind a model is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.features import Features
from featcache.heads import KeptTargets, OutputLayer, Scores
from featcache.heads.classifiers import ModelOutput, SearchTrial
from featcache.heads.modules import TrainedHead
from featcache.recipe import LABEL
from featcache.store import FeatureStore

FUNCTION = "function"  # the kind of a function of Python; of one whose predictions are kept, "function:NAME"


class RefusedModelError(Exception):
    """A model that is not read, or could not be read back; the message says why."""


class SavedModel(Protocol):
    """A trained model as its folder keeps it. All of it is data: nothing of a folder is ever executed."""

    @property
    def name(self) -> str:
        """The name of its folder."""

    @property
    def folder(self) -> Path:
        """Where it is kept: `<store>/heads/<data set>/<variant>/<name>`."""

    @property
    def kind(self) -> str:
        """What it is: "linear", "mlp", "knn", "ridge", "sklearn.svm:SVC"."""

    @property
    def command(self) -> str:
        """The command that trains such a model: "fit-head" or "fit"."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings by name; of a head the learning rate and those that differ from the defaults."""

    @property
    def trials(self) -> tuple[SearchTrial, ...]:
        """The combinations of settings that `featcache fit` tried; none for a head of fit-head."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of its outputs."""

    @property
    def train(self) -> Scores | None:
        """The scores on train, measured when it was trained; None where they mean nothing."""

    @property
    def val(self) -> Scores | None:
        """The scores on val, measured when it was trained; None where there was no val split."""

    @property
    def sources(self) -> Mapping[str, Mapping[str, str]]:
        """Where "train" and, if it was used, "val" came from: see `Features.source`."""

    @property
    def predictions(self) -> Mapping[str, Mapping[str, str]]:
        """The splits whose predictions are kept: the listing's sha256 and the file's."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The packages that it was trained with, and their versions; empty where its document does not say."""

    @property
    def has_diverged(self) -> bool:
        """Whether its weights are not finite, so that its predictions mean nothing."""

    @property
    def gives_probabilities(self) -> bool:
        """Whether `predict` gives probabilities beside the labels."""

    @property
    def layer(self) -> TrainedHead | None:
        """The head that `featcache fit-head` trained; None where it is another classifier."""

    @property
    def output_layer(self) -> OutputLayer | None:
        """The last layer of a network that answers as it does; None where no linear layer does, or no model is kept."""

    def facts(self) -> list[tuple[str, str]]:
        """Return what identifies it beside its sources, as pairs of a label and a text."""

    def predict(self, features: Features) -> ModelOutput:
        """Return its predictions on a split: those that are kept, where they are of that very listing.

        Args:
            features: The split, as `featcache.load` gives it.

        Raises:
            CacheError: features of another trunk, a damaged file, or neither a model nor predictions.
        """

    def predict_probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the probabilities of embeddings, (rows, classes) float64; 1 for the label where there are none.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            CacheError: only its predictions are kept.
        """

    def refuse_unusable(self, store: FeatureStore) -> None:
        """Raise a CacheError unless the model can predict on embeddings of a store.

        Args:
            store: Whose embeddings it is to predict on.

        Raises:
            CacheError: it has diverged, takes embeddings of another width, or only its predictions are kept.
        """


class SavedTargetModel(SavedModel, Protocol):
    """A saved model of several labels or numbers a row."""

    @property
    def target_kind(self) -> str:
        """LABELS or VALUE."""

    @property
    def kept_targets(self) -> KeptTargets:
        """The thresholds of its labels, or the deviations of its numbers."""

    def predict_targets(
        self, x: npt.NDArray[np.float32], clips: Sequence[str] = (), *, as_answers: bool = True
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """Return the probability of each label, or the numbers, of rows, (rows, outputs) float64.

        Args:
            x: (rows, dim) float32, as the trunk gave them.
            clips: (rows,) the clip of each image, for a head over clips; () where each is one of its own.
            as_answers: whether probabilities are wanted, and not the outputs that they are made of.
        """

    def score_targets(self, features: Features) -> Scores:
        """Return the scores on a split with several labels or numbers a row.

        Args:
            features: The split.
        """


def predicts_targets(model: SavedModel) -> TypeGuard[SavedTargetModel]:
    """Return whether a model is of several labels or numbers a row, and not of one class.

    Args:
        model: Any.
    """
    return getattr(model, "target_kind", LABEL) != LABEL


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How one kind of model is recognised and read."""

    document: str  # the file that is published last: a folder without it holds no model of this kind
    load: Callable[[Path, FeatureStore, str], SavedModel]  # the folder, its store, the device that predicts
    describe: Callable[[Path], SavedModel]  # the same without what is large: cheap for any number of models
    check: Callable[[Path], None]  # raises CacheError where a file is missing or damaged


def is_function(kind: str) -> bool:
    """Return whether a model of this kind is a function of Python, kept or not.

    Args:
        kind: as `SavedModel.kind` has it.
    """
    return kind.partition(":")[0] == FUNCTION


def drawn_views(model: SavedModel) -> tuple[str, int]:
    """Return which set of views a model was trained on, in the words of `--augment`, and how many; ("", 0) for none.

    Args:
        model: Any.
    """
    source = model.sources.get("train", {})
    return source.get("augment", ""), len(list(filter(None, source.get("views", "").split(","))))


def refuse_other_trunk(model: SavedModel, trunk: str) -> None:
    """Raise a CacheError unless a trunk is the one that a model was trained on.

    Embeddings of another trunk mean nothing to a model, even where their width is the same.

    Args:
        model: What is to predict.
        trunk: The fingerprint of the trunk that made the embeddings, 64 hex digits; those of several, joined by "+".

    Raises:
        CacheError: it is another trunk.
    """
    own = model.sources["train"]["trunk"]
    if own != trunk:
        raise CacheError(
            f"{model.name} was trained on embeddings of trunk {_shorten(own)}, these are of trunk {_shorten(trunk)}; "
            f"name the store that it belongs to with --store"
        )


def _shorten(trunk: str) -> str:
    """Return the first digits of a fingerprint, of several those of each."""
    return "+".join(fingerprint[:8] for fingerprint in trunk.split("+"))
