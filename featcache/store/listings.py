"""Listings as they were extracted: immutable files below `cache/listings/`, named by their content.

    listings/<data set>/<variant>/<split>-<sha256[:8]>.h5

Datasets, all contiguous: `meta` (JSON as uint8), `paths` (the names' bytes, each ended by NUL), `labels` int64,
`digests` (rows, 32) uint8, and for clips, subjects and reasons a table of the different strings (NUL-ended bytes)
with a code per row. Where a row has several labels or numbers to predict, version 2 has them as `targets`
(rows, outputs) float64, and `labels` is 0. Names are kept as bytes: a file name need not be UTF-8.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.containers import is_member_path
from featcache.errors import CacheError
from featcache.files import NAME_PATTERN, hash_cache_file, make_folder, publish_blocks
from featcache.listing import CodedColumn, Listing, RowTargets, TextColumn, find_filled, is_frame_path
from featcache.store import hdf5
from featcache.store.commits import ListingLine
from featcache.store.documents import ListingMeta
from featcache.store.listing_files import CODED, VERSION, WITH_TARGETS, parse_listing, read_listing_file, way_out

LAID_OUT_BYTES = 1 << 32  # of arrays, from which a file is not built in memory; no featcache wrote such a file before


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedListing:
    """A listing with what became of each row."""

    listing: Listing
    digests: npt.NDArray[np.uint8]  # (rows, 32); zeros where the file could not be read at all
    reasons: Sequence[str]  # (rows,), why a row has no embedding; "" where it has one

    @property
    def embedded(self) -> npt.NDArray[np.int64]:
        """The rows that have an embedding, (n,), ascending."""
        return np.flatnonzero(~find_filled(self.reasons))


def encode_listing(extracted: ExtractedListing) -> bytes:
    """Return the bytes of a listing's file; the same listing gives the same bytes."""
    return b"".join(_encode_blocks(extracted))


def hash_listing(extracted: ExtractedListing) -> str:
    """Return the sha256 of a listing's file, 64 hex digits; it is not written."""
    return _hash_blocks(_encode_blocks(extracted))


def _encode_blocks(extracted: ExtractedListing) -> list[bytes | memoryview]:
    """Return the bytes of a listing's file, in blocks."""
    arrays = _to_arrays(extracted)
    if sum(array.nbytes for array in arrays.values()) < LAID_OUT_BYTES:
        return [hdf5.build_file(arrays)[0]]
    return hdf5.lay_out_file(arrays)


def _hash_blocks(blocks: Sequence[bytes | memoryview]) -> str:
    running = hashlib.sha256()
    for block in blocks:
        running.update(block)
    return running.hexdigest()


def _to_arrays(extracted: ExtractedListing) -> dict[str, hdf5.AnyArray]:
    """Return the datasets of a listing's file."""
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
        "paths": TextColumn.pack(listing.paths).packed,
        "labels": listing.labels,
        "digests": extracted.digests,
        **({"targets": listing.targets.values} if listing.targets is not None else {}),
    }
    for name, column in zip(CODED, (listing.clips, listing.subjects, extracted.reasons), strict=True):
        coded = CodedColumn.pack(column)
        arrays[f"{name}_names"] = TextColumn.pack(coded.names).packed
        arrays[f"{name}_codes"] = coded.codes
    return arrays


def decode_listing(data: bytes) -> ExtractedListing:
    """Return the listing that a file's bytes stand for: the inverse of `encode_listing`.

    Raises:
        ValueError: the file is none of ours, of a newer version, or contradicts itself.
    """
    return _to_listing(*parse_listing(data))


def _to_listing(arrays: dict[str, hdf5.AnyArray], meta: ListingMeta) -> ExtractedListing:
    """Return the listing that the arrays of a file and its `meta` stand for.

    Raises:
        ValueError: they contradict each other.
    """
    columns = {}
    for name in CODED:
        names = TextColumn(arrays[f"{name}_names"].astype(np.uint8, copy=False))
        columns[name] = CodedColumn(tuple(names), arrays[f"{name}_codes"].astype(np.int32, copy=False))
    listing = Listing(
        data_set=meta.data_set,
        variant=meta.variant,
        split=meta.split,
        root=meta.root,
        classes=tuple(meta.classes),
        paths=TextColumn(arrays["paths"].astype(np.uint8, copy=False)),
        labels=arrays["labels"].astype(np.int64, copy=False),
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
    digests = arrays["digests"].astype(np.uint8, copy=False)
    if digests.shape != (len(listing), 32) or len(columns["reasons"]) != len(listing):
        raise ValueError(f"{len(listing)} rows, but digests are {digests.shape}")
    labels = listing.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(listing.classes):
        raise ValueError("a label lies outside the classes")
    return ExtractedListing(listing, digests, columns["reasons"])


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
    blocks = _encode_blocks(extracted)
    listing = extracted.listing
    line = ListingLine(
        data_set=listing.data_set,
        variant=listing.variant,
        split=listing.split,
        sha256=_hash_blocks(blocks),
    )
    path = listing_path(cache, line)
    make_folder(path.parent)
    if _sha256(path) != line.sha256:
        publish_blocks(path, blocks)
    return line


def read_listing(cache: Path, line: ListingLine) -> ExtractedListing:
    """Return a logged listing, checked against the hash in the log.

    Args:
        cache: The cache folder.
        line: What a store's log says of the listing.

    Raises:
        CacheError: it is missing, damaged, or none of ours.
    """
    with _translate_errors(listing_path(cache, line), line):
        file = read_listing_file(listing_path(cache, line), line)
        if not isinstance(file.decoded, ExtractedListing):
            file.decoded = _to_listing(file.arrays, file.meta)
        return file.decoded


def read_listing_origin(cache: Path, line: ListingLine) -> tuple[str, dict[str, str]]:
    """Return the folder that a logged listing was extracted from, and how it was laid out, without its rows.

    Args:
        cache: The cache folder.
        line: What a store's log says of the listing.

    Raises:
        CacheError: as `read_listing`.
    """
    with _translate_errors(listing_path(cache, line), line):
        meta = read_listing_file(listing_path(cache, line), line).meta
        return meta.root, dict(meta.data)


@contextlib.contextmanager
def _translate_errors(path: Path, line: ListingLine) -> Iterator[None]:
    """Turn what is wrong with a listing's file, or with its content, into an error that says the way out."""
    try:
        yield
    except OSError as error:
        raise CacheError(f"{path}: this listing cannot be read: {error.strerror}. {way_out(line)}") from None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CacheError(f"{path}: this listing cannot be read by this version: {error}") from None


def _sha256(path: Path) -> str | None:
    """Return the sha256 of a file; None where there is none to be read."""
    try:
        return hash_cache_file(path)
    except OSError:
        return None
