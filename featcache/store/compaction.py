"""Forgetting embeddings that no listing names, and merging small shards. Nothing is edited.

New shards are published and added, then the old ones are dropped, then their files are removed: whenever a kill comes,
every row that is kept stands in a committed shard. Copies that a kill leaves are equal, and the next run drops them.

A reader is not hurt: a file that it has open stays readable after its name is gone, no byte of it changes, and one that
it opens later is found missing, upon which it reads the log anew and finds the row in the shard that took its place.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files import publish, remove_file, sync_folder
from featcache.store import shard
from featcache.store.commits import CommitLog, Commits
from featcache.store.index import QUESTIONS, DigestArray, DigestIndex
from featcache.store.shard import Shard
from featcache.store.shard_digests import ShardDigests
from featcache.store.store import FeatureStore
from featcache.store.writer import SHARD_ROWS

RowMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CompactionPlan:
    """What would become of a store's shards and rows."""

    rewritten: tuple[tuple[Shard, RowMask], ...]  # shards to be dropped, and which of their rows are kept, (rows,) bool
    forgotten: int  # rows that no listing names
    repeated: int  # rows of images that stand in an earlier shard too
    unfinished: int  # rows that no listing names yet: of an extract that has not ended, and kept

    @property
    def groups(self) -> list[list[tuple[Shard, RowMask]]]:
        """The shards that become new ones together: those that were computed alike, in commit order."""
        by_provenance: dict[int | None, list[tuple[Shard, RowMask]]] = {}
        for part, kept in self.rewritten:
            by_provenance.setdefault(part.made, []).append((part, kept))
        return list(by_provenance.values())

    @property
    def new_shards(self) -> int:
        """The number of shards that take the place of the rewritten ones."""
        return sum(-(-sum(int(kept.sum()) for _, kept in group) // SHARD_ROWS) for group in self.groups)

    @property
    def freed(self) -> int:
        """The size of the rows that go, bytes; nearly what the files shrink by."""
        return sum(int((~kept).sum()) * (part.row_bytes + 32) for part, kept in self.rewritten)


def plan_compaction(store: FeatureStore, *, everything: bool = False) -> CompactionPlan:
    """Return what gc would do to a store.

    A row is kept where the newest listing of some split names its digest, and where it was added since the last listing
    was complete: an extract that was stopped goes on there.

    Args:
        store: The store; under its lock where the plan is to be applied.
        everything: Whether rows since the last listing are forgotten too.

    Raises:
        CacheError: a shard or a listing is damaged: what is named cannot be known.
    """
    first = ~DigestIndex([ShardDigests(store.shard_folder, part) for part in store.shards]).find_repeated()
    is_named = _find_named(store)
    late = np.repeat([part.name in store.log.unfinished for part in store.shards], [p.rows for p in store.shards])
    late = np.asarray(late, dtype=bool) & ~is_named & (not everything)
    kept = first & (is_named | late)
    ends = np.cumsum([part.rows for part in store.shards])
    masks = list(zip(store.shards, np.split(kept, ends[:-1]), strict=True)) if len(ends) else []
    return CompactionPlan(
        rewritten=_choose_rewritten(masks),
        forgotten=int((first & ~kept).sum()),
        repeated=int((~first).sum()),
        unfinished=int((first & late).sum()),
    )


def _find_named(store: FeatureStore) -> RowMask:
    """Return which rows of a store some listing names, (rows,); the digests of so many shards are looked up at once."""
    named = DigestIndex([DigestArray(store.listing(key).digests) for key in store.listings])
    together = max(1, QUESTIONS // SHARD_ROWS)
    parts = [np.empty(0, dtype=bool)]
    for start in range(0, len(store.shards), together):
        held = [shard.read_digests(store.shard_folder, part) for part in store.shards[start : start + together]]
        parts.append(named.find(np.concatenate(held)) >= 0)
    return np.concatenate(parts)


def _choose_rewritten(masks: list[tuple[Shard, RowMask]]) -> tuple[tuple[Shard, RowMask], ...]:
    """Return the shards that lose a row, and small ones where there are others, computed alike, to merge with."""
    small: dict[int | None, int] = {}
    for part, kept in masks:
        if not kept.all() or part.rows < SHARD_ROWS // 2:
            small[part.made] = small.get(part.made, 0) + 1
    return tuple(
        (part, kept) for part, kept in masks if not kept.all() or (part.rows < SHARD_ROWS // 2 and small[part.made] > 1)
    )


def apply_compaction(
    root: Path, plan: CompactionPlan, store: FeatureStore, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Carry out a plan. Only under the lock, with a plan made under it.

    Args:
        root: The store's folder.
        plan: What to do.
        store: The store that the plan was made of.
        progress: Gets the number of rows of each new shard.

    Raises:
        CacheError: a shard that is to be rewritten does not match the log.
        MachineError: the disk refuses; nothing is lost.
    """
    log = CommitLog(root)
    number = log.read().shards_ever_added  # read once: a log grows with the shards, and so would every reading of it
    for group in plan.groups:
        for digests, rows in _merge_rows(group, store):
            stored = rows.astype(group[0][0].dtype)
            entry, data = shard.build_shard(number, digests, stored, made=group[0][0].made)
            publish(root / "shards" / entry.name, data)
            log.add(entry)
            number += 1
            progress(entry.rows)
    for part, _ in plan.rewritten:
        log.drop(part.name)


def remove_dropped(root: Path, log: Commits, *, grace: float) -> int:
    """Remove the files of shards that the log has dropped.

    Args:
        root: The store's folder.
        log: What its log says now.
        grace: How many seconds ago a shard must have been dropped: readers may still be opening it.

    Returns:
        The size of the files that were removed, bytes.

    Raises:
        MachineError: the disk refuses.
    """
    kept, freed = {part.name for part in log.shards}, 0
    for name, at in log.dropped.items():
        path = root / "shards" / name
        if not shard.SHARD_NAME.fullmatch(name) or name in kept or time.time() - at < grace:
            continue
        with contextlib.suppress(FileNotFoundError):  # an earlier gc removed it
            size = path.lstat().st_size
            remove_file(path)
            freed += size
    if freed:
        sync_folder(root / "shards")
    return freed


def _merge_rows(
    group: list[tuple[Shard, RowMask]], store: FeatureStore
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Yield digests and embeddings of the kept rows of these shards, in order, a new shard's worth at a time."""
    digests, rows, held = [], [], 0
    for part, kept in group:
        chosen = np.flatnonzero(kept)
        if not len(chosen):
            continue
        shard.check_shard_hash(store.shard_folder, part, store.stat_log)
        part_digests = shard.read_digests(store.shard_folder, part)
        while len(chosen):
            take, chosen = chosen[: SHARD_ROWS - held], chosen[SHARD_ROWS - held :]
            out = np.empty((len(take), part.dim), dtype=np.float32)
            shard.gather_rows(store.shard_folder, part, take, out, np.arange(len(take)))
            if not np.isfinite(out).all():
                raise CacheError(f"{store.shard_folder / part.name}: it holds rows that are not finite")
            digests.append(part_digests[take])
            rows.append(out)
            held += len(take)
            if held == SHARD_ROWS:
                yield np.concatenate(digests), np.concatenate(rows)
                digests, rows, held = [], [], 0
    if held:
        yield np.concatenate(digests), np.concatenate(rows)
