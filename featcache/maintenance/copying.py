"""featcache copy: a cache from a folder to a bucket, or back, or to another folder; what is there already is left out.

What never changes is copied first, whole and by its hash; then the documents; then the lines of the logs. So at every
moment the copy is a cache, and running the same command again goes on where it was stopped.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError, UsageError
from featcache.files import (
    MAX_LISTING_BYTES,
    AppendLog,
    hash_cache_file,
    hold_lock,
    hold_store,
    is_present,
    list_folders,
    make_folder,
    publish,
    read_cache_file,
    read_if_hash_matches,
)
from featcache.files.objects import ObjectPath
from featcache.heads.saved import MODEL_DOCUMENTS
from featcache.maintenance.copy_logs import read_lines
from featcache.maintenance.copy_places import require_cache, require_free
from featcache.store import (
    FEATURES_FILE,
    LOG_NAME,
    TRUNK_FILE,
    CommitLog,
    Commits,
    cache_folder,
    listing_path,
    read_trunk,
)
from featcache.text import counted

_THREADS = 8
_ATTEMPTS = 5  # of a store out of which gc removes what is copied
_RUNS, _WAIT_SECONDS = "runs.jsonl", 60.0
_MEMORIES = ("weights.json",)  # worth copying where the copy has none; stat.log is about the files of this machine


@dataclass(slots=True, kw_only=True)
class CopySummary:
    """What `copy_cache` did."""

    stores: int = 0
    files: int = 0  # that were copied
    bytes: int = 0  # of these
    present: int = 0  # files that the copy had already
    lines: int = 0  # that were added to logs

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache copy --json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@checked
def copy_cache(
    source: str | Path, target: str | Path, *, wait: float = 0.0, progress: Callable[[int], None] = lambda _: None
) -> CopySummary:
    """Copy a cache: every committed shard, listing, head and document, and the logs.

    Args:
        source: the cache that is copied: a folder, or a URL such as s3://bucket/prefix.
        target: where the copy is to be, or is already: a folder or a URL. What it lacks is added.
        wait: seconds to wait for a store of the copy that another process writes to.
        progress: gets the bytes that were copied so far.

    Returns:
        What was copied, and what was there already.

    Raises:
        UsageError: both are the same place, the copy is inside the cache, or a URL that cannot be.
        CacheError: there is no cache to copy, a file of it is damaged, or the copy holds what the cache does not, or
            what is of no cache.
        MachineError: the disk or the object store refuses; run it again to go on.
    """
    origin, copy = cache_folder(source, flag="CACHE"), cache_folder(target, flag="COPY")
    whole, whole_copy = _resolve(origin), _resolve(copy)
    if whole == whole_copy:
        raise UsageError(f"{origin}: the cache and its copy are one place; name another for the copy")
    if whole in whole_copy.parents:
        raise UsageError(f"{copy}: the copy would be a part of the cache {origin}; name a place outside of it")
    require_cache(origin, str(source))
    require_free(copy, str(target))
    task = _Copying(origin, copy, wait, progress, CopySummary())
    for root in list_folders(origin / "stores"):
        if is_present(root / TRUNK_FILE):
            task.copy_store(root)
        elif is_present(root / FEATURES_FILE):
            task.copy_documents([root / FEATURES_FILE])
            task.copy_heads(root)
    task.copy_rest()
    return task.summary


@dataclass(frozen=True, slots=True)
class _Copying:
    """The copying of one cache."""

    origin: Path
    copy: Path
    wait: float
    progress: Callable[[int], None]
    summary: CopySummary

    def copy_store(self, root: Path) -> None:
        """Copy one store: its shards and listings, its trunk.json, its log, and its heads."""
        read_trunk(root)  # one that cannot be read is not spread
        place = self._place(root)
        make_folder(place / "shards")
        with hold_store(place, wait=self.wait):
            CommitLog(place).create()
            missing = self._copy_committed(root)
            self.copy_documents([root / TRUNK_FILE])
            self._add_lines(place / LOG_NAME, missing)
        self.copy_heads(root)
        self.summary.stores += 1

    def _copy_committed(self, root: Path) -> list[bytes]:
        """Copy the shards and listings that a store's log names, and return the lines that its copy lacks.

        What gc has removed since the log was read is named no more: the log is read again.
        """
        missing, commits = self._read_log(root)
        for _ in range(_ATTEMPTS):
            files = list(_hashed_files(self.origin, root, commits))
            try:
                self._copy_hashed(files)
            except FileNotFoundError as error:
                gone = error.filename
                missing, commits = self._read_log(root)
                if set(files) == set(_hashed_files(self.origin, root, commits)):
                    break
            else:
                return missing
        raise CacheError(
            f"{gone}: cannot be read: the log names it, and it is not there; `featcache verify` says more (where gc is "
            f"at work, run this one again)"
        )

    def _read_log(self, root: Path) -> tuple[list[bytes], Commits]:
        """Return the lines that the copy lacks, and what they commit: read again where a line came in between."""
        log = root / LOG_NAME
        for _ in range(_ATTEMPTS):
            missing = self._missing_lines(log, self._place(log))
            commits = CommitLog(root).read()
            if self._missing_lines(log, self._place(log)) == missing:
                return missing, commits
        raise CacheError(f"{log}: it is written to faster than it can be copied; run this one again")

    def copy_heads(self, root: Path) -> None:
        """Copy the heads of a store, each with its document last, and the logs of the runs that made them."""
        variants = [folder for data_set in list_folders(root / "heads") for folder in list_folders(data_set)]
        for variant in variants:
            for head in list_folders(variant):
                files = [path for path in sorted(head.iterdir()) if not path.name.startswith(".") and path.is_file()]
                self.copy_documents([path for path in files if path.name not in MODEL_DOCUMENTS])
                self.copy_documents([path for path in files if path.name in MODEL_DOCUMENTS])
            if is_present(variant / _RUNS):
                self._copy_runs(variant)

    def copy_rest(self) -> None:
        """Copy what belongs to no store: assigned splits, tuned trunks, and a memory where the copy has none."""
        self.copy_documents(sorted((self.origin / "listings").glob("*/*/splits.json")))
        self.copy_documents(sorted((self.origin / "finetuned").glob("*.safetensors")))
        self.copy_documents(sorted((self.origin / "finetuned").glob("finished/*.json")))
        memories = [path for name in _MEMORIES if is_present(path := self.origin / name)]
        lacking = [path for path in memories if not is_present(self._place(path))]
        self.summary.present += len(memories) - len(lacking)
        self.copy_documents(lacking)

    def copy_documents(self, paths: Sequence[Path]) -> None:
        """Copy files as they are, in this order, each in the place of what has its name."""
        for path in paths:
            data, place = _read(path), self._place(path)
            if is_present(place) and hash_cache_file(place) == hashlib.sha256(data).hexdigest():
                self.summary.present += 1
                continue
            make_folder(place.parent)
            publish(place, data, replace=True)
            self._count(len(data))

    def _copy_hashed(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copy files that never change, several at a time; each is held against its hash before it is published."""
        for folder in {self._place(path).parent for path, _ in files}:
            make_folder(folder)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="featcache-copy") as pool:
            for size in pool.map(self._copy_one, files):
                self._count(size)

    def _copy_one(self, file: tuple[Path, str]) -> int:
        """Copy a file, and return its size, bytes; 0 where the copy has it."""
        path, sha256 = file
        place = self._place(path)
        with contextlib.suppress(FileNotFoundError):
            if isinstance(place, ObjectPath):  # a put is there as a whole: to fetch it all again would cost a copy
                if place.stat().st_size == path.stat().st_size:
                    return 0
            elif hash_cache_file(place) == sha256:
                return 0
        try:
            data = read_if_hash_matches(path, sha256, MAX_LISTING_BYTES)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CacheError(f"{path}: cannot be read: {error.strerror}; `featcache verify` says more") from None
        if data is None:
            raise CacheError(f"{path}: damaged: its sha256 is not the one in the log; `featcache repair` takes it out")
        publish(place, data)
        return len(data)

    def _copy_runs(self, variant: Path) -> None:
        """Copy the log of the runs of one data set."""
        place = self._place(variant)
        make_folder(place)
        with hold_lock(place / f".{_RUNS}.lock", wait=self.wait or _WAIT_SECONDS) as is_held:
            if not is_held:
                raise CacheError(f"{place / _RUNS}: another process writes to it; run this one again")
            self._add_lines(place / _RUNS, self._missing_lines(variant / _RUNS, place / _RUNS))

    def _missing_lines(self, log: Path, place: Path) -> list[bytes]:
        """Return the lines of a log that its copy lacks.

        Raises:
            CacheError: the copy has lines that the log has not.
        """
        lines, present = read_lines(log), read_lines(place)
        common = min(len(lines), len(present))
        if lines[:common] != present[:common]:
            raise CacheError(
                f"{place}: it is no copy of {log}: each has lines that the other lacks; copy to a place of its own"
            )
        if len(present) > common:  # its trunk.json, or its heads, may have gone on with it
            raise CacheError(
                f"{place}: the copy has gone on by itself, and has {counted(len(present) - common, 'line')} that {log} "
                f"lacks; copy the other way, or to a place of its own"
            )
        return lines[common:]

    def _add_lines(self, place: Path, lines: Sequence[bytes]) -> None:
        """Add lines to the log of the copy."""
        if lines:
            log = AppendLog(place)
            if is_present(place):
                log.repair_end(log.read(lambda _: "").size)
            log.append(*(line + b"\n" for line in lines))
        self.summary.lines += len(lines)

    def _place(self, path: Path) -> Path:
        """Return where the copy of a file or folder of the cache stands."""
        return self.copy.joinpath(*path.relative_to(self.origin).parts)

    def _count(self, size: int) -> None:
        """Count a file that was copied, or that was there where nothing was."""
        self.summary.files += bool(size)
        self.summary.present += not size
        self.summary.bytes += size
        self.progress(self.summary.bytes)


def _resolve(place: Path) -> Path:
    """Return a place without links and `..`, whether it is there or not."""
    return place if isinstance(place, ObjectPath) else Path(os.path.realpath(place))


def _hashed_files(cache: Path, root: Path, commits: Commits) -> Iterator[tuple[Path, str]]:
    """Yield each shard and listing that a store's log names, with its sha256."""
    yield from ((root / "shards" / shard.name, shard.sha256) for shard in commits.shards)
    yield from ((listing_path(cache, line), line.sha256) for line in commits.listings.values())


def _read(path: Path) -> bytes:
    """Return all bytes of a file of the cache."""
    try:
        return read_cache_file(path, MAX_LISTING_BYTES)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; `featcache verify` says more") from None
