"""HeadWithTrunk: a saved head behind the trunk, or trunks, that it was trained on, from pixels to probabilities."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.features import RANDOM_TRUNK
from featcache.files import StatLog, expand_home
from featcache.heads import thresholds_of
from featcache.heads.saved import (
    BEST,
    LATEST,
    MODEL_DOCUMENTS,
    ChosenHead,
    SavedModel,
    find_head,
    list_handles,
    load_model,
    predicts_targets,
    read_temperature,
    refuse_other_trunk,
)
from featcache.listing import locate_root
from featcache.media import View
from featcache.metrics import apply_temperature, calibrate_labels, calibrate_thresholds
from featcache.prediction.head_trunk import HeadTrunk
from featcache.prediction.test_time_views import choose_views
from featcache.recipe import LABEL, LABELS, VALUE, KeptHeadOptions
from featcache.store import FeatureStore, StoreRequest, concatenate, open_store, trunk_without_layer
from featcache.text import counted
from featcache.trunks import TrunkSpec

NO_PROBABILITIES = "this classifier gives labels, not probabilities: 1 stands for its label, 0 for every other"

USUAL_LAYERS = ("cls", "pooled")  # what a network's own classifier sits on


@dataclass(frozen=True, eq=False)
class HeadWithTrunk:
    """A saved head, its store, and the trunks that made the store; loaded when an image must be embedded."""

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
    def is_exportable(self) -> bool:
        """Whether trunk and head can be written as one network, as a .pt: a linear head on the usual vector."""
        is_normalized = self.saved.settings.get("normalize", "none") != "none"
        is_usual = len(self.store.parts) == 1 and self.store.trunk.spec.layer in USUAL_LAYERS
        return self.saved.output_layer is not None and not is_normalized and is_usual

    @cached_property
    def trunks(self) -> tuple[HeadTrunk, ...]:
        """The trunks whose embeddings the head takes: each once, however many of its layers."""
        return tuple(
            HeadTrunk(
                store=concatenate(parts), head=self.saved.name, is_only_one=len(self._parts_of_trunks) == 1,
                weights=self.weights, arch=self.arch, device=self.device, batch_size=self.batch_size,
                images=self.images, views=self.views,
            )
            for parts in self._parts_of_trunks
        )  # fmt: skip

    @cached_property
    def views(self) -> tuple[View | None, ...]:
        """None, the plain image, and the views that probabilities are averaged over: those of the head's training.

        Raises:
            UsageError: it takes features of several stores, or gives no probabilities.
            CacheError: it was trained on plain images, and the cache has views of none or of several sets.
        """
        return (None, *choose_views(self.store, self.saved)) if self.with_views else (None,)

    @property
    def _parts_of_trunks(self) -> list[list[FeatureStore]]:
        """The stores of the head's features, those of one trunk together."""
        of_trunk: dict[TrunkSpec, list[FeatureStore]] = {}
        for part in self.store.parts:
            of_trunk.setdefault(trunk_without_layer(part.trunk.spec), []).append(part)
        return list(of_trunk.values())

    @property
    def only_trunk(self) -> HeadTrunk:
        """The trunk, of a head that takes embeddings of one.

        Raises:
            UsageError: it takes those of several.
        """
        if len(self.trunks) > 1:
            names = " and ".join(trunk.spec.arch for trunk in self.trunks)
            raise UsageError(
                f"{self.saved.name}: it was trained on features of {len(self.trunks)} trunks, {names}, which are not "
                f"one network: only a head on layers of one trunk can be exported"
            )
        return self.trunks[0]

    @cached_property
    def temperature(self) -> float | None:
        """What divides the head's logits before their softmax, or before the sigmoid of labels; None: nothing."""
        kept = read_temperature(self.saved.folder)
        has_probabilities = self.saved.gives_probabilities or self.targets == LABELS
        return None if kept is None or not has_probabilities else kept.value

    @property
    def sentence(self) -> str:
        """Architecture, weights and precision of the trunk, in words; of several, of each."""
        return " + ".join(trunk.sentence for trunk in self.trunks)

    def join(self, rows: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Return the embeddings of the trunks as the head takes them, (n, dim).

        Args:
            rows: Of each trunk, in the order of `trunks`, (n, its width).
        """
        if len(self.store.parts) == 1:
            return rows[0]
        columns: dict[str, npt.NDArray[np.float32]] = {}
        for x, parts in zip(rows, self._parts_of_trunks, strict=True):
            ends = np.cumsum([part.dim or 0 for part in parts]).tolist()
            columns |= {part.name: x[:, end - (part.dim or 0) : end] for part, end in zip(parts, ends, strict=True)}
        return np.concatenate([columns[part.name] for part in self.store.parts], axis=1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What everyone who reads a prediction of this head should know, as sentences."""
        notes = (*self.unused, *(() if self.which is None else self.which.notes))
        if self.with_views:
            count = counted(len(self.views) - 1, "view")
            what = "numbers" if self.targets == VALUE else "probabilities"
            notes = (*notes, f"the {what} are the mean over each image and {count} of it")
        is_random = any(trunk.weights_name == "random" for trunk in self.trunks)
        notes = (*notes, RANDOM_TRUNK) if is_random else notes
        has_none = not self.saved.gives_probabilities and self.targets == LABEL
        return (*notes, NO_PROBABILITIES) if has_none else notes

    @property
    def targets(self) -> str:
        """What it predicts of an image: LABEL, LABELS or VALUE."""
        return self.saved.target_kind if predicts_targets(self.saved) else LABEL

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From which probability on each label is predicted, by the head's temperature; () of a class or of numbers."""
        if self.targets != LABELS:
            return ()
        thresholds = self._uncalibrated_thresholds
        return tuple(calibrate_thresholds(thresholds, self.temperature or 1.0).tolist())

    @property
    def _uncalibrated_thresholds(self) -> npt.NDArray[np.float64]:
        assert predicts_targets(self.saved)  # noqa: S101 (it has labels)
        return thresholds_of(self.saved.kept_targets, len(self.saved.classes))

    def refuse_targets(self, what: str) -> None:
        """Raise a UsageError where it predicts several labels or numbers, which something does not know.

        Args:
            what: what that is, as the sentence begins.

        Raises:
            UsageError: see above.
        """
        if self.targets != LABEL:
            kind = "several labels" if self.targets == LABELS else "numbers"
            raise UsageError(f"{what} is of one class an image, and {self.saved.name} predicts {kind}; give it images")

    def probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return (rows, classes) float64 for embeddings (rows, dim), by the head's temperature where it has one.

        Those of each view of an image are calibrated first, and averaged then. Of several labels each has its own
        probability; of numbers they are the numbers.
        """
        if predicts_targets(self.saved):
            if self.targets == LABELS and self.temperature is not None:
                outputs = self.saved.predict_targets(x, as_answers=False)
                return calibrate_labels(outputs, self._uncalibrated_thresholds, self.temperature)[0]
            return self.saved.predict_targets(x)
        probabilities = self.saved.predict_probabilities(x)
        return probabilities if self.temperature is None else apply_temperature(probabilities, self.temperature)


def open_head(
    head: str | None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    with_views: bool = False,
    **options: Unpack[KeptHeadOptions],
) -> HeadWithTrunk:
    """Return the head that is meant, with its store and its trunk.

    Args:
        head: its name or the start of one, its folder, "best" (None is the same) or "latest".
        device: where the trunk will run: "auto", "cpu", "cuda" …
        batch_size: images that are embedded at a time; None leaves it to the device.
        with_views: whether probabilities are averaged over each image and views of it.
        **options: those of the command line that name a data set, a cache and a store (`recipe.KeptHeadOptions`).

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
        store = open_store(folder.parents[3], StatLog(folder.parents[5]))
        if typed is not None and not StoreRequest(typed={"weights": typed}).is_met_by(store):
            raise CacheError(
                f"weights {typed} are not those that head {folder.name} was trained on: the embeddings of {store.name} "
                f"were made by weights {' + '.join(part.trunk.weights_name for part in store.parts)}. Name these with "
                f"--weights."
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
        "features",
        "val",
        "test",
        "split_by",
        "split_seed",
        "fold",
        "view",
        "stride",
        "level",
        "target",
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
    refuse_other_trunk(model, store.fingerprint)
    model.refuse_unusable(store)
    return model
