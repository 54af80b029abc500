"""Every problem in a cache, at two depths: sizes and logs alone, or all hashes. `reembed` is the third."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError, FeatcacheError, UsageError
from featcache.files import StatLog
from featcache.heads.saved import verify_heads
from featcache.machine import cores
from featcache.maintenance.folders import concatenation_folders, has_lost_lines, store_folders, unknown_shards
from featcache.store import (
    FEATURES_FILE,
    TRUNK_FILE,
    CommitLog,
    Commits,
    FeatureStore,
    Problem,
    ReplayedLog,
    cache_folder,
    check_listing,
    check_memories,
    check_shard,
    check_splits,
    open_store,
    read_listing,
    read_trunk,
)
from featcache.text import counted

QUICK, HASHES = "quick", "hashes"
_PROGRESS_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Verification:
    """What the verification of a cache found.

    Problems are what a command would fail on or answer wrongly for; notes are what does no harm.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    bytes: int = 0  # of shards that were read
    seconds: float = 0.0
    compared: int = 0  # images that were embedded again
    sound_stores: list[FeatureStore] = field(default_factory=list)  # stores in which no problem was found

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache verify --json`, without its depth."""
        return {
            "problems": [problem_to_json(problem) for problem in self.problems],
            "notes": [problem_to_json(note) for note in self.notes],
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "compared": self.compared,
        }

    def add_problem(self, where: str | Path, kind: str, message: str) -> None:
        """Add one problem; `where` is the file, folder or listing that has it, `kind` a word for its sort."""
        self.problems.append(Problem(str(where), kind, message))

    def add_note(self, where: str | Path, kind: str, message: str) -> None:
        """Add one note, with arguments as for a problem."""
        self.notes.append(Problem(str(where), kind, message))


def problem_to_json(problem: Problem) -> dict[str, str]:
    """Return a problem or an action as `--json` has it."""
    return {"where": problem.where, "kind": problem.kind, "message": problem.message}


def run_verification(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    depth: str = HASHES,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Verification:
    """Return every problem in the stores of a cache (or in one of them) and in the files beside them.

    Args:
        cache: the cache's folder; None for the usual one.
        store: a store's name, or the start of its fingerprint; None for all stores.
        depth: `QUICK` (sizes and logs) or `HASHES` (all bytes).
        progress: gets the bytes of shards that were checked, and those that there are.

    Raises:
        UsageError: no such depth.
        CacheError: there is no cache at this place, or no such store.
    """
    if depth not in (QUICK, HASHES):
        raise UsageError(
            f"depth: found {depth!r}, expected {QUICK!r} or {HASHES!r}; `featcache verify --deep` goes deeper"
        )
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    begun, verification = time.monotonic(), Verification()
    stores = [_read_store(root, verification) for root in store_folders(folder, store)]
    hashes = depth != QUICK
    verification.bytes = _check_shards(stores, verification, progress, hashes=hashes)
    for read in stores:
        _check_listings(folder, read, verification, hashes=hashes)
        if read.opened is not None and not any(str(read.root) in problem.where for problem in verification.problems):
            verification.sound_stores.append(read.opened)
        _check_leftovers(read, verification)
        if hashes:
            verify_heads(read.root, verification.problems, verification.notes)
    for root in concatenation_folders(folder, store):
        _check_concatenation(root, verification, hashes=hashes)
    if hashes:
        verification.problems += check_splits(folder)
        verification.notes += check_memories(folder)
    verification.seconds = time.monotonic() - begun
    return verification


@dataclass(slots=True, eq=False)
class _ReadStore:
    """A store as far as it can be read."""

    root: Path
    log: ReplayedLog
    opened: FeatureStore | None  # None where it cannot be opened


def _read_store(root: Path, verification: Verification) -> _ReadStore:
    """Return a store as far as it can be read, its trunk and log checked."""
    try:
        stored = read_trunk(root).spec.stored
    except CacheError as error:
        verification.add_problem(root / TRUNK_FILE, "trunk", str(error))
        stored = None
    path = CommitLog(root).path
    try:
        log = CommitLog(root).replay()
    except CacheError as error:
        verification.add_problem(path, "log", str(error))
        log = ReplayedLog(Commits(), (), (), 0)
    for number, wrong in log.damaged:
        verification.add_problem(path, "log", f"{path}: line {number} {wrong}")
    if not log.damaged and has_lost_lines(root, log):
        verification.add_problem(
            path,
            "log",
            f"{path}: lines are missing: the store holds shards or heads that were made after its last line; "
            f"`featcache repair` adopts the shards",
        )
    if log.torn:
        message = f"{path}: {log.torn:,} bytes of a last line that a crash cut short; the next writer removes them"
        verification.add_note(path, "torn", message)
    other = next((shard for shard in log.commits.shards if stored and shard.dtype != stored), None)
    if other is not None:
        verification.add_problem(path, "log", f"{path}: {other.name} holds {other.dtype}, {TRUNK_FILE} says {stored}")
    try:
        opened = FeatureStore.open(root, StatLog(root.parent.parent))
    except CacheError:
        opened = None
    return _ReadStore(root, log, opened)


def _check_shards(
    stores: Iterable[_ReadStore], verification: Verification, progress: Callable[[int, int], None], *, hashes: bool
) -> int:
    """Check every shard, and return the bytes that were read; problems come in the order of the shards.

    Several are checked at a time: sha256 lets other threads run.
    """
    shards = [(store.root / "shards", shard) for store in stores for shard in store.log.commits.shards]
    total, done, lock = sum(shard.bytes for _, shard in shards), 0, threading.Lock()

    def more(size: int) -> None:
        nonlocal done
        with lock:
            done += size

    pool = concurrent.futures.ThreadPoolExecutor(cores())
    try:
        futures = [pool.submit(check_shard, *shard, hashes=hashes, progress=more) for shard in shards]
        for future in futures:
            while not concurrent.futures.wait([future], _PROGRESS_SECONDS).done:
                progress(done, total)
            verification.problems += future.result()
        progress(total, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return total if hashes else 0


def _check_listings(cache: Path, store: _ReadStore, verification: Verification, *, hashes: bool) -> None:
    """Check the listings of a store, and that it holds the embeddings that they name."""
    for line in store.log.commits.listings.values():
        problems = check_listing(cache, line, hashes=hashes)
        verification.problems += problems
        if problems or not hashes or store.opened is None:
            continue
        try:
            extracted = read_listing(cache, line)
            lacking = int((~store.opened.holds(extracted.digests[extracted.embedded])).sum())
        except FeatcacheError:  # of a shard, and named there
            continue
        if lacking:
            name = "/".join(line.key)
            verification.add_problem(
                name,
                "rows",
                f"{store.root}: {lacking:,} embeddings of {name} are not in this store; `featcache extract` embeds "
                f"them again",
            )


def _check_concatenation(root: Path, verification: Verification, *, hashes: bool) -> None:
    """Check that the stores of heads on several of them are here, and these heads."""
    try:
        open_store(root, StatLog(root.parent.parent))
    except CacheError as error:
        verification.add_problem(root / FEATURES_FILE, "features", str(error))
    if hashes:
        verify_heads(root, verification.problems, verification.notes)


def _check_leftovers(store: _ReadStore, verification: Verification) -> None:
    """Note the shards in a store's folder that are no part of it."""
    for path in unknown_shards(store.root, store.log):
        message = (
            f"{path}: published, but not in the log: a run was killed just then; `featcache repair` adopts it; "
            f"once its images have been embedded again, `featcache gc` removes it"
        )
        verification.add_note(path, "orphan", message)
    left = [name for name in store.log.commits.dropped if (store.root / "shards" / name).exists()]
    if left:
        files = counted(len(left), "file")
        message = (
            f"{store.root}: {files} of dropped shards; `featcache gc` removes {'it' if len(left) == 1 else 'them'}"
        )
        verification.add_note(store.root, "dropped", message)


@checked
def verify(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    depth: str = HASHES,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Problem]:
    """Return every problem in a cache; an empty list says that there is none.

    Args:
        cache: the cache's folder; None for the usual one.
        store: a store's name, or the start of its fingerprint; None for all stores.
        depth: "quick" (sizes and logs) or "hashes" (all bytes).
        progress: gets the bytes of shards that were checked, and those that there are.

    Raises:
        UsageError: no such depth.
        CacheError: there is no cache at this place, or no such store.
    """
    return run_verification(cache=cache, store=store, depth=depth, progress=progress).problems
