"""What is wrong with the files of a cache: shards, listings, splits, memories. Inspection returns problems."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import CacheError
from featcache.files import (
    MAX_LISTING_BYTES,
    STAT_LOG_NAME,
    DocumentError,
    FileHandle,
    MissingError,
    StatLog,
    close_file,
    describe_kind,
    hash_handle,
    is_present,
)
from featcache.store import hdf5, listings, shard, split_assignment
from featcache.store.commits import ListingLine
from featcache.store.shard import Shard
from featcache.trunks import WEIGHTS, WEIGHTS_MEMO_NAME

_ENDS = 2  # rows at each end of a shard that are read both ways


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a cache, or (as a note) one that is not as a tidy cache has it."""

    where: str
    kind: str  # "log", "trunk", "missing", "size", "damaged", "hdf5", "listing", "head", "runs", "splits", "memory", …
    message: str


def check_shard(
    folder: Path, part: Shard, *, hashes: bool = True, progress: Callable[[int], None] = lambda _: None
) -> list[Problem]:
    """Return what is wrong with one committed shard.

    libhdf5 opens the file only after its hash was right, and must find the arrays where we read them.

    Args:
        folder: The folder of the shards.
        part: The shard.
        hashes: Whether to read the file; else only its size is looked at.
        progress: Gets every number of bytes that were looked at.
    """
    path = folder / part.name
    try:
        handle = shard.open_shard(folder, part)
    except CacheError as error:
        progress(part.bytes)
        return [Problem(str(path), "size" if is_present(path) else "missing", str(error))]
    try:
        if not hashes:
            progress(part.bytes)
            return []
        if hash_handle(handle, progress).hex() != part.sha256:
            return [Problem(str(path), "damaged", f"{path}: its sha256 does not match the log")]
        difference = _compare_with_hdf5(handle, folder, part)
        return [Problem(str(path), "hdf5", f"{path}: {difference}")] if difference else []
    finally:
        close_file(handle)


def check_listing(cache: Path, line: ListingLine, *, hashes: bool = True) -> list[Problem]:
    """Return what is wrong with the file of a committed listing.

    Args:
        cache: The cache folder.
        line: What a store's log says of the listing.
        hashes: Whether to read the file; else only whether it is there is looked at.
    """
    where = "/".join(line.key)
    try:
        if hashes:
            listings.read_listing(cache, line)
        elif problem := _check_stat(listings.listing_path(cache, line)):
            return [Problem(where, "listing", f"{listings.listing_path(cache, line)}: this listing {problem}")]
    except CacheError as error:
        return [Problem(where, "listing", str(error))]
    return []


def check_splits(cache: Path) -> list[Problem]:
    """Return what is wrong with the assignments of groups to splits that a cache has written down.

    Args:
        cache: The cache folder; all data sets and variants in it are looked at.
    """
    problems = []
    for folder in sorted((cache / "listings").glob("*/*")):
        path = folder / "splits.json"
        if not is_present(path):
            continue
        data_set, variant = path.parts[-3:-1]
        try:
            split_assignment.read_split_assignment(cache, data_set, variant)
        except CacheError as error:
            problems.append(Problem(str(path), "splits", str(error)))
    return problems


def check_memories(cache: Path) -> list[Problem]:
    """Return notes on stat.log and weights.json, which featcache remembers things in: what is lost costs only time.

    Args:
        cache: The cache folder, in which the two files stand, or do not stand yet.
    """
    notes = []
    path = cache / STAT_LOG_NAME
    try:
        count, bad = StatLog(cache).count_damaged()
        if bad:
            message = f"{path}: {bad:,} of {count:,} lines are damaged; harmless, these files are read once more"
            notes.append(Problem(str(path), "memory", message))
    except FileNotFoundError:
        pass
    except OSError as error:
        notes.append(Problem(str(path), "memory", f"{path}: cannot be read: {error.strerror}; every file is read anew"))
    path = cache / WEIGHTS_MEMO_NAME
    try:
        WEIGHTS.read(path)
    except MissingError:
        pass
    except DocumentError as error:
        notes.append(Problem(str(path), "memory", f"{error}; nothing else is lost"))
    return notes


def _check_stat(path: Path) -> str:
    """Return what is wrong with a file by its stat alone, or ""."""
    try:
        status = path.lstat()
    except OSError as error:
        return f"is missing: {error.strerror}"
    if kind := describe_kind(status.st_mode):
        return f"cannot be read: it is {kind}, not a regular file"
    return "" if 0 < status.st_size <= MAX_LISTING_BYTES else f"is damaged: it has {status.st_size:,} bytes"


def _compare_with_hdf5(handle: FileHandle, folder: Path, part: Shard) -> str:
    """Return in what libhdf5 and our own reader differ about a file whose hash is right; "" where they agree."""
    try:
        digests = shard.read_digests(folder, part)
    except CacheError as error:
        return str(error)
    rows = np.unique(
        np.concatenate([np.arange(min(_ENDS, part.rows)), part.rows - 1 - np.arange(min(_ENDS, part.rows))])
    )
    ours = np.empty((len(rows), part.dim), dtype=np.float32)
    shard.gather_rows(folder, part, rows, ours, np.arange(len(rows)))
    try:
        datasets = hdf5.locate_datasets(handle)
        expected = {
            "embeddings": hdf5.DatasetPlace(part.dtype, (part.rows, part.dim), part.embeddings_offset),
            "digests": hdf5.DatasetPlace("uint8", (part.rows, 32), part.digests_offset),
        }
        if datasets != expected:
            return f"HDF5 sees {datasets}, the log says {expected}"
        theirs, their_digests = (
            hdf5.read_dataset_rows(handle, "embeddings", rows),
            hdf5.read_dataset_rows(handle, "digests", rows),
        )
    except hdf5.ForeignFileError as error:
        return str(error)
    same = theirs.astype(np.float32).tobytes() == ours.tobytes() and their_digests.tobytes() == digests[rows].tobytes()
    return "" if same else "HDF5 reads other values than are read at the log's offsets"
