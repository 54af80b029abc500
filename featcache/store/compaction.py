"""Forgetting embeddings that no listing names, and merging small shards. Nothing is edited.

New shards are published and added, then the old ones are dropped, then their files are removed: whenever a kill comes,
every row that is kept stands in a committed shard. Copies that a kill leaves are equal, and the next run drops them.

A reader is not hurt: a file that it has open stays readable after its name is gone, no byte of it changes, and one that
it opens later is found missing, upon which it reads the log anew and finds the row in the shard that took its place.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files import publish, remove_file, sync_folder
from featcache.store import commits, shard
from featcache.store.commits import Commits
from featcache.store.index import DigestIndex
from featcache.store.shard import Shard
from featcache.store.store import FeatureStore
from featcache.store.writer import SHARD_ROWS

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CompactionPlan:
    """What would become of a store."""

    rewritten: tuple[tuple[Shard, Mask], ...]  # shards to be dropped, and which of their rows are kept, (rows,)
    forgotten: int  # rows that no listing names
    repeated: int  # rows of images that stand in an earlier shard too
    unfinished: int  # rows that no listing names yet: of an extract that has not ended, and kept

    @property
    def groups(self) -> list[list[tuple[Shard, Mask]]]:
        """Shards that become new ones together: those that were made alike, in commit order."""
        by_making: dict[int | None, list[tuple[Shard, Mask]]] = {}
        for part, kept in self.rewritten:
            by_making.setdefault(part.made, []).append((part, kept))
        return list(by_making.values())

    @property
    def new_shards(self) -> int:
        """How many shards take the place of the rewritten ones."""
        return sum(-(-sum(int(kept.sum()) for _, kept in group) // SHARD_ROWS) for group in self.groups)

    @property
    def freed(self) -> int:
        """Bytes, nearly: of the rows that go."""
        return sum(int((~kept).sum()) * (part.row_bytes + 32) for part, kept in self.rewritten)


def plan_compaction(store: FeatureStore, *, everything: bool = False) -> CompactionPlan:
    """What gc would do. A row is kept where the newest listing of some split names its digest, and where it was added
    since the last listing was complete (an extract that was stopped goes on there), unless `everything` is asked for.

    Raises:
        CacheError: a shard or a listing is damaged: what is named cannot be known.
    """
    digests = [shard.read_digests(store.shard_folder, part) for part in store.shards]
    named = [store.listing(key).digests for key in store.listings]
    index = DigestIndex(np.concatenate(named) if named else np.empty((0, 32), dtype=np.uint8))
    together = np.concatenate(digests) if digests else np.empty((0, 32), dtype=np.uint8)
    first = DigestIndex(together).find(together) == np.arange(len(together))  # of equal digests the first row counts
    is_named = index.find(together) >= 0
    late = np.repeat([part.name in store.log.unfinished for part in store.shards], [p.rows for p in store.shards])
    late = np.asarray(late, dtype=bool) & ~is_named & (not everything)
    kept = first & (is_named | late)
    ends = np.cumsum([part.rows for part in store.shards])
    masks = list(zip(store.shards, np.split(kept, ends[:-1]), strict=True)) if len(ends) else []
    return CompactionPlan(
        rewritten=_rewritten(masks),
        forgotten=int((first & ~kept).sum()),
        repeated=int((~first).sum()),
        unfinished=int((first & late).sum()),
    )


def _rewritten(masks: list[tuple[Shard, Mask]]) -> tuple[tuple[Shard, Mask], ...]:
    """Shards that lose a row, and small ones where there are others, made alike, to go together with."""
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
    """Carry out a plan. Only under the lock, with a plan made under it; `progress` gets the rows of each new shard.

    Raises:
        CacheError: a shard that is to be rewritten does not match the log.
        MachineError: the disk refuses; nothing is lost.
    """
    log = root / commits.LOG_NAME
    for group in plan.groups:
        for digests, rows in _pieces(group, store):
            stored = rows.astype(group[0][0].dtype)
            number = commits.read_commits(log).numbers
            entry, data = shard.build(number, digests, stored, made=group[0][0].made)
            publish(root / "shards" / entry.name, data)
            commits.add(log, entry)
            progress(entry.rows)
    for part, _ in plan.rewritten:
        commits.drop(log, part.name)


def remove_dropped(root: Path, log: Commits, *, grace: float) -> int:
    """Remove the files of shards that the log has dropped, `grace` seconds ago or earlier; how many bytes they had."""
    kept, freed = {part.name for part in log.shards}, 0
    for name, at in log.dropped.items():
        path = root / "shards" / name
        if not shard.SHARD_NAME.fullmatch(name) or name in kept or time.time() - at < grace:
            continue
        with contextlib.suppress(FileNotFoundError):  # an earlier gc removed it
            size = os.lstat(path).st_size
            remove_file(path)
            freed += size
    if freed:
        sync_folder(root / "shards")
    return freed


def _pieces(
    group: list[tuple[Shard, Mask]], store: FeatureStore
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """The kept rows of these shards, in order, a new shard's worth at a time."""
    digests, rows, held = [], [], 0
    for part, kept in group:
        chosen = np.flatnonzero(kept)
        if not len(chosen):
            continue
        shard.ensure_hash(store.shard_folder, part, store.known)
        theirs = shard.read_digests(store.shard_folder, part)
        while len(chosen):
            take, chosen = chosen[: SHARD_ROWS - held], chosen[SHARD_ROWS - held :]
            out = np.empty((len(take), part.dim), dtype=np.float32)
            shard.gather(store.shard_folder, part, take, out, np.arange(len(take)))
            if not np.isfinite(out).all():
                raise CacheError(f"{store.shard_folder / part.name}: it holds rows that are not finite")
            digests.append(theirs[take])
            rows.append(out)
            held += len(take)
            if held == SHARD_ROWS:
                yield np.concatenate(digests), np.concatenate(rows)
                digests, rows, held = [], [], 0
    if held:
        yield np.concatenate(digests), np.concatenate(rows)
