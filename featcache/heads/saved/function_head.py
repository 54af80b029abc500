"""FunctionHead: a head of one's own, a function from embeddings to scores, as a `SavedModel` that no file keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads import Scores
from featcache.heads.classifiers import FunctionClassifier, HeadFunction, ModelOutput, SearchTrial, name_of_function
from featcache.heads.saved.find import ChosenHead
from featcache.heads.saved.folders import heads_folder
from featcache.heads.saved.model import FUNCTION, refuse_other_trunk
from featcache.heads.saved.run_log import FitRun
from featcache.store import FeatureStore, ListingKey


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FunctionHead:
    """A function from embeddings to scores, where a saved head is expected; a `SavedModel`."""

    classifier: FunctionClassifier
    folder: Path  # where a head of this name would be kept; nothing is there
    classes: tuple[str, ...]
    trunk: str  # the fingerprint of the trunk whose embeddings it gets

    @property
    def name(self) -> str:
        """What the function is called."""
        return self.classifier.name

    @property
    def kind(self) -> str:
        """Always "function"."""
        return FUNCTION

    @property
    def command(self) -> str:
        """None: no command makes it."""
        return ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """None that are known."""
        return {}

    @property
    def trials(self) -> tuple[SearchTrial, ...]:
        """None."""
        return ()

    @property
    def train(self) -> Scores | None:
        """None: it was trained elsewhere."""
        return None

    @property
    def val(self) -> Scores | None:
        """None: it was trained elsewhere."""
        return None

    @property
    def sources(self) -> Mapping[str, Mapping[str, str]]:
        """The trunk; which rows it was trained on is not known."""
        return {"train": {"trunk": self.trunk, "listing": "not known"}}

    @property
    def predictions(self) -> Mapping[str, Mapping[str, str]]:
        """None that are kept."""
        return {}

    @property
    def versions(self) -> Mapping[str, str]:
        """None that are known."""
        return {}

    @property
    def has_diverged(self) -> bool:
        """Never: scores that are not finite are refused."""
        return False

    @property
    def gives_probabilities(self) -> bool:
        """Always: see `FunctionClassifier.predict`."""
        return True

    @property
    def layer(self) -> None:
        """None: it is no head of `featcache fit-head`."""
        return

    @property
    def output_layer(self) -> None:
        """None: what the function does is not known."""
        return

    def facts(self) -> list[tuple[str, str]]:
        """Return which function it is."""
        return [("head", f"a function of Python: {name_of_function(self.classifier.function)}")]

    def predict(self, features: Features) -> ModelOutput:
        """Return labels and probabilities (float32) of a split.

        Raises:
            CacheError: features of another trunk.
            UsageError: the function returns something else than a finite score for each row and class.
        """
        refuse_other_trunk(self, features.source.get("trunk", "unknown"))
        return self.classifier.predict(features.x)

    def predict_probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the probabilities (rows, classes) of embeddings (rows, dim).

        Raises:
            UsageError: as `predict`.
        """
        probabilities = self.classifier.predict(x).probabilities
        assert probabilities is not None  # noqa: S101 (a function always has some)
        return probabilities.astype(np.float64)

    def refuse_unusable(self, store: FeatureStore) -> None:
        """Do nothing: what embeddings the function takes is not known."""


def make_function_head(
    function: HeadFunction, store: FeatureStore, features: Features, name: str | None = None
) -> FunctionHead:  # fmt: skip
    """Return a function as the head of a split's features.

    Args:
        function: embeddings (n, dim) float32 -> scores (n, classes).
        store: that of the features.
        features: a split that it is to predict on.
        name: what it is to be called; None for what it calls itself.
    """
    classifier = FunctionClassifier(function, name or name_of_function(function), len(features.classes))
    source = features.source
    folder = heads_folder(store, source["data_set"], source["variant"]) / classifier.name
    return FunctionHead(classifier=classifier, folder=folder, classes=features.classes, trunk=source["trunk"])


def choose_function(function: HeadFunction, store: FeatureStore, key: ListingKey) -> ChosenHead:
    """Return a function as what `find_head` returns for a saved head: nothing chose it, and no run made it.

    Args:
        function: the head.
        store: the store of the split that it is to predict on.
        key: (data set, variant, split).
    """
    name = name_of_function(function)
    run = FitRun(at=0, heads=(name,), best=name, selected_by="")
    return ChosenHead(
        handle=name, folder=heads_folder(store, *key[:2]) / name, store=store, run=run, check=None, selected_by=""
    )
