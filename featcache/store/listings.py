"""Listings as they were extracted: immutable files below `cache/listings/`, named by their content.

    listings/<data set>/<variant>/<split>-<sha256[:8]>.h5

Datasets, all contiguous: `meta` (JSON as uint8), `paths` (the names' bytes, each ended by NUL), `labels` int64,
`digests` (rows, 32) uint8, and for clips, subjects and reasons a table of the different strings (NUL-ended bytes)
with a code per row. Where a row has several labels or numbers to predict, version 2 has them as `targets`
(rows, outputs) float64, and `labels` is 0. Names are kept as bytes: a file name need not be UTF-8.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.containers import is_member_path
from featcache.errors import CacheError
from featcache.files import (
    MAX_LISTING_BYTES,
    NAME_PATTERN,
    hash_cache_file,
    make_folder,
    parse_json,
    publish,
    read_if_hash_matches,
    validate,
)
from featcache.listing import Listing, RowTargets, is_frame_path
from featcache.store import hdf5
from featcache.store.commits import ListingLine
from featcache.store.documents import ListingMeta

VERSION, WITH_TARGETS = 1, 2
_T = TypeVar("_T")
_CODED = ("clips", "subjects", "reasons")
_EXPECTED = {
    "meta": ("uint8", 1),
    "paths": ("uint8", 1),
    "labels": ("int64", 1),
    "digests": ("uint8", 2),
    **{f"{name}_names": ("uint8", 1) for name in _CODED},
    **{f"{name}_codes": ("int32", 1) for name in _CODED},
}
_TARGETS = {"targets": ("float64", 2)}


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedListing:
    """A listing with what became of each row."""

    listing: Listing
    digests: npt.NDArray[np.uint8]  # (rows, 32); zeros where the file could not be read at all
    reasons: tuple[str, ...]  # (rows,), why a row has no embedding; "" where it has one

    @property
    def embedded(self) -> npt.NDArray[np.int64]:
        """The rows that have an embedding, (n,), ascending."""
        return np.flatnonzero(np.array([not reason for reason in self.reasons], dtype=bool))


def encode_listing(extracted: ExtractedListing) -> bytes:
    """Return the bytes of a listing's file; the same listing gives the same bytes."""
    listing = extracted.listing
    meta = {
        "version": VERSION if listing.targets is None else WITH_TARGETS,
        "data_set": listing.data_set,
        "variant": listing.variant,
        "split": listing.split,
        "root": listing.root,
        "classes": listing.classes,
        "ignored": listing.ignored,
        "part": listing.part,
        **({"videos": True} if listing.videos else {}),
        **({"members": True} if listing.members else {}),
        **({"data": dict(sorted(listing.settings.items()))} if listing.settings else {}),
        **({"targets": listing.targets.kind} if listing.targets is not None else {}),
    }
    arrays: dict[str, hdf5.AnyArray] = {
        "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8),
        "paths": _pack(listing.paths),
        "labels": listing.labels,
        "digests": extracted.digests,
        **({"targets": listing.targets.values} if listing.targets is not None else {}),
    }
    for name, column in zip(_CODED, (listing.clips, listing.subjects, extracted.reasons), strict=True):
        table = {value: code for code, value in enumerate(dict.fromkeys(column))}
        arrays[f"{name}_names"] = _pack(tuple(table))
        arrays[f"{name}_codes"] = np.fromiter(map(table.__getitem__, column), dtype=np.int32, count=len(column))
    return hdf5.build_file(arrays)[0]


def decode_listing(data: bytes) -> ExtractedListing:
    """Return the listing that a file's bytes stand for: the inverse of `encode_listing`.

    Raises:
        ValueError: the file is none of ours, of a newer version, or contradicts itself.
    """
    arrays, meta = _parse(data)
    columns = {}
    for name in _CODED:
        names, codes = _unpack(arrays[f"{name}_names"]), arrays[f"{name}_codes"].astype(np.int32)
        if (codes < 0).any():
            raise ValueError(f"a code of {name} lies below 0")
        columns[name] = tuple(map(names.__getitem__, codes.tolist()))
    listing = Listing(
        data_set=meta.data_set,
        variant=meta.variant,
        split=meta.split,
        root=meta.root,
        classes=tuple(meta.classes),
        paths=_unpack(arrays["paths"]),
        labels=arrays["labels"].astype(np.int64),
        clips=columns["clips"],
        subjects=columns["subjects"],
        ignored=tuple(meta.ignored),
        part=meta.part,
        videos=meta.videos,
        members=meta.members,
        settings=meta.data,
        targets=None if meta.targets is None else RowTargets(meta.targets, arrays["targets"].astype(np.float64)),
    )
    if listing.videos and not all(map(is_frame_path, listing.paths)):
        raise ValueError("a row of a video names no frame")
    if listing.members and not all(map(is_member_path, listing.paths)):
        raise ValueError("a row of a container names no image in one")
    digests = arrays["digests"].astype(np.uint8)
    if digests.shape != (len(listing), 32) or len(columns["reasons"]) != len(listing):
        raise ValueError(f"{len(listing)} rows, but digests are {digests.shape}")
    labels = listing.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(listing.classes):
        raise ValueError("a label lies outside the classes")
    return ExtractedListing(listing, digests, columns["reasons"])


