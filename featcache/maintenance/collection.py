"""featcache gc: drop the rows that no listing names, merge small shards, remove the files that the log has dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError
from featcache.files import StatLog, sweep_old_scratch
from featcache.maintenance.folders import store_folders
from featcache.store import (
    CommitLog,
    CompactionPlan,
    FeatureStore,
    apply_compaction,
    cache_folder,
    plan_compaction,
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
    removed: int  # bytes of files that were removed: of dropped shards

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
        plans = [plan_compaction(opened, everything=everything) for opened in stores]
        return [_summarize(opened, plan, applied=False, removed=0) for opened, plan in zip(stores, plans, strict=True)]
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

            apply_compaction(locked.root, plan, locked, more)
            log = CommitLog(locked.root).read()
            removed = remove_dropped(locked.root, log, grace=grace)
        opened.stat_log.try_flush()
        summaries.append(_summarize(locked, plan, applied=True, removed=removed))
    return summaries


def _summarize(store: FeatureStore, plan: CompactionPlan, *, applied: bool, removed: int) -> GcSummary:
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
    )
