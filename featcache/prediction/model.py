"""HeadWithTrunk: a saved head behind the trunk that it was trained on, from pixels to probabilities."""

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.features import RANDOM_TRUNK
from featcache.files import StatLog, expand_home
from featcache.heads.saved import (
    BEST,
    LATEST,
    MODEL_DOCUMENTS,
    ChosenHead,
    SavedModel,
    find_head,
    list_handles,
    load_model,
    refuse_other_trunk,
)
from featcache.listing import locate_root
from featcache.media import ImageTransform, View
from featcache.prediction.test_time_views import choose_views
from featcache.recipe import StoreOptions
from featcache.store import FeatureStore, StoreRequest, digest_column
from featcache.trunks import Trunk, TrunkSource, WeightsMemo, choose_batch_size, choose_device, find_weights, load_trunk

NO_PROBABILITIES = "this classifier gives labels, not probabilities: 1 stands for its label, 0 for every other"


@dataclass(frozen=True, eq=False)
class HeadWithTrunk:
    """A saved head, its store, and the trunk that made the store; loaded when an image must be embedded."""

    store: FeatureStore
    saved: SavedModel
    weights: str | None = None  # as typed; None where the cache's memory of where they are is enough
    arch: str | None = None  # as typed; only of a module of one's own it says something new: that it may be imported
    device: str = "auto"
    batch_size: int | None = None
    images: int | None = None  # that are embedded at most; None where nobody knows
    which: ChosenHead | None = None  # how the head was chosen; None where its folder was named
    with_views: bool = False  # whether probabilities are averaged over each image and views of it
    unused: tuple[str, ...] = ()  # notes on options that were given and have no effect on this head

    @property
    def chosen(self) -> str:
        """Which head "best" or "latest" stood for, and why, in a sentence; "" where the head was named."""
        return "" if self.which is None else self.which.reason

    @property
    def handle(self) -> str:
        """The head as `compare` lists it: "#3 baseline (lr0.1-1a2b3c4d)"."""
        if self.which is not None:
            return self.which.handle
        *_, data_set, variant, _ = self.saved.folder.parts
        return list_handles(self.store, data_set, variant).describe(self.saved.name)

    @property
    def transform(self) -> ImageTransform:
        """What is done to an image before it is embedded, as to those that the head was trained on."""
        return self.store.trunk.spec.transform

    @cached_property
    def views(self) -> tuple[View | None, ...]:
        """None, the plain image, and the views that probabilities are averaged over: those of the head's training.

        Raises:
            CacheError: it was trained on plain images, and the cache has views of none or of several sets.
        """
        return (None, *choose_views(self.store, self.saved)) if self.with_views else (None,)

    @property
    def source(self) -> TrunkSource:
        """Where the trunk's weights are.

        Raises:
            CacheError: they are not here, those that were typed are others, or it is a module that nobody has typed.
        """
        record = self.store.trunk
        source = find_weights(record.spec, record.weights_name, WeightsMemo(self.store.cache), self.weights, self.arch)
        if source is None and self.weights is not None:
            raise CacheError(
                f"weights {self.weights} are not those that head {self.saved.name} was trained on: the embeddings of "
                f"{self.store.name} were made by weights {record.weights_name}. Name these with --weights."
            )
        if source is None:
            raise CacheError(
                f"the trunk of head {self.saved.name} is not here: its weights are {record.weights_name}. "
                f"Name their file with --weights."
            )
        return source

    @cached_property
    def trunk(self) -> Trunk:
        """The trunk, loaded onto the device."""
        device, batch_size = choose_device(self.device), self.batch_size
        if batch_size is None and self.images is not None:
            batch_size = choose_batch_size(device, self.images)
        return load_trunk(self.source, self.store.trunk.spec, device=device, batch_size=batch_size)

    @property
    def sentence(self) -> str:
        """Architecture, weights and precision of the trunk, in words."""
        record = self.store.trunk
        return f"{record.spec.arch}, weights {record.weights_name}, {record.spec.compute}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What everyone who reads a prediction of this head should know, as sentences."""
        notes = (*self.unused, *(() if self.which is None else self.which.notes))
        if self.with_views:
            notes = (*notes, f"the probabilities are the mean over each image and {len(self.views) - 1} views of it")
        notes = (*notes, RANDOM_TRUNK) if self.store.trunk.weights_name == "random" else notes
        return notes if self.saved.gives_probabilities else (*notes, NO_PROBABILITIES)

    def holds(self, digest: bytes) -> bool:
        """Return whether the store has all that is predicted on of the image with this digest; of views it has not."""
        return not self.with_views and bool(self.store.holds(digest_column([digest]))[0])

    def probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return (rows, classes) float64 for embeddings (rows, dim): a head's softmax, or what a classifier says."""
        return self.saved.predict_probabilities(x)


def open_head(
    head: str | None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    with_views: bool = False,
    **options: Unpack[StoreOptions],
) -> HeadWithTrunk:
    """Return the head that is meant, with its store and its trunk.

    Args:
        head: its name or the start of one, its folder, "best" (None is the same) or "latest".
        device: where the trunk will run: "auto", "cpu", "cuda" …
        batch_size: images that are embedded at a time; None leaves it to the device.
        with_views: whether probabilities are averaged over each image and views of it.
        **options: those of the command line that name a data set, a cache and a store (`recipe.StoreOptions`).

    Raises:
        UsageError: the recipe.
        CacheError: no such head, several, or a damaged one; or one of another trunk than its store's.
    """
    typed = options.get("weights")
    request = DatasetRequest(**options)
    path = "" if head in (None, BEST, LATEST) else expand_home(head or "")
    is_folder = path != "" and any(os.path.lexists(os.path.join(path, name)) for name in MODEL_DOCUMENTS)
    if is_folder:
        folder = Path(path).absolute()  # <store>/heads/<data set>/<variant>/<head>
        if len(folder.parents) < 6:
            raise CacheError(f"{folder}: expected the folder of a head in a cache: …/stores/…/heads/…/…/{folder.name}")
        store = FeatureStore.open(folder.parents[3], StatLog(folder.parents[5]))
        if typed is not None and not StoreRequest(typed={"weights": typed}).is_met_by(store):
            raise CacheError(
                f"weights {typed} are not those that head {folder.name} was trained on: the embeddings of {store.name} "
                f"were made by weights {store.trunk.weights_name}. Name these with --weights."
            )
        which = None
    else:
        which = find_head(request, head)
        folder, store = which.folder, which.store
        if request.data is not None or os.path.isdir(locate_root(request.recipe)):
            request.key_of(store, "train")  # whose head this is: a folder that is asked for must be its images'
    with which.explain_choice_in_errors() if which is not None else contextlib.nullcontext():
        saved = _load_usable(folder, store)
    names = (
        "data",
        "cache",
        "name",
        "store",
        "arch",
        "layer",
        "precision",
        "val",
        "test",
        "split_by",
        "split_seed",
        "fold",
        "view",
        "stride",
    )
    unused = [f"--{name.replace('_', '-')}" for name in names if options.get(name) is not None]
    notes = (f"{' and '.join(unused)} has no effect: the head's folder says where it belongs",)
    return HeadWithTrunk(
        store,
        saved,
        typed,
        options.get("arch"),
        device,
        batch_size,
        which=which,
        with_views=with_views,
        unused=notes if is_folder and unused else (),
    )


def _load_usable(folder: Path, store: FeatureStore) -> SavedModel:
    """Return the model of a folder, which can predict on embeddings of its store."""
    model = load_model(folder, store)
    refuse_other_trunk(model, store.trunk.spec.fingerprint())
    model.refuse_unusable(store)
    return model
