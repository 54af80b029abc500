"""featcache gc: drop the rows that no listing names, merge small shards, remove the files that are not in the log."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError
from featcache.files import StatLog, remove_file, sweep_old_scratch, sync_folder
from featcache.files.objects import ObjectPath, sweep_old_probes
from featcache.maintenance.folders import has_lost_lines, store_folders, unknown_shards
from featcache.store import (
    CommitLog,
    CompactionPlan,
    FeatureStore,
    apply_compaction,
    cache_folder,
    examine_orphan,
    plan_compaction,
    read_digests,
    remove_dropped,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcSummary:
    """What gc did to one store or, where `applied` is False, would do."""

    store: str
    applied: bool
    rows: int  # before
    forgotten: int  # rows that no listing names
    repeated: int  # rows of images that are held twice
    unfinished: int  # rows that no listing names yet, and that were kept
    shards: int  # before
    rewritten: int  # shards that were dropped
    added: int  # shards that took their place
    freed: int  # bytes of the rows that go
    removed: int  # bytes of files that were removed: of dropped shards, and of uncommitted ones
    uncommitted: int  # shards that a killed run left out of the log, and whose images the store holds

    def to_json(self) -> dict[str, Any]:
        """Return an entry of the document of `featcache gc --json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@checked
def gc(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    apply: bool = False,
    everything: bool = False,
    grace: float = 0.0,
    wait: float = 0.0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[GcSummary]:
    """Remove what the stores of a cache do not need.

    Args:
        cache: the cache's folder; None for the usual one.
        store: a store's name, or the start of its fingerprint; None for all stores.
        apply: do it; without, return what would be done.
        everything: drop also what an extract that has not ended has embedded.
        grace: seconds for which the files of dropped shards stay, for readers on other machines; this gc or the next
            removes them then.
        wait: seconds to wait for a store that another process writes to.
        progress: gets how many rows of a store have been rewritten, and how many will be.

    Returns:
        What was removed from each store or, without `apply`, would be; in the order of their names.

    Raises:
        UsageError: an argument that gc does not take.
        CacheError: no such cache or store; a damaged one (`featcache repair` comes first); one that is written to.
        MachineError: the disk refuses; nothing is lost.
    """
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    stores = [FeatureStore.open(root, StatLog(folder)) for root in store_folders(folder, store)]
    if not apply:
        return [
            _summarize(
                opened, plan_compaction(opened, everything=everything), applied=False, removed=0,
                uncommitted=len(_superfluous_shards(opened)),
            )
            for opened in stores
        ]  # fmt: skip
    if isinstance(folder, ObjectPath):
        sweep_old_probes(folder)
    sweep_old_scratch(folder)
    summaries = []
    for opened in stores:
        with opened.writer(wait=wait) as writer:
            locked = writer.store  # as it is now that no other process writes to it
            plan = plan_compaction(locked, everything=everything)
            total, written = sum(int(kept.sum()) for _, kept in plan.rewritten), [0]

            def more(rows: int, total: int = total, written: list[int] = written) -> None:
                written[0] += rows
                progress(written[0], total)

            superfluous = _superfluous_shards(locked)
            apply_compaction(locked.root, plan, locked, more)
            log = CommitLog(locked.root)
            removed = remove_dropped(locked.root, log.read(), grace=grace)
            # What was merged may be, to the byte, what a gc that was killed had published.
            unknown = set(unknown_shards(locked.root, log.replay())) if superfluous else set()
            uncommitted = [path for path in superfluous if path in unknown]
            removed += _remove_shards(uncommitted)
        opened.stat_log.try_flush()
        summaries.append(_summarize(locked, plan, applied=True, removed=removed, uncommitted=len(uncommitted)))
    return summaries


def _superfluous_shards(store: FeatureStore) -> list[Path]:
    """Return the shards that were published and never committed, all of whose images the store holds.

    The others, and those of a log that has lost lines, are left to `featcache repair`, which adopts them.
    """
    log = CommitLog(store.root).replay()
    if log.damaged or has_lost_lines(store.root, log):
        return []
    return [path for path in unknown_shards(store.root, log) if _is_superfluous(store, path)]


def _is_superfluous(store: FeatureStore, path: Path) -> bool:
    """Return whether a store holds every image of a shard that is not in its log."""
    entry, _ = examine_orphan(path, dim=store.dim, dtype=store.trunk.spec.stored)
    return entry is not None and bool(store.holds(read_digests(store.shard_folder, entry)).all())


def _remove_shards(paths: list[Path]) -> int:
    """Remove shards, and return their bytes. Under the lock, so that nobody is about to commit them."""
    size = sum(path.lstat().st_size for path in paths)
    for path in paths:
        remove_file(path)
    if paths:
        sync_folder(paths[0].parent)
    return size


def _summarize(
    store: FeatureStore, plan: CompactionPlan, *, applied: bool, removed: int, uncommitted: int
) -> GcSummary:
    """Return what a plan does to a store; `removed` is the bytes of files that were removed."""
    return GcSummary(
        store=store.name,
        applied=applied,
        rows=store.rows,
        forgotten=plan.forgotten,
        repeated=plan.repeated,
        unfinished=plan.unfinished,
        shards=len(store.shards),
        rewritten=len(plan.rewritten),
        added=plan.new_shards,
        freed=plan.freed,
        removed=removed,
        uncommitted=uncommitted,
    )
