"""What a training starts from: random weights, the trunk's, or those of a trunk with a head that was trained on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.features import read_features
from featcache.files import is_present
from featcache.files.objects import require_working_folder
from featcache.heads import EpochRow, LinearHead, Scores, score_split
from featcache.heads.saved import BEST, ChosenHead, SavedHead, find_head, load_model, rank_models
from featcache.recipe import FROM_HEAD, FROM_SCRATCH, FinetuneSection, TrunkSection, is_network_object
from featcache.store import FeatureStore
from featcache.text import percent
from featcache.trunks import (
    FINETUNED_FOLDER,
    RANDOM,
    TrunkSource,
    WeightsMemo,
    drawing_from,
    find_weights,
    missing_weights,
    name_trunk,
)

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.finetuning.network import TrainableNetwork
    from featcache.trunks.libraries import LoadedNetwork

SAMPLE = 16  # images that a network is held against its store with
_MOST_DIFFERENCE = {"float32": 0.02, "bfloat16": 0.25}  # of a row's length; another network differs by all of it


@dataclass(frozen=True, slots=True, eq=False)
class StartHead:
    """The head that a training starts from, and where it is kept."""

    choice: ChosenHead
    saved: SavedHead
    head: LinearHead

    @property
    def store(self) -> FeatureStore:
        """That it was trained on."""
        return self.choice.store

    def scores(self, request: DatasetRequest) -> EpochRow:
        """Return epoch 0: the head's scores on the embeddings that the cache holds, without one forward.

        Args:
            request: The data set.

        Raises:
            CacheError: train is not in the cache, or a file is damaged.
        """
        on_train, on_val = (self._score(request, split) for split in ("train", "val"))
        if on_train is None:
            raise CacheError(f"{self.store.root}: no embeddings of train; {request.advise_extract('train')}")
        return EpochRow(0, on_train, on_val)

    def _score(self, request: DatasetRequest, split: str) -> Scores | None:
        key = request.key_of(self.store, split)
        if key not in self.store.listings:
            return None
        features = read_features(self.store, key, any_targets=True)
        if features.targets is not None:
            return self.saved.score_targets(features)
        return score_split(self.head.logits, features)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a training starts from."""

    source: TrunkSource
    layer: str
    identity: str  # stands for the first weights
    head: StartHead | None = None
    seed: int | None = None  # of random weights

    def load(self) -> "LoadedNetwork":
        """Return the network with its first weights, float32 on the CPU, without its classifier.

        Raises:
            FeatcacheError: as `TrunkSource.tensors`.
        """
        from featcache.trunks.libraries import load_network

        if self.seed is None:
            return load_network(self.source)
        fresh = name_trunk(
            self.source.section, WeightsMemo(self.source.memo.cache, is_read_only=True), self.source.transform
        )
        with drawing_from(self.seed):
            return load_network(fresh)


def find_start(request: DatasetRequest, section: FinetuneSection, trunk: TrunkSection) -> Start:
    """Return what a training starts from; no weights are read yet where they are known.

    Args:
        request: The data set, its cache, and which stores may be meant.
        section: How it is trained.
        trunk: The recipe's trunk, with the flags.

    Raises:
        UsageError: a network without a name, several layers, or a head that is no linear layer.
        CacheError: no such head, or its trunk's weights are not here.
    """
    require_working_folder(request.folder, "finetune", "its checkpoints")
    memo = WeightsMemo(request.folder)
    if section.start.startswith(FROM_HEAD):
        return _from_head(request, section.start.removeprefix(FROM_HEAD).strip() or None, memo)
    if is_network_object(trunk.arch):
        raise UsageError(
            f"arch {trunk.arch}: a module that is handed over has no name by which its trained weights could be loaded "
            f"again; give its import path, package.module:callable"
        )
    is_scratch = section.start == FROM_SCRATCH
    source = None if trunk.model_fields_set & {"arch", "weights"} else _of_cache(request, memo)
    named = trunk if source is None else source.section
    if is_scratch:
        source = name_trunk(named.model_copy(update={"weights": RANDOM}), memo)
    source = source or name_trunk(named, memo)
    layer = _only_layer(source)
    seed = section.seed if is_scratch else None
    network = source.spec("float32", layer).fingerprint()
    identity = f"random {seed} of {network}" if is_scratch else network
    return Start(source, layer, identity, seed=seed)


