"""Several stores as one: of each image their embeddings side by side, joined by the image's digest.

    stores/features-<layers>-<sha256[:8]>/
        features.json     which stores, in which order
        heads/            the heads that were trained on them, as in any other store

No embedding is stored twice: the folder is made with the first head, and holds nothing else.
"""

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files import FORMAT, is_present, make_folder, publish, seal_document
from featcache.store.commits import Commits, ListingKey, ListingLine
from featcache.store.documents import FEATURES
from featcache.store.index import Digests
from featcache.store.join_listings import join_listings, refuse_missing_split
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from featcache.store.trunk_record import TRUNK_FILE
from featcache.trunks import TrunkSpec

FEATURES_FILE = "features.json"
_PREFIX = "features-"
JOINED_BY = "+"  # what stands between layers, and between fingerprints
_LONGEST = 80  # characters of a folder's name before its hash


class ConcatenatedStore(FeatureStore):
    """What stage two asks of a store, answered by several: `load` gives (n, sum of the widths), in their order.

    Nothing is ever written to it but heads. It has no trunk of its own: `parts` are the stores, each with its trunk.
    """

    def __init__(self, parts: Sequence[FeatureStore]) -> None:
        """Put stores side by side.

        Args:
            parts: At least two different stores of one cache, in the order of their columns.
        """
        first = parts[0]
        joined = JOINED_BY.join(part.fingerprint for part in parts)
        self.sha256 = hashlib.sha256(joined.encode()).hexdigest()
        self._parts, self._fingerprint = tuple(parts), joined
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{_PREFIX}{label_features(parts)}")[:_LONGEST]
        super().__init__(first.root.parent / f"{name}-{self.sha256[:8]}", first.trunk, Commits(), first.stat_log)

    @property
    def trunk(self) -> NoReturn:
        """None: each of the parts has one."""
        raise TypeError(f"{self.name} has several trunks: ask its parts")

    @property
    def parts(self) -> tuple[FeatureStore, ...]:
        """The stores, in the order of their columns."""
        return self._parts

    @property
    def fingerprint(self) -> str:
        """The fingerprints of the parts, in their order, joined by a plus sign."""
        return self._fingerprint

    @property
    def dim(self) -> int | None:
        """The sum of the parts' widths; None while one of them is empty."""
        widths = [part.dim for part in self.parts]
        return None if None in widths else sum(width or 0 for width in widths)

    @cached_property
    def listings(self) -> Mapping[ListingKey, ListingLine]:
        """The newest listing of each key that a part holds. Where the parts have the same one, it is that.

        Else its sha256 is a hash over theirs. Of a split that one part lacks, `listing` raises an error.
        """
        keys = dict.fromkeys(key for part in self.parts for key in part.listings)
        lines = {key: [part.listings.get(key) for part in self.parts] for key in keys}
        return {key: _join_lines(key, of_key) for key, of_key in lines.items()}

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Return whether every part has an embedding of each digest, (n,) bool."""
        held: npt.NDArray[np.bool_] = np.logical_and.reduce([part.holds(digests) for part in self.parts])
        return held

    def load_into(self, digests: Digests, out: npt.NDArray[np.float32]) -> None:
        """Write the parts' embeddings side by side into `out`, (n, dim) float32: each part is read once."""
        start = 0
        for part in self.parts:
            width = part.dim or 0
            part.load_into(digests, out[:, start : start + width])
            start += width

    def listing(self, key: ListingKey) -> ExtractedListing:
        """Return the listing that the parts have in common; a row that one of them could not embed has its reason.

        Raises:
            CacheError: a part lacks the split, or rows of it, or has them with other classes; or a damaged file.
        """
        if lacking := [part for part in self.parts if key not in part.listings]:
            refuse_missing_split(lacking, self.parts, key)
        if len({part.listings[key].sha256 for part in self.parts}) == 1:
            return self.parts[0].listing(key)
        return join_listings(self.parts, key)

    def origin(self, key: ListingKey) -> tuple[str, dict[str, str]]:
        """Return the folder and the layout of a listing, as the first part that holds it has them."""
        return next((part for part in self.parts if key in part.listings), self.parts[0]).origin(key)

    def publish_record(self) -> None:
        """Write features.json, unless it stands there and is whole.

        Raises:
            MachineError: the disk refuses.
        """
        path = self.root / FEATURES_FILE
        with contextlib.suppress(CacheError):
            FEATURES.read(path)
            return
        make_folder(self.root)
        parts = [
            {
                "store": part.name,
                "trunk": part.fingerprint,
                "layer": part.trunk.spec.layer,
                "width": part.dim or 0,
            }
            for part in self.parts
        ]
        publish(path, seal_document({"format": FORMAT, "parts": parts}), replace=True)


