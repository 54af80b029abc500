"""Repair of one store and of what stands beside it, step by step; what is damaged is kept aside, never deleted.

Every step is safe to be killed in: files are moved aside before the log says so, a log is replaced whole. Between the
two a reader meets a missing file, which is an error, as the damaged one was.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from featcache.errors import CacheError
from featcache.files import copy_file, make_folder, move_file, open_regular, parse_json, read_regular, unseal_document
from featcache.store import check, commits, hdf5, listings, shard
from featcache.store.commits import ListingLine, Replayed
from featcache.store.shard import Shard
from featcache.store.trunk_record import TAIL, TRUNK, TrunkRecord, read_trunk, write_trunk
from featcache.trunks import TrunkSpec

ASIDE = "damaged"


def set_aside(folder: Path, path: Path) -> Path:
    """Move a damaged file, or folder, out of the way, below `folder`/damaged/ as it stood below `folder`."""
    place = _free(folder / ASIDE / path.relative_to(folder))
    move_file(path, place)
    return place


def adoptable(path: Path, *, dim: int | None, dtype: str) -> tuple[Shard | None, str]:
    """The line that a published shard would have in the log; or None, and why it is no part of this store.

    Its name holds the start of its sha256, which must be right before libhdf5 sees it; and what libhdf5 finds must be
    a shard and nothing else, with finite rows of this store's kind.
    """
    try:
        handle = open_regular(path)
    except OSError as error:
        return None, f"cannot be opened: {error.strerror}"
    try:
        sha256 = shard.hash_of(handle).hex()
        if sha256[:8] != path.stem.partition("-")[2]:
            return None, "damaged: its sha256 is not the one in its name"
        found = hdf5.places(handle)
        size = os.fstat(handle).st_size
    except hdf5.ForeignFileError as error:
        return None, str(error)
    finally:
        os.close(handle)
    if set(found) != {"embeddings", "digests"}:
        return None, f"it holds {sorted(found)}, expected digests and embeddings"
    rows, digests = found["embeddings"], found["digests"]
    if len(rows.shape) != 2 or rows.dtype != dtype or rows.shape[1] != (dim or rows.shape[1]):
        return None, f"it holds {rows.shape} of {rows.dtype}, this store's rows are {dim or 'some'} of {dtype}"
    if (digests.dtype, digests.shape) != ("uint8", (rows.shape[0], 32)):
        return None, f"its digests are {digests.shape} of {digests.dtype}"
    try:
        entry = Shard(
            name=path.name, rows=rows.shape[0], dim=rows.shape[1], dtype=dtype, embeddings_offset=rows.offset,
            digests_offset=digests.offset, bytes=size, sha256=sha256, digests_sha256="0" * 64,
        )  # fmt: skip
        entry = shard.with_digests_hash(path.parent, entry)
    except (CacheError, ValueError, TypeError) as error:
        return None, str(error)
    if check.check_shard(path.parent, entry):
        return None, "HDF5 and the offsets in it disagree"
    return (entry, "") if _is_finite(path.parent, entry) else (None, "it holds rows that are not finite")


def mend_log(root: Path, log: Replayed, adopted: Sequence[Shard]) -> Path | None:
    """A log whose every line holds, and `adopted` at its end; where the old one was damaged it is kept aside.

    The old log is copied before the new one takes its name: a kill leaves one of the two.
    """
    path = root / commits.LOG_NAME
    if not log.damaged:
        commits.mend_end(path, log.commits)
        for part in adopted:
            commits.add(path, part)
        return None
    kept = None
    if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
        kept = _copy_aside(root, path)
    elif os.path.lexists(path):  # a link, a pipe: nothing of ours
        kept = set_aside(root, path)
    commits.rewrite(path, log.lines, adopted)
    return kept


def drop_shard(root: Path, part: Shard) -> Path | None:
    """Take a damaged or missing shard out of the store; where its file was moved to."""
    path, kept = root / "shards" / part.name, None
    if os.path.lexists(path):
        kept = set_aside(root, path)
    commits.drop(root / commits.LOG_NAME, part.name)
    return kept


def drop_listing(root: Path, line: ListingLine) -> Path | None:
    """Take a damaged or missing listing out of the store's log; where its file was moved to."""
    cache = root.parent.parent
    path, kept = listings.listing_path(cache, line), None
    if os.path.lexists(path):
        kept = set_aside(cache, path)
    commits.drop(root / commits.LOG_NAME, line.file)
    return kept


def find_spec(root: Path, candidates: Iterable[TrunkSpec]) -> TrunkSpec | None:
    """The spec that this store's folder is named by, of those that it could be; the damaged trunk.json's own first."""
    tail = root.name.rpartition("-")[2]
    fitting = {spec.fingerprint(): spec for spec in [*_own_spec(root), *candidates]}
    found = [spec for fingerprint, spec in fitting.items() if len(tail) == TAIL and fingerprint.startswith(tail)]
    return found[0] if len(found) == 1 else None


def mend_trunk(root: Path, spec: TrunkSpec | None, asked: str) -> Path | None:
    """Write trunk.json anew, or without a spec move it away: the next extract of that trunk then writes it."""
    kept = set_aside(root, root / TRUNK) if os.path.lexists(root / TRUNK) else None
    if spec is not None:
        write_trunk(root, TrunkRecord(spec, asked))
    return kept


def not_ours(root: Path) -> str:
    """Why a trunk.json that is whole cannot be read: of a newer format, or of another trunk; "" where it is ours or
    damaged. There is nothing to mend in it.
    """
    try:
        if unseal_document(read_regular(root / TRUNK)) is None:
            return ""
        read_trunk(root)
    except OSError:
        return ""
    except CacheError as error:
        return str(error)
    return ""


def trunk_or_none(root: Path) -> TrunkRecord | None:
    """What trunk.json says, if it can be read."""
    try:
        return read_trunk(root)
    except CacheError:
        return None


def _own_spec(root: Path) -> list[TrunkSpec]:
    """The spec that a damaged trunk.json still spells out; whether it is intact, the folder's name says."""
    try:
        return [TrunkSpec.from_json(parse_json(read_regular(root / TRUNK))["spec"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _copy_aside(root: Path, path: Path) -> Path:
    """A copy of a damaged file below damaged/: the file itself must not be missing at any moment."""
    place = _free(root / ASIDE / path.name)
    copy_file(path, place)
    return place


def _free(path: Path) -> Path:
    """This path, or with a number behind it the first that nothing stands at."""
    make_folder(path.parent)
    number, place = 0, path
    while os.path.lexists(place):
        number += 1
        place = path.with_name(f"{path.name}.{number}")
    return place


def _is_finite(folder: Path, entry: Shard) -> bool:
    step = 4096
    for start in range(0, entry.rows, step):
        rows = np.arange(start, min(start + step, entry.rows))
        out = np.empty((len(rows), entry.dim), dtype=np.float32)
        shard.gather(folder, entry, rows, out, np.arange(len(rows)))
        if not np.isfinite(out).all():
            return False
    return True
