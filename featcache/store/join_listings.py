"""One split as several stores list it: the rows that all of them have, or what one of them lacks, in a sentence."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np

from featcache.errors import CacheError
from featcache.listing import CodedColumn, find_filled
from featcache.store.commits import ListingKey
from featcache.store.extract_commands import extract_commands
from featcache.store.index import DigestIndex
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from featcache.text import counted

_NAMED = 3  # images in a message


def join_listings(stores: Sequence[FeatureStore], key: ListingKey) -> ExtractedListing:
    """Return the rows of the first store's listing, each with its reason where a store says that it has no embedding.

    An image that one trunk could not embed is known to its store, and is left out of all. An image that a store knows
    nothing of was never shown to its trunk: that is an error, for every store.

    Args:
        stores: Two or more that hold the listing.
        key: The names of its data set, variant and split.

    Raises:
        CacheError: a store lacks rows, or has them in other classes; or the file of a listing is damaged.
    """
    first, *others = (store.listing(key) for store in stores)
    reasons = first.reasons
    for store, other in zip(stores[1:], others, strict=True):
        if lacking := _rows_that_lack(other, store, first):
            _refuse(stores, key, store, lacking)
        if lacking := _rows_that_lack(first, stores[0], other):
            _refuse(stores, key, stores[0], lacking)
        _refuse_other_classes(stores, key, store, first, other)
        failed = np.flatnonzero(find_filled(other.reasons)).tolist()
        if reason_of := {other.listing.paths[row]: other.reasons[row] for row in failed}:
            rows = zip(reasons, first.listing.paths, strict=True)
            reasons = CodedColumn.pack(reason or reason_of.get(path, "") for reason, path in rows)
    return replace(first, reasons=reasons)


def refuse_missing_split(lacking: Sequence[FeatureStore], stores: Sequence[FeatureStore], key: ListingKey) -> NoReturn:
    """Raise the error that some stores of a concatenation do not hold a split.

    Args:
        lacking: The stores that do not.
        stores: All of the concatenation.
        key: The names of the data set, the variant and the split.

    Raises:
        CacheError: always.
    """
    names = " and ".join(store.name for store in lacking)
    others = " and ".join(store.name for store in stores if store not in lacking)
    raise CacheError(
        f"{stores[0].cache}: split {key[2]!r} of {key[0]} is in {others} and not in {names}: to put their features "
        f"side by side, run {extract_commands(lacking, key[2])}"
    )


def _rows_that_lack(of: ExtractedListing, store: FeatureStore, wanted: ExtractedListing) -> list[str]:
    """Return the paths of the rows that have an embedding in one listing, and of which another store knows nothing."""
    embedded, paths = wanted.embedded, wanted.listing.paths
    digests = wanted.digests[embedded]
    is_there = store.holds(digests) & (DigestIndex(of.digests).find(digests) >= 0)
    lacking = [paths[row] for row in embedded[~is_there].tolist()]
    if not lacking:
        return []
    wanted_paths = set(lacking)
    known = {path: reason for path, reason in zip(of.listing.paths, of.reasons, strict=True) if path in wanted_paths}
    return [path for path in lacking if not known.get(path)]


def _refuse_other_classes(
    stores: Sequence[FeatureStore], key: ListingKey, store: FeatureStore, first: ExtractedListing,
    other: ExtractedListing,
) -> None:  # fmt: skip
    if first.listing.has_same_rows(other.listing):
        return
    classes = [_class_of_paths(extracted) for extracted in (first, other)]
    differing = [path for path in classes[0] if classes[1].get(path, classes[0][path]) != classes[0][path]]
    if not differing:
        return
    path = differing[0]
    raise CacheError(
        f"{store.cache}: {counted(len(differing), 'image')} of split {key[2]!r} of {key[0]} "
        f"{'is' if len(differing) == 1 else 'are'} in another class in {store.name} than in {stores[0].name}, "
        f"such as {path}: {classes[1][path]} and {classes[0][path]}; run "
        f"{extract_commands(stores, key[2])}: what is there is not embedded again"
    )


def _class_of_paths(extracted: ExtractedListing) -> dict[str, str]:
    listing = extracted.listing
    return {path: listing.label_text(row) for row, path in enumerate(listing.paths)}


def _refuse(stores: Sequence[FeatureStore], key: ListingKey, store: FeatureStore, lacking: Sequence[str]) -> NoReturn:
    others = " and ".join(other.name for other in stores if other is not store)
    some = ", ".join(lacking[:_NAMED]) + (", …" if len(lacking) > _NAMED else "")
    raise CacheError(
        f"{store.cache}: {store.name} lacks {counted(len(lacking), 'image')} of split {key[2]!r} of {key[0]} that "
        f"{others} has: {some}; run {extract_commands(stores, key[2])}: what is there is not embedded again"
    )