def open_concatenation(root: Path, stores: Sequence[FeatureStore]) -> ConcatenatedStore:
    """Return the concatenation whose features.json stands in a folder.

    Args:
        root: The folder.
        stores: Those of the cache.

    Raises:
        CacheError: features.json is damaged, is of another folder, or names a store that is not there.
    """
    path = root / FEATURES_FILE
    by_fingerprint = {store.fingerprint: store for store in stores}
    parts = []
    for part in FEATURES.read(path).parts:
        if part.trunk not in by_fingerprint:
            raise CacheError(
                f"{root}: heads that were trained on several stores together need {part.store}, which is not in this "
                f"cache: copy it back, or extract it again, with the weights that made it; else remove this folder"
            )
        parts.append(by_fingerprint[part.trunk])
    store = ConcatenatedStore(parts)
    if root.name[-9:] != f"-{store.sha256[:8]}":
        raise CacheError(f"{path}: it names stores other than those that its folder is named by; remove this folder")
    store.root = root
    return store


def trunk_without_layer(spec: TrunkSpec) -> TrunkSpec:
    """Return what the layers of one trunk have in common: the spec with layer and stored type at their defaults.

    Args:
        spec: Of one layer.
    """
    return replace(spec, layer="cls", stored="float32")


def label_features(stores: Sequence[FeatureStore], *, with_trunk: bool = False) -> str:
    """Return how features are called: "cls", "cls+mean"; across trunks "vit_b_16/cls+resnet50/pooled".

    Args:
        stores: One or several, in the order of their columns.
        with_trunk: Whether the trunk is named where it is the only one.
    """
    specs = [store.trunk.spec for store in stores]
    if not with_trunk and len(set(map(trunk_without_layer, specs))) == 1:
        return JOINED_BY.join(spec.layer for spec in specs)
    names = [f"{spec.arch}/{spec.layer}" for spec in specs]
    if len(set(names)) < len(names):
        names = [f"{store.name}/{store.trunk.spec.layer}" for store in stores]
    return JOINED_BY.join(names)


def concatenate(stores: Sequence[FeatureStore]) -> FeatureStore:
    """Return stores as one: a single store is itself.

    Args:
        stores: Of one cache, in the order of their columns.
    """
    return stores[0] if len(stores) == 1 else ConcatenatedStore(stores)


def is_concatenation(root: Path) -> bool:
    """Return whether a folder below `stores` is that of heads on several stores, its features.json damaged or not.

    Args:
        root: The folder.
    """
    if is_present(root / TRUNK_FILE):
        return False
    return is_present(root / FEATURES_FILE) or (root.name.startswith(_PREFIX) and (root / "heads").is_dir())


def _join_lines(key: ListingKey, lines: Sequence[ListingLine | None]) -> ListingLine:
    hashes = ["-" if line is None else line.sha256 for line in lines]
    joined = hashlib.sha256(JOINED_BY.join(hashes).encode()).hexdigest()
    data_set, variant, split = key
    sha256 = hashes[0] if len(set(hashes)) == 1 else joined
    return ListingLine(data_set=data_set, variant=variant, split=split, sha256=sha256)
