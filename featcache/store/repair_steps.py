"""Repair of one store and of what stands beside it, step by step; what is damaged is kept aside, never deleted.

Every step is safe to be killed in: files are moved aside before the log says so, a log is replaced whole. Between the
two a reader meets a missing file, which is an error, as the damaged one was.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from featcache.errors import CacheError
from featcache.files import (
    DamagedError,
    MissingError,
    close_file,
    copy_file,
    hash_handle,
    is_present,
    is_regular_file,
    make_folder,
    move_file,
    open_in_cache,
    salvage_document,
    stat_handle,
)
from featcache.store import check, hdf5, listings, shard
from featcache.store.commits import CommitLog, ListingLine, ReplayedLog
from featcache.store.shard import Shard
from featcache.store.trunk_record import FINGERPRINT_DIGITS, TRUNK_FILE, TrunkRecord, read_trunk, write_trunk
from featcache.trunks import TrunkSpec

DAMAGED_FOLDER = "damaged"


def set_aside(folder: Path, path: Path) -> Path:
    """Move a damaged file, or folder, out of the way.

    Args:
        folder: A store's folder, or the cache's.
        path: The file, below `folder`.

    Returns:
        Where it is now: below `folder`/damaged/, with a number behind its name where something has this name already.

    Raises:
        MachineError: the disk refuses.
    """
    target = _find_free(folder / DAMAGED_FOLDER / path.relative_to(folder))
    move_file(path, target)
    return target


def examine_orphan(path: Path, *, dim: int | None, dtype: str) -> tuple[Shard | None, str]:
    """Return the entry that a published shard would have in the log; or None, and why it is no part of this store.

    Its name holds the start of its sha256, which must be right before libhdf5 sees it; and what libhdf5 finds must be
    a shard and nothing else, with finite rows of this store's kind.

    Args:
        path: The shard's file, which the log does not name.
        dim: The width of the store's embeddings; None where it has none yet.
        dtype: The store's type.
    """
    try:
        handle = open_in_cache(path)
    except OSError as error:
        return None, f"cannot be opened: {error.strerror}"
    try:
        sha256 = hash_handle(handle).hex()
        if sha256[:8] != path.stem.partition("-")[2]:
            return None, "damaged: its sha256 is not the one in its name"
        datasets = hdf5.locate_datasets(handle)
        size = stat_handle(handle)[0]
    except hdf5.ForeignFileError as error:
        return None, str(error)
    finally:
        close_file(handle)
    if set(datasets) != {"embeddings", "digests"}:
        return None, f"it holds {sorted(datasets)}, expected digests and embeddings"
    rows, digests = datasets["embeddings"], datasets["digests"]
    if len(rows.shape) != 2 or rows.dtype != dtype or rows.shape[1] != (dim or rows.shape[1]):
        return None, f"it holds {rows.shape} of {rows.dtype}, this store's rows are {dim or 'some'} of {dtype}"
    if (digests.dtype, digests.shape) != ("uint8", (rows.shape[0], 32)):
        return None, f"its digests are {digests.shape} of {digests.dtype}"
    try:
        entry = Shard(
            name=path.name, rows=rows.shape[0], dim=rows.shape[1], dtype=dtype, embeddings_offset=rows.offset,
            digests_offset=digests.offset, bytes=size, sha256=sha256, digests_sha256="0" * 64,
        )  # fmt: skip
        entry = shard.add_digests_hash(path.parent, entry)
    except (CacheError, ValueError, TypeError) as error:
        return None, str(error)
    if check.check_shard(path.parent, entry):
        return None, "HDF5 and the offsets in it disagree"
    return (entry, "") if _is_finite(path.parent, entry) else (None, "it holds rows that are not finite")


def repair_log(root: Path, log: ReplayedLog, adopted: Sequence[Shard]) -> Path | None:
    """Make a log whose every line holds, with some shards added.

    The old log is copied before the new one takes its name: a kill leaves one of the two.

    Args:
        root: The store's folder.
        log: What its log says.
        adopted: Shards that become a part of the store.

    Returns:
        Where the old log is now; None where it was not damaged and has only been added to, or was missing.

    Raises:
        MachineError: the disk refuses.
    """
    commit_log = CommitLog(root)
    path = commit_log.path
    if not log.damaged:
        commit_log.repair_end(log.commits)
        for part in adopted:
            commit_log.add(part)
        return None
    kept = None
    if is_present(path) and is_regular_file(path):
        kept = _copy_aside(root, path)
    elif is_present(path):  # a link, a pipe: nothing of ours
        kept = set_aside(root, path)
    commit_log.rewrite(log.lines, adopted)
    return kept


def drop_shard(root: Path, part: Shard) -> Path | None:
    """Take a damaged or missing shard out of the store.

    Args:
        root: The store's folder.
        part: The shard, as the log has it.

    Returns:
        Where its file was moved to; None where it is missing.

    Raises:
        MachineError: the disk refuses.
    """
    path, kept = root / "shards" / part.name, None
    if is_present(path):
        kept = set_aside(root, path)
    CommitLog(root).drop(part.name)
    return kept


def drop_listing(root: Path, line: ListingLine) -> Path | None:
    """Take a damaged or missing listing out of the store.

    Args:
        root: The folder of the store whose log names it.
        line: What that log says of it.

    Returns:
        Where its file was moved to; None where it is missing.

    Raises:
        MachineError: the disk refuses.
    """
    cache = root.parent.parent
    path, kept = listings.listing_path(cache, line), None
    if is_present(path):
        kept = set_aside(cache, path)
    CommitLog(root).drop(line.file)
    return kept


def find_spec(root: Path, candidates: Iterable[TrunkSpec]) -> TrunkSpec | None:
    """Return the one spec, of the candidates and a damaged trunk.json's own, that the store's folder is named by.

    Args:
        root: The store's folder.
        candidates: The specs that it could be.

    Returns:
        None where the folder is named by none of them, or by several.
    """
    tail = root.name.rpartition("-")[2]
    fitting = {spec.fingerprint(): spec for spec in [*_salvage_spec(root), *candidates]}
    if len(tail) != FINGERPRINT_DIGITS:
        return None
    named = [spec for fingerprint, spec in fitting.items() if fingerprint.startswith(tail)]
    return named[0] if len(named) == 1 else None


def repair_trunk_record(root: Path, spec: TrunkSpec | None, weights_name: str) -> Path | None:
    """Write trunk.json anew.

    Args:
        root: The store's folder.
        spec: Which trunk it belongs to; None: nobody knows, and the next extract of that trunk writes it.
        weights_name: How its weights were named.

    Returns:
        Where the damaged one was moved to; None where there was none.

    Raises:
        MachineError: the disk refuses.
    """
    kept = set_aside(root, root / TRUNK_FILE) if is_present(root / TRUNK_FILE) else None
    if spec is not None:
        write_trunk(root, TrunkRecord(spec, weights_name))
    return kept


def describe_foreign_trunk(root: Path) -> str:
    """Return why a trunk.json that is whole cannot be read: it is of a newer format, or of another trunk.

    There is nothing to repair in it. "" where it is ours, damaged, or missing.

    Args:
        root: The store's folder, in which trunk.json stands, or should.
    """
    try:
        read_trunk(root)
    except (DamagedError, MissingError):
        return ""
    except CacheError as error:
        return str(error)
    return ""


def read_trunk_or_none(root: Path) -> TrunkRecord | None:
    """Return what trunk.json says; None where it cannot be read.

    Args:
        root: The store's folder, in which trunk.json stands, or should.
    """
    try:
        return read_trunk(root)
    except CacheError:
        return None


def _salvage_spec(root: Path) -> list[TrunkSpec]:
    """Return the spec that a damaged trunk.json still spells out; whether it is intact, the folder's name says."""
    try:
        return [TrunkSpec.from_json(salvage_document(root / TRUNK_FILE)["spec"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _copy_aside(root: Path, path: Path) -> Path:
    """Copy a damaged file to damaged/, and return the copy: the file itself must not be missing at any moment."""
    target = _find_free(root / DAMAGED_FOLDER / path.name)
    copy_file(path, target)
    return target


def _find_free(path: Path) -> Path:
    """Return this path, or with a number behind it the first that nothing stands at; make its folder."""
    make_folder(path.parent)
    number, target = 0, path
    while is_present(target):
        number += 1
        target = path.with_name(f"{path.name}.{number}")
    return target


def _is_finite(folder: Path, entry: Shard) -> bool:
    """Whether every embedding of a shard is finite."""
    step = 4096
    for start in range(0, entry.rows, step):
        rows = np.arange(start, min(start + step, entry.rows))
        out = np.empty((len(rows), entry.dim), dtype=np.float32)
        shard.gather_rows(folder, entry, rows, out, np.arange(len(rows)))
        if not np.isfinite(out).all():
            return False
    return True
