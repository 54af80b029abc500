"""Features: one split's embeddings and labels in memory, in listing order. Stage two works on them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import DataError
from featcache.features.embedding_pool import EmbeddingPool
from featcache.features.target_refusals import targets_error
from featcache.listing import DataSource, Listing, RowTargets, locate_root, name_variant, resolve_source
from featcache.recipe import Recipe, StoreOptions
from featcache.store import Digests, FeatureStore, label_features, read_split_assignment

_JOINED = " + "  # between the weights of several trunks

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
    digests: npt.NDArray[np.uint8] | None = None  # (rows, 32), sha256 of each image's file; None where it is not known
    views: npt.NDArray[np.float32] | None = None  # (views, rows, dim), augmented views of the images; None without any
    targets: RowTargets | None = None  # several labels or numbers a row: then y is 0, and `classes` names the targets

    def __post_init__(self) -> None:
        rows = len(self.y)
        for name in ("x", "paths", "clips", "subjects", "digests"):
            column = getattr(self, name)
            if column is not None and len(column) != rows:
                raise ValueError(f"{name} has {len(column)} rows, y has {rows}")
        if self.targets is not None and self.targets.values.shape != (rows, len(self.classes)):
            raise ValueError(f"targets have shape {self.targets.values.shape}, y has {rows} rows")
        if rows and not 0 <= self.y.min() <= self.y.max() < len(self.classes):
            raise ValueError(f"a label lies outside 0 … {len(self.classes) - 1}")

    @property
    def widths(self) -> tuple[int, ...]:
        """How many columns each part has, where several stores stand side by side; () where there is one."""
        return read_widths(self.source)

    def __repr__(self) -> str:
        rows, dim = self.x.shape
        return f"<Features {self.split or '?'}: {rows:,} x {dim}, {len(self.classes)} classes, {self.failed} failed>"


@checked
def load(split: str, **options: Unpack[StoreOptions]) -> Features:
    """Return one split's embeddings and labels, as `featcache extract` left them. Needs neither torch nor the images.

    Args:
        split: its name, such as "train".
        **options: those of the command line: `pipeline`, `data`, `cache` and `name`; `store`, `layer`, `weights` and
            `precision`, which choose where several stores of the cache hold this split; and `features`, several layers
            side by side, of one trunk ("cls+mean") or of several ("resnet34/pooled+vit_b_16/cls"): x is what
            `numpy.concatenate` makes of theirs along the columns, in this order, joined by the images' digests.

    Raises:
        UsageError: no such recipe.
        CacheError: the split is not in the cache, or in several stores, or a file of it is damaged; or of several
            features, one lacks images that another has.
        MachineError: the embeddings do not fit into memory; `featcache.stream` leaves them on disk.
    """
    request = DatasetRequest(**options)
    store = request.store_of(split)
    return read_features(store, request.key_of(store, split), any_targets=True)


def read_features(
    store: FeatureStore, key: tuple[str, str, str], *, any_targets: bool = False, pool: EmbeddingPool | None = None
) -> Features:  # fmt: skip
    """Return the features of one split of a store.

    Args:
        store: a store that holds the split.
        key: (data set, variant, split).
        any_targets: whether the caller knows rows with several labels or numbers, and not one class each alone.
        pool: what other listings have read, where several are worked on at once.

    Raises:
        UsageError: the rows have several labels or numbers, and the caller knows classes alone.
        CacheError: no such listing, or a damaged file.
        MachineError: the embeddings do not fit into memory.
    """
    digests, columns, targets = _read_columns(store, key)
    if targets is not None and not any_targets:
        raise targets_error(targets.kind, "this")
    x = store.load(digests) if pool is None else pool.load(store, digests)
    store.stat_log.try_flush()
    return Features(x=x, digests=digests, targets=targets, **columns)


class SplitColumns(TypedDict):
    """What `Features` and `Streamed` say of a split alike: all but the embeddings."""

    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    clips: tuple[str, ...]
    subjects: tuple[str, ...]
    split: str
    failed: int
    part: str
    source: dict[str, str]


def read_columns(store: FeatureStore, key: tuple[str, str, str]) -> tuple[Digests, SplitColumns]:
    """Return the digests of a split's rows that have an embedding, and what is known of these rows.

    Args:
        store: a store that holds the split.
        key: (data set, variant, split).

    Raises:
        UsageError: the rows have several labels or numbers.
        CacheError: no such listing, or a damaged file.
    """
    digests, columns, targets = _read_columns(store, key)
    if targets is not None:
        raise targets_error(targets.kind, "reading rows from disk")
    return digests, columns


def _read_columns(
    store: FeatureStore, key: tuple[str, str, str]
) -> tuple[Digests, SplitColumns, RowTargets | None]:  # fmt: skip
    """Return what `read_columns` does, and the targets of rows that have no single class."""
    extracted = store.listing(key)
    listing, good = extracted.listing, extracted.embedded
    rows = listing.take(good)
    columns = SplitColumns(
        y=rows.labels,
        classes=rows.classes,
        paths=tuple(rows.paths),
        clips=tuple(rows.clips),
        subjects=tuple(rows.subjects),
        split=listing.split,
        failed=len(listing) - len(good),
        part=listing.part,
        source=_describe_origin(store, key, listing),
    )
    return extracted.digests[good], columns, rows.targets


def _describe_origin(store: FeatureStore, key: tuple[str, str, str], listing: Listing) -> dict[str, str]:
    """Return where a split's features come from: what a head records of them, and is compared with later."""
    origin = {
        "data_set": listing.data_set,
        "variant": listing.variant,
        "root": listing.root,
        "store": store.name,
        "trunk": store.fingerprint,
        "weights": _JOINED.join(dict.fromkeys(part.trunk.weights_name for part in store.parts)),
        "listing": store.listings[key].sha256,
    }
    if len(store.parts) == 1:
        return origin
    return origin | {
        "features": label_features(store.parts),
        "stores": "+".join(part.name for part in store.parts),
        "widths": "+".join(str(part.dim or 0) for part in store.parts),
    }


