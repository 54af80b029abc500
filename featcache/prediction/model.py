"""Pixels -> probabilities: the trunk that a head was trained on, in front of that head."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.dataset import Asked
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
    load_model,
    refuse_other_trunk,
)
from featcache.listing import root_of
from featcache.media import ImageTransform, copy_image
from featcache.recipe import StoreOptions
from featcache.store import FeatureStore, StoreRequest, digest_column, find_storable
from featcache.trunks import Trunk, TrunkSource, WeightsMemo, choose_device, find_weights, load_trunk

NO_PROBABILITIES = "this classifier gives labels, not probabilities: 1 stands for its label, 0 for every other"


@dataclass(slots=True, eq=False)
class Waiting:
    """What is asked for, until there is a batch of it; answers come by the digest of the image."""

    head: "HeadWithTrunk"
    answers: dict[bytes, npt.NDArray[np.float64] | None] = field(default_factory=dict)  # None: no finite embedding
    _digests: list[bytes] = field(default_factory=list)
    _pixels: npt.NDArray[np.uint8] | None = None

    def add(self, digest: bytes, pixels: npt.NDArray[np.uint8]) -> None:
        """Take one image, as `images.decode` gives it; embed and answer where that fills a batch."""
        if self._pixels is None:
            self._pixels = np.empty((self.head.trunk.batch_size, *pixels.shape), dtype=np.uint8)
        copy_image(pixels, self._pixels[len(self._digests)])
        self._digests.append(digest)
        if len(self._digests) == len(self._pixels):
            self.flush()

    def flush(self) -> None:
        """Answer what waits."""
        if not self._digests or self._pixels is None:
            return
        x = self.head.trunk.embed(self._pixels[: len(self._digests)])
        fine = find_storable(x, self.head.store.trunk.spec.stored)
        with np.errstate(over="ignore"):  # what float16 cannot hold is not fine
            x = x.astype(self.head.store.trunk.spec.stored).astype(np.float32)  # as the head saw its training images
        for digest, good, row in zip(self._digests, fine, self.head.probabilities(x), strict=True):
            self.answers[digest] = row if good else None
        self._digests = []

    def recall(self, digests: Sequence[bytes]) -> None:
        """Answer for images that the store holds: no trunk is needed."""
        if not digests:
            return
        for digest, row in zip(
            digests, self.head.probabilities(self.head.store.load(digest_column(digests))), strict=True
        ):
            self.answers[digest] = row


@dataclass(frozen=True, eq=False)
class HeadWithTrunk:
    """A saved head, its store, and the trunk that made the store; loaded when an image must be embedded."""

    store: FeatureStore
    saved: SavedModel
    weights: str | None = None  # as typed, where the cache's memory of where they are does not do
    device: str = "auto"
    batch_size: int | None = None
    which: ChosenHead | None = None  # how the head was chosen; None where its folder was named
    unused: tuple[str, ...] = ()  # notes on flags that were given and say nothing about this head

    @property
    def chosen(self) -> str:
        """Where a word stood for the head: which one that is and why; else ""."""
        return "" if self.which is None else self.which.reason

    @property
    def transform(self) -> ImageTransform:
        """What is done to an image: as it was done to those that the head was trained on."""
        return self.store.trunk.spec.transform

    @property
    def source(self) -> TrunkSource:
        """Where the trunk's weights are.

        Raises:
            CacheError: they are not here, or others are.
        """
        record = self.store.trunk
        found = find_weights(record.spec, record.weights_name, WeightsMemo(self.store.cache), self.weights)
        if found is None and self.weights is not None:
            raise CacheError(
                f"weights {self.weights} are not those that head {self.saved.name} was trained on: the embeddings of "
                f"{self.store.name} were made by weights {record.weights_name}. Name these with --weights."
            )
        if found is None:
            raise CacheError(
                f"the trunk of head {self.saved.name} is not here: its weights are {record.weights_name}. "
                f"Name their file with --weights."
            )
        return found

    @cached_property
    def trunk(self) -> Trunk:
        """The trunk, on the device."""
        device = choose_device(self.device)
        return load_trunk(self.source, self.store.trunk.spec, device=device, batch_size=self.batch_size)

    @property
    def sentence(self) -> str:
        """The trunk in words."""
        record = self.store.trunk
        return f"{record.spec.arch}, weights {record.weights_name}, {record.spec.compute}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What everybody should know who reads an answer of this head."""
        notes = (*self.unused, *(() if self.which is None else self.which.notes))
        notes = (*notes, RANDOM_TRUNK) if self.store.trunk.weights_name == "random" else notes
        return notes if self.saved.gives_probabilities else (*notes, NO_PROBABILITIES)

    def holds(self, digest: bytes) -> bool:
        """Whether the store has this image's embedding."""
        return bool(self.store.holds(digest_column([digest]))[0])

    def probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(rows, dim) -> (rows, classes): softmax of the head's logits, or what the classifier says."""
        return self.saved.predict_probabilities(x)


def open_head(
    head: str | None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    **where: Unpack[StoreOptions],
) -> HeadWithTrunk:
    """The head that is meant, by name, by its folder, or by "best" (None is the same) or "latest", with its store.

    Raises:
        UsageError: the recipe.
        CacheError: no such head, several, or a damaged one; or one of another trunk than its store's.
    """
    typed = where.get("weights")
    asked = Asked(**where)
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
        which = find_head(asked, head)
        folder, store = which.folder, which.store
        if asked.data is not None or os.path.isdir(root_of(asked.recipe)):
            asked.key_of(store, "train")  # whose head this is: a folder that is asked for must be its images'
    with which.explain_choice_in_errors() if which is not None else contextlib.nullcontext():
        saved = _load_usable(folder, store)
    unused = [f"--{flag}" for flag in ("data", "cache", "name", "store", "precision") if where.get(flag) is not None]
    notes = (f"{' and '.join(unused)} has no effect: the head's folder says where it belongs",)
    return HeadWithTrunk(store, saved, typed, device, batch_size, which, notes if is_folder and unused else ())


def _load_usable(folder: Path, store: FeatureStore) -> SavedModel:
    """Return the model of a folder, which can predict on embeddings of its store."""
    model = load_model(folder, store)
    refuse_other_trunk(model, store.trunk.spec.fingerprint())
    model.refuse_unusable(store)
    return model