def _only_layer(source: TrunkSource) -> str:
    if len(source.layers) > 1:
        raise UsageError(
            f"--layer {', '.join(source.layers)}: a network that is fine-tuned has one layer under its head; name one"
        ).correct("--layer", source.layers[0])
    return source.layers[0]


def _from_head(request: DatasetRequest, name: str | None, memo: WeightsMemo) -> Start:
    """Return a start from a trained head (LP-FT, Kumar et al. 2022)."""
    choice = find_head(request, _best_of_frozen(request) if name in (None, BEST) else name)
    store = choice.store
    if len(store.parts) > 1:
        raise UsageError(
            f"head {choice.handle} was trained on several layers side by side; fine-tuning starts from a head on one"
        )
    model = load_model(choice.folder, store)
    if not isinstance(model, SavedHead) or not isinstance(model.head, LinearHead):
        raise UsageError(
            f"head {choice.handle} is no linear head of fit-head; fine-tuning starts from one: "
            f"`{request.command_line('fit-head', store=store.name)}` trains it"
        )
    if model.has_diverged:
        raise UsageError(f"head {choice.handle} diverged: its weights are no start; train one with a lower --lr")
    spec, source = store.trunk.spec, _trunk_of(store, f"the trunk of head {choice.handle}", request, memo)
    return Start(source, spec.layer, f"{spec.fingerprint()} {model.name}", StartHead(choice, model, model.head))


def _best_of_frozen(request: DatasetRequest) -> str | None:
    """Return the name of the best head on a trunk that was not fine-tuned here; None where there is none.

    The command that made the best head of all from it, typed again, then means the same head.
    """
    usable = (candidate for candidate in rank_models(request)[0] if not candidate.has_diverged)
    return next((candidate.name for candidate in usable if not _is_tuned(candidate.store, request)), None)


def _is_tuned(store: FeatureStore, request: DatasetRequest) -> bool:
    """Return whether a store is that of a trunk which was fine-tuned in this cache."""
    return any(is_present(request.folder / FINETUNED_FOLDER / part.trunk.weights_name) for part in store.parts)


def _of_cache(request: DatasetRequest, memo: WeightsMemo) -> TrunkSource | None:
    """Return the trunk that embedded the data set, which stage two takes too; None where nothing is embedded.

    A trunk that was fine-tuned here is meant only where its store is named.
    """
    if "train" not in request.cached_splits:
        return None
    holding = [store for store in request.stores() if request.key("train") in store.listings]
    frozen = [store for store in holding if not _is_tuned(store, request)]
    if request.store is None and not frozen:
        return None
    store = frozen[0] if request.store is None and len(frozen) == 1 else request.store_of("train")
    return _trunk_of(store, "the trunk that embedded these images", request, memo)


def _trunk_of(store: FeatureStore, called: str, request: DatasetRequest, memo: WeightsMemo) -> TrunkSource:
    source = find_weights(store.trunk.spec, store.trunk.weights_name, memo, request.weights, request.arch)
    if source is None:
        raise missing_weights(called, store.trunk.weights_name, request.folder)
    return source


def require_same_network(
    network: "TrainableNetwork", store: FeatureStore, digests: npt.NDArray[np.uint8], pixels: "Tensor"
) -> None:
    """Refuse a network that gives other embeddings than the store of the head that it starts from.

    Args:
        network: As it starts.
        store: That of the head.
        digests: Of some images, (n, 32).
        pixels: The same images, (n, 3, height, width) uint8.

    Raises:
        CacheError: they differ by more than arithmetic explains.
    """
    import torch

    held = store.holds(digests)
    if not held.any():
        return
    network.eval()
    with torch.no_grad():
        ours = network.embed(pixels[torch.from_numpy(held)]).float().numpy()
    theirs = store.load(digests[held])
    difference = float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max())
    if not difference <= _MOST_DIFFERENCE[store.trunk.spec.compute]:
        raise CacheError(
            f"{store.name}: the network gives other embeddings of the same images than the store holds (by "
            f"{percent(difference, 0)} of their length), and the head is made for those; run `featcache verify`"
        )
