"""What is wrong with the files of a cache: shards, listings, splits, memories. Inspection returns problems."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import CacheError
from featcache.files import LISTING, STAT_LOG_NAME, DocumentError, MissingError, kind_of, read_lines, unseal_line
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
    """What is wrong with one committed shard; without `hashes`, by its size alone.

    libhdf5 opens the file only after its hash was right, and must find the arrays where we read them.
    `progress` gets every number of bytes that were looked at.
    """
    path = folder / part.name
    try:
        handle = shard.open_shard(folder, part)
    except CacheError as error:
        progress(part.bytes)
        return [Problem(str(path), "size" if os.path.lexists(path) else "missing", str(error))]
    try:
        if not hashes:
            progress(part.bytes)
            return []
        if shard.hash_of(handle, progress).hex() != part.sha256:
            return [Problem(str(path), "damaged", f"{path}: its sha256 does not match the log")]
        wrong = _seen_by_hdf5(handle, folder, part)
        return [Problem(str(path), "hdf5", f"{path}: {wrong}")] if wrong else []
    finally:
        os.close(handle)


def check_listing(cache: Path, line: ListingLine, *, hashes: bool = True) -> list[Problem]:
    """What is wrong with the file of a committed listing; without `hashes`, whether it is there."""
    where = "/".join(line.key)
    try:
        if hashes:
            listings.read_listing(cache, line)
        elif wrong := _seen(listings.listing_path(cache, line)):
            return [Problem(where, "listing", f"{listings.listing_path(cache, line)}: this listing {wrong}")]
    except CacheError as error:
        return [Problem(where, "listing", str(error))]
    return []


def check_splits(cache: Path) -> list[Problem]:
    """What is wrong with the splits that were dealt and written down."""
    problems = []
    for folder in sorted((cache / "listings").glob("*/*")):
        path = folder / "splits.json"
        if not os.path.lexists(path):
            continue
        data_set, variant = path.parts[-3:-1]
        try:
            split_assignment.read_split_assignment(cache, data_set, variant)
        except CacheError as error:
            problems.append(Problem(str(path), "splits", str(error)))
    return problems


def check_memories(cache: Path) -> list[Problem]:
    """Notes on what featcache remembers, stat.log and weights.json: what is lost of them costs time, nothing else."""
    notes = []
    path = cache / STAT_LOG_NAME
    try:
        count = bad = 0
        for line in read_lines(path):
            count += line.size > 0
            bad += line.size > 0 and (line.data is None or unseal_line(line.data) is None)
        if bad:
            said = f"{path}: {bad:,} of {count:,} lines are damaged; harmless, these files are read once more"
            notes.append(Problem(str(path), "memory", said))
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


def _seen(path: Path) -> str:
    """What is wrong with a file by its stat alone, or ""."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return f"is missing: {error.strerror}"
    if kind := kind_of(status.st_mode):
        return f"cannot be read: it is {kind}, not a regular file"
    return "" if 0 < status.st_size <= LISTING else f"is damaged: it has {status.st_size:,} bytes"


def _seen_by_hdf5(handle: int, folder: Path, part: Shard) -> str:
    """In what libhdf5 and our own reader differ about a file whose hash is right; "" where they agree."""
    try:
        digests = shard.read_digests(folder, part)
    except CacheError as error:
        return str(error)
    rows = np.unique(
        np.concatenate([np.arange(min(_ENDS, part.rows)), part.rows - 1 - np.arange(min(_ENDS, part.rows))])
    )
    ours = np.empty((len(rows), part.dim), dtype=np.float32)
    shard.gather(folder, part, rows, ours, np.arange(len(rows)))
    try:
        found = hdf5.places(handle)
        expected = {
            "embeddings": hdf5.Place(part.dtype, (part.rows, part.dim), part.embeddings_offset),
            "digests": hdf5.Place("uint8", (part.rows, 32), part.digests_offset),
        }
        if found != expected:
            return f"HDF5 sees {found}, the log says {expected}"
        theirs, their_digests = hdf5.rows_of(handle, "embeddings", rows), hdf5.rows_of(handle, "digests", rows)
    except hdf5.ForeignFileError as error:
        return str(error)
    same = theirs.astype(np.float32).tobytes() == ours.tobytes() and their_digests.tobytes() == digests[rows].tobytes()
    return "" if same else "HDF5 reads other values than are read at the log's offsets"