def _parse(data: bytes) -> tuple[dict[str, hdf5.AnyArray], ListingMeta]:
    """Return the arrays of a listing, and its checked `meta`."""
    arrays = hdf5.parse_file(data, _EXPECTED, _TARGETS)
    document = parse_json(arrays["meta"].tobytes())
    version = document.get("version") if isinstance(document, dict) else VERSION
    if version not in (VERSION, WITH_TARGETS) or isinstance(version, bool):
        raise ValueError(f"its version is {str(version)[:40]}, this featcache reads {VERSION} and {WITH_TARGETS}")
    meta = validate(ListingMeta, document)
    if not (meta.targets is not None) == ("targets" in arrays) == (version == WITH_TARGETS):
        raise ValueError("version 2 is that of listings with targets, and of no others")
    return arrays, meta


def listing_path(cache: Path, line: ListingLine) -> Path:
    """Return where a logged listing stands: `listings/<data set>/<variant>/<split>-<sha256[:8]>.h5` in the cache.

    Args:
        cache: The cache folder.
        line: What a store's log says of the listing.

    Raises:
        CacheError: a name in the log could lead out of the cache.
    """
    names = (line.data_set, line.variant, line.split)
    if not all(re.fullmatch(NAME_PATTERN, name) for name in names) or not re.fullmatch(r"[0-9a-f]{64}", line.sha256):
        raise CacheError(f"{cache}: the log names a listing {'/'.join(names)!r}, which is not a valid name")
    return cache / "listings" / line.data_set / line.variant / f"{line.split}-{line.sha256[:8]}.h5"


def write_listing(cache: Path, extracted: ExtractedListing) -> ListingLine:
    """Publish a listing, unless it stands there already, and return its line for the log.

    Raises:
        MachineError: the disk refuses.
    """
    data = encode_listing(extracted)
    listing = extracted.listing
    line = ListingLine(
        data_set=listing.data_set,
        variant=listing.variant,
        split=listing.split,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    path = listing_path(cache, line)
    make_folder(path.parent)
    if _sha256(path) != line.sha256:
        publish(path, data)
    return line


def read_listing(cache: Path, line: ListingLine) -> ExtractedListing:
    """Return a logged listing, checked against the hash in the log.

    Args:
        cache: The cache folder.
        line: What a store's log says of the listing.

    Raises:
        CacheError: it is missing, damaged, or none of ours.
    """

    def decode(data: bytes) -> ExtractedListing:
        extracted = decode_listing(data)
        _refuse_another(line, extracted.listing)
        return extracted

    return _read_checked(cache, line, decode)


def read_listing_origin(cache: Path, line: ListingLine) -> tuple[str, dict[str, str]]:
    """Return the folder that a logged listing was extracted from, and how it was laid out, without its rows.

    Raises:
        CacheError: as `read_listing`.
    """

    def decode(data: bytes) -> tuple[str, dict[str, str]]:
        _, meta = _parse(data)
        _refuse_another(line, meta)
        return meta.root, dict(meta.data)

    return _read_checked(cache, line, decode)


def _refuse_another(line: ListingLine, listing: Listing | ListingMeta) -> None:
    """Raise a ValueError where a file holds another listing than its line in the log says."""
    if (listing.data_set, listing.variant, listing.split) != line.key:
        raise ValueError(f"it is that of {listing.data_set}/{listing.variant}/{listing.split}")


def _read_checked(cache: Path, line: ListingLine, decode: Callable[[bytes], _T]) -> _T:
    """Return what `decode` makes of a logged listing's bytes, after its hash was checked."""
    path = listing_path(cache, line)
    try:
        data = read_if_hash_matches(path, line.sha256, MAX_LISTING_BYTES)
    except OSError as error:
        raise CacheError(f"{path}: this listing cannot be read: {error.strerror}. {_way_out(line)}") from None
    if data is None:
        raise CacheError(f"{path}: its sha256 does not match the log: the file was damaged. {_way_out(line)}")
    try:
        return decode(data)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CacheError(f"{path}: this listing cannot be read by this version: {error}") from None


def _way_out(line: ListingLine) -> str:
    return f"`featcache extract --split {line.split}` writes it again; no embedding is lost."


def _sha256(path: Path) -> str | None:
    """Return the sha256 of a file; None where there is none to be read."""
    try:
        return hash_cache_file(path)
    except OSError:
        return None


def _pack(strings: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the strings' bytes, each ended by NUL."""
    return np.frombuffer(os.fsencode("".join(f"{string}\0" for string in strings)), dtype=np.uint8)


def _unpack(packed: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """Return the strings that `_pack` was given."""
    *names, rest = os.fsdecode(packed.tobytes()).split("\0")  # at once: no name has a zero in it
    if rest:
        raise ValueError("the last of its names is not ended by a zero")
    return tuple(names)
