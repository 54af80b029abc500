"""featcache gc: forget what no listing names, merge small shards, remove what the log has dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import checked
from featcache.errors import CacheError
from featcache.files import StatLog, sweep_old_scratch
from featcache.maintenance.verification import store_folders
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
class Tidied:
    """What gc did to one store, or (where `applied` is not set) would do."""

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
        """An entry of the document of `featcache gc --json`."""
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
) -> list[Tidied]:
    """Tidy the stores of a cache, or one of them; without `apply`, say what that would do.

    `everything`: forget also what an extract that has not ended has embedded. `grace`: files of dropped shards are
    removed so many seconds after they were dropped, by this gc or the next.

    Raises:
        CacheError: no such cache or store; a damaged one (`featcache repair` comes first); one that is written to.
        MachineError: the disk refuses; nothing is lost.
    """
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    roots = store_folders(folder, store)
    stores = [FeatureStore.open(root, StatLog(folder)) for root in roots]
    if not apply:
        return [
            _said(found, plan_compaction(found, everything=everything), applied=False, removed=0) for found in stores
        ]
    sweep_old_scratch(folder)
    done = []
    for found in stores:
        with found.writer(wait=wait) as writer:
            now = writer.store
            planned = plan_compaction(now, everything=everything)
            total, written = sum(int(kept.sum()) for _, kept in planned.rewritten), [0]

            def more(rows: int, total: int = total, written: list[int] = written) -> None:
                written[0] += rows
                progress(written[0], total)

            apply_compaction(now.root, planned, now, more)
            log = CommitLog(now.root).read()
            removed = remove_dropped(now.root, log, grace=grace)
        found.stat_log.try_flush()
        done.append(_said(now, planned, applied=True, removed=removed))
    return done


def _said(store: FeatureStore, plan: CompactionPlan, *, applied: bool, removed: int) -> Tidied:
    return Tidied(
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
