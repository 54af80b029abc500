"""Every problem in a cache, at three depths: sizes and logs; all hashes; and a sample of images embedded anew."""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError, FeatcacheError, UsageError
from featcache.files import StatLog, list_folders
from featcache.heads.saved import verify_heads
from featcache.machine import cores
from featcache.store import (
    LOG_NAME,
    SHARD_NAME,
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
    is_named,
    read_listing,
    read_trunk,
)

QUICK, HASHES, DEEP = "quick", "hashes", "deep"
_SAY_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Examined:
    """What was found. Problems are what a command would stumble over; notes are what a tidy cache would not have."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    bytes: int = 0  # of shards that were read
    seconds: float = 0.0
    compared: int = 0  # images that were embedded anew
    sound: list[FeatureStore] = field(default_factory=list)  # stores in which no problem was found

    def to_json(self) -> dict[str, Any]:
        """The document of `featcache verify --json`."""
        plain = {
            name: [{"where": one.where, "kind": one.kind, "message": one.message} for one in found]
            for name, found in (("problems", self.problems), ("notes", self.notes))
        }
        return {**plain, "bytes": self.bytes, "seconds": round(self.seconds, 3), "compared": self.compared}


def examine(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    depth: str = HASHES,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Examined:
    """Every problem in the stores of a cache (or in one of them) and in what stands beside them.

    `progress` gets the bytes of shards that were looked at and those that there are.

    Raises:
        CacheError: there is no cache at this place, or no such store.
    """
    if depth not in (QUICK, HASHES):
        raise UsageError(
            f"depth: found {depth!r}, expected {QUICK!r} or {HASHES!r}; `featcache verify --deep` goes deeper"
        )
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    begun, found = time.monotonic(), Examined()
    looked_at = [_look(root, found) for root in store_folders(folder, store)]
    hashes = depth != QUICK
    found.bytes = _check_shards(looked_at, found, progress, hashes=hashes)
    for looked in looked_at:
        _check_listings(folder, looked, found, hashes=hashes)
        if looked.sound is not None and not any(str(looked.root) in one.where for one in found.problems):
            found.sound.append(looked.sound)
        _leftovers(looked, found)
        if hashes:
            verify_heads(looked.root, found.problems, found.notes)
    if hashes:
        found.problems += check_splits(folder)
        found.notes += check_memories(folder)
    found.seconds = time.monotonic() - begun
    return found


def store_folders(cache: Path, store: str | None) -> list[Path]:
    """The folders of a cache's stores, those too that cannot be opened; or the one that `store` names.

    Raises:
        CacheError: there is no store of this name, or several begin with it.
    """
    everywhere = list_folders(cache / "stores")
    fitting = [path for path in everywhere if store is None or is_named(path.name, _fingerprint(path, store), store)]
    if store is not None and len(fitting) != 1:
        found = f"{len(fitting)} stores begin with" if fitting else "no store"
        there = ", ".join(path.name for path in fitting or everywhere)
        raise CacheError(f"{cache}: {found} {store!r}; there are: {there}")
    return [path for path in fitting if _was_begun(path)]


def _fingerprint(root: Path, store: str) -> str:
    """The fingerprint of a store; of one that cannot be opened the part that its folder's name ends in."""
    try:
        return read_trunk(root).spec.fingerprint()
    except CacheError:
        tail = root.name.rpartition("-")[2]
        return store if len(store) > len(tail) and store.startswith(tail) else tail


@dataclass(slots=True, eq=False)
class _Looked:
    """A store as far as it can be read."""

    root: Path
    log: ReplayedLog
    sound: FeatureStore | None  # None where it cannot be opened


def _was_begun(root: Path) -> bool:
    """Not where a run was killed while it made this store: nothing was lost."""
    return os.path.lexists(root / TRUNK_FILE) or any((root / "shards").glob("*.h5")) or _size(root / LOG_NAME) > 0


