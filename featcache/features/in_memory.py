"""Features: what stage two works on. One split's embeddings and labels, in listing order."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import DataError
from featcache.listing import Listing, Source, data_source, root_of, variant
from featcache.recipe import Recipe, StoreOptions
from featcache.store import FeatureStore, read_split_assignment

# What everything that quotes a score on such features must say.
RANDOM_TRUNK = "the trunk's weights are random: these scores show that the pipeline works, not how good a model is"


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """One split, in listing order; images that could not be embedded are left out of every column."""

    x: npt.NDArray[np.float32]  # (rows, dim), as the trunk gave it: not normalised
    y: npt.NDArray[np.int64]  # (rows,), an index into `classes`
    classes: tuple[str, ...]  # one list for all splits, sorted; a class that this split lacks keeps its index
    paths: tuple[str, ...]  # (rows,), relative to the data set's root
    clips: tuple[str, ...]  # (rows,), "" where an image belongs to no clip
    subjects: tuple[str, ...]  # (rows,), "" where nobody is named
    split: str = ""
    failed: int = 0  # rows of the listing that are left out, because their image could not be embedded
    part: str = ""  # "limit 100" where extract was asked for a part of the split
    source: dict[str, str] = field(default_factory=dict)  # data set, store, trunk, listing: where this came from

    def __post_init__(self) -> None:
        rows = len(self.y)
        for name in ("x", "paths", "clips", "subjects"):
            if len(getattr(self, name)) != rows:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, y has {rows}")
        if rows and not 0 <= self.y.min() <= self.y.max() < len(self.classes):
            raise ValueError(f"a label lies outside 0 … {len(self.classes) - 1}")

    def __repr__(self) -> str:
        rows, dim = self.x.shape
        return f"<Features {self.split or '?'}: {rows:,} x {dim}, {len(self.classes)} classes, {self.failed} failed>"


@checked
def load(split: str, **where: Unpack[StoreOptions]) -> Features:
    """One split's embeddings and labels, as `featcache extract` left them. Needs neither torch nor the images.

    `pipeline`, `data`, `cache` and `name` are the flags of the command line; `store`, `weights` and `precision`
    choose, where several stores of the cache hold this split.

    Raises:
        UsageError: no such recipe.
        CacheError: the split is not in the cache, or in several stores, or a file of it is damaged.
    """
    asked = Asked(**where)
    store = asked.store_of(split)
    return features_of(store, asked.key_of(store, split))


def features_of(store: FeatureStore, key: tuple[str, str, str]) -> Features:
    """The features of one (data set, variant, split) of a store.

    Raises:
        CacheError: no such listing, or a damaged file.
    """
    extracted = store.listing(key)
    listing, good = extracted.listing, extracted.embedded
    x = store.load(extracted.digests[good])
    store.stat_log.try_flush()
    rows = listing.take(good)
    return Features(
        x=x,
        y=rows.labels,
        classes=rows.classes,
        paths=rows.paths,
        clips=rows.clips,
        subjects=rows.subjects,
        split=listing.split,
        failed=len(listing) - len(good),
        part=listing.part,
        source=source_of(store, key, listing),
    )


def source_of(store: FeatureStore, key: tuple[str, str, str], listing: Listing) -> dict[str, str]:
    """Where a split's features come from; what a head records of them, and is held against."""
    return {
        "data_set": listing.data_set,
        "variant": listing.variant,
        "root": listing.root,
        "store": store.name,
        "trunk": store.trunk.spec.fingerprint(),
        "weights": store.trunk.weights_name,
        "listing": store.listings[key].sha256,
    }


def changes_since_extract(store: FeatureStore, recipe: Recipe, splits: Sequence[str]) -> list[str]:
    """What has changed in these splits' folders since they were extracted, a sentence for each that has.

    Names and labels are compared, not contents: `featcache extract` finds an edited file. Where the images are not
    on this machine, or only a part of a split was asked for, there is nothing to compare.
    """
    cut = variant(recipe)
    then = [store.listing((recipe.name, cut, split)).listing for split in splits]
    then = [one for one in then if not one.part and os.path.isdir(root_of(recipe))]
    if not then:
        return []
    laid = data_source(
        recipe, read_split_assignment(store.cache, recipe.name, cut)
    )  # one: what the splits share is read once
    return [found for one in then if (found := _changed(one, laid))]


def _changed(then: Listing, laid: Source) -> str:
    try:
        now = laid.listing(then.split)
        if laid.absent:
            return ""
    except DataError as error:
        return f"split {then.split!r} can no longer be listed: {error}"
    before, after = _labels(then), _labels(now)
    if before == after and then.classes == now.classes:
        return ""
    new, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    other = sum(before[path] != after[path] for path in before.keys() & after.keys())
    relabelled = f", {other:,} under other labels" if other else ""
    return (
        f"the folder of split {then.split!r} has changed since it was extracted ({new:,} new files, {gone:,} gone"
        f"{relabelled}); "
        f"`featcache extract --split {then.split}` takes that in, and embeds only what is new"
    )


def _labels(listing: Listing) -> dict[str, list[str]]:
    """The labels of each image, sorted: one may stand in several rows."""
    found: dict[str, list[str]] = {}
    for path, label in zip(listing.paths, listing.labels.tolist(), strict=True):
        found.setdefault(path, []).append(listing.classes[label])
    return {path: sorted(labels) for path, labels in found.items()}