def read_widths(source: Mapping[str, str]) -> tuple[int, ...]:
    """Return how many columns each part of some features has, in their order; () where they are of one store.

    Args:
        source: As `Features.source` and the documents of heads have it.

    Raises:
        ValueError: its widths are no whole numbers above 0.
    """
    text = source.get("widths", "")
    widths = tuple(map(int, text.split("+"))) if text else ()
    if any(width < 1 for width in widths):
        raise ValueError(f"widths: found {text[:80]!r}, expected whole numbers above 0, joined by plus signs")
    return widths


def has_random_trunk(source: Mapping[str, str]) -> bool:
    """Return whether the weights of a trunk that made some features are random.

    Args:
        source: As `Features.source` has it.
    """
    return "random" in source["weights"].split(_JOINED)


def changes_since_extract(store: FeatureStore, recipe: Recipe, splits: Sequence[str]) -> list[str]:
    """Return what has changed in these splits' folders since they were extracted, a sentence for each that has.

    Names and labels are compared, not contents: `featcache extract` finds an edited file. Where the images are not
    on this machine, or only a part of a split was extracted, there is nothing to compare.

    Args:
        store: the store that holds the splits.
        recipe: names the data set, and where its images are.
        splits: names of splits that the store holds.

    Raises:
        UsageError: the recipe asks for a split that the data set has itself.
        CacheError: a listing, or the record of which image is in which split, is damaged.
    """
    variant = name_variant(recipe)
    extracted = [store.listing((recipe.name, variant, split)).listing for split in splits]
    comparable = [listing for listing in extracted if not listing.part and os.path.isdir(locate_root(recipe))]
    if not comparable:
        return []
    # One source for all splits: what they share is read once.
    source = resolve_source(recipe, read_split_assignment(store.cache, recipe.name, variant))
    return [sentence for listing in comparable if (sentence := _describe_change(listing, source))]


def _describe_change(extracted: Listing, source: DataSource) -> str:
    """Return what has changed in one split since it was extracted, as a sentence; "" where nothing."""
    try:
        now = source.listing(extracted.split)
        if source.unreadable:
            return ""
    except DataError as error:
        return f"split {extracted.split!r} can no longer be listed: {error}"
    if extracted.has_same_rows(now):
        return ""
    before, after = _labels_of_paths(extracted), _labels_of_paths(now)
    if before == after and extracted.classes == now.classes:
        return ""
    new, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    other = sum(before[path] != after[path] for path in before.keys() & after.keys())
    relabelled = f", {other:,} under other labels" if other else ""
    return (
        f"the folder of split {extracted.split!r} has changed since it was extracted ({new:,} new files, {gone:,} gone"
        f"{relabelled}); "
        f"`featcache extract --split {extracted.split}` takes that in, and embeds only what is new"
    )


def _labels_of_paths(listing: Listing) -> dict[str, list[str]]:
    """Return the labels of each path, sorted: one image may stand in several rows."""
    labels_of: dict[str, list[str]] = {}
    for row, path in enumerate(listing.paths):
        labels_of.setdefault(path, []).append(listing.label_text(row))
    return {path: sorted(labels) for path, labels in labels_of.items()}