def _look(root: Path, found: Examined) -> _Looked:
    try:
        stored = read_trunk(root).spec.stored
    except CacheError as error:
        found.problems.append(Problem(str(root / TRUNK_FILE), "trunk", str(error)))
        stored = None
    path = CommitLog(root).path
    try:
        log = CommitLog(root).replay()
    except CacheError as error:
        found.problems.append(Problem(str(path), "log", str(error)))
        log = ReplayedLog(Commits(), (), (), 0)
    for number, wrong in log.damaged:
        found.problems.append(Problem(str(path), "log", f"{path}: line {number} {wrong}"))
    if not log.damaged and _has_lost_lines(root, log):
        said = f"{path}: lines are missing: shards or heads stand here that were made after lines which it lacks"
        found.problems.append(Problem(str(path), "log", f"{said}; `featcache repair` adopts the shards"))
    if log.torn:
        said = f"{path}: {log.torn:,} bytes of a last line that a crash cut short; the next writer removes them"
        found.notes.append(Problem(str(path), "torn", said))
    other = next((part for part in log.commits.shards if stored and part.dtype != stored), None)
    if other is not None:
        said = f"{path}: {other.name} holds {other.dtype}, {TRUNK_FILE} says {stored}"
        found.problems.append(Problem(str(path), "log", said))
    try:
        sound = FeatureStore.open(root, StatLog(root.parent.parent))
    except CacheError:
        sound = None
    return _Looked(root, log, sound)


def _has_lost_lines(root: Path, log: ReplayedLog) -> bool:
    """Whether what stands in a store proves that its log was longer: it was emptied, or cut at the end of a line.

    A run that is killed leaves at most shards whose number is that of the next one, and heads need a listing.
    """
    heads = not log.commits.listings and any((root / "heads").glob("*/*/*"))
    numbers = (int(path.name.partition("-")[0]) for path in unknown_shards(root, log))
    return heads or any(number > log.commits.numbers for number in numbers)


def _check_shards(
    looked_at: Iterable[_Looked], found: Examined, progress: Callable[[int, int], None], *, hashes: bool
) -> int:
    """Every shard, several at a time: sha256 lets other threads run. Problems come in the order of the shards."""
    parts = [(looked.root / "shards", part) for looked in looked_at for part in looked.log.commits.shards]
    total, done, lock = sum(part.bytes for _, part in parts), 0, threading.Lock()

    def more(size: int) -> None:
        nonlocal done
        with lock:
            done += size

    pool = concurrent.futures.ThreadPoolExecutor(cores())
    try:
        waiting = [pool.submit(check_shard, *part, hashes=hashes, progress=more) for part in parts]
        for future in waiting:
            while not concurrent.futures.wait([future], _SAY_SECONDS).done:
                progress(done, total)
            found.problems += future.result()
        progress(total, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return total if hashes else 0


def _check_listings(cache: Path, looked: _Looked, found: Examined, *, hashes: bool) -> None:
    for line in looked.log.commits.listings.values():
        problems = check_listing(cache, line, hashes=hashes)
        found.problems += problems
        if problems or not hashes or looked.sound is None:
            continue
        try:
            extracted = read_listing(cache, line)
            lacking = int((~looked.sound.holds(extracted.digests[extracted.embedded])).sum())
        except FeatcacheError:  # of a shard, and named there
            continue
        if lacking:
            said = f"{looked.root}: {lacking:,} embeddings of {'/'.join(line.key)} are not in this store"
            found.problems.append(Problem("/".join(line.key), "rows", f"{said}; `featcache extract` embeds them again"))


def _leftovers(looked: _Looked, found: Examined) -> None:
    """What stands in a store's folder and is no part of it."""
    for path in unknown_shards(looked.root, looked.log):
        said = f"{path}: published, but not in the log: a run was killed just then; `featcache repair` adopts it"
        found.notes.append(Problem(str(path), "orphan", said))
    left = [name for name in looked.log.commits.dropped if (looked.root / "shards" / name).exists()]
    if left:
        said = f"{looked.root}: {len(left):,} files of shards that were dropped; `featcache gc` removes them"
        found.notes.append(Problem(str(looked.root), "dropped", said))


def unknown_shards(root: Path, log: ReplayedLog) -> Iterator[Path]:
    """Published shards that the log neither adds nor drops."""
    known = {part.name for part in log.commits.shards} | log.commits.dropped.keys()
    for path in sorted((root / "shards").glob("*.h5")):
        if path.name not in known and SHARD_NAME.fullmatch(path.name):
            yield path


def lacking(store: FeatureStore) -> Iterator[tuple[str, str]]:
    """(data set/variant/split, path) of every row of a store's listings whose embedding it does not hold."""
    for key in store.listings:
        try:
            extracted = store.listing(key)
        except CacheError:
            continue
        good = extracted.embedded
        for row in good[~store.holds(extracted.digests[good])]:
            yield "/".join(key), extracted.listing.paths[int(row)]


@checked
def verify(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    depth: str = HASHES,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Problem]:
    """Every problem in a cache; an empty list is a clean bill. The arguments are `examine`'s.

    Raises:
        CacheError: there is no cache at this place, or no such store.
    """
    return examine(cache=cache, store=store, depth=depth, progress=progress).problems


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
