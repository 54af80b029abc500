"""featcache repair: what is damaged is moved aside and kept; whole shards that the log does not know are adopted."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from featcache.arguments import checked
from featcache.errors import CacheError, FeatcacheError
from featcache.files import hold_store, sweep_old_scratch
from featcache.files.objects import parse_path
from featcache.heads.saved import repair_heads
from featcache.listing import group_rows
from featcache.maintenance.folders import concatenation_folders, store_folders, unknown_shards
from featcache.maintenance.repair_features import repair_concatenation
from featcache.maintenance.verification import problem_to_json
from featcache.store import (
    LOG_NAME,
    TRUNK_FILE,
    CommitLog,
    Commits,
    DigestIndex,
    ListingLine,
    Problem,
    ReplayedLog,
    Shard,
    cache_folder,
    check_listing,
    check_shard,
    check_splits,
    describe_foreign_trunk,
    drop_listing,
    drop_shard,
    examine_orphan,
    find_spec,
    listing_path,
    read_digests,
    read_listing,
    read_trunk_or_none,
    repair_log,
    repair_trunk_record,
    set_aside,
    write_split_assignment,
)
from featcache.text import counted
from featcache.trunks import ARCHITECTURES, DECODERS, RANDOM, TrunkSpec, WeightsMemo


@dataclass(slots=True, eq=False)
class RepairSummary:
    """What a repair did or, in a dry run, would do."""

    dry_run: bool
    actions: list[Problem] = field(default_factory=list)  # kind: "dropped", "adopted", "log", "trunk", "head", …
    unrepaired: list[Problem] = field(default_factory=list)  # what only a person can repair
    embed_again: list[tuple[str, str]] = field(default_factory=list)  # data set/variant/split, path of the image

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache repair --json`."""
        return {
            "dry_run": self.dry_run,
            "actions": [problem_to_json(action) for action in self.actions],
            "unmended": [problem_to_json(problem) for problem in self.unrepaired],
            "embed_again": [{"listing": listing, "path": path} for listing, path in self.embed_again],
        }


@checked
def repair(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    dry_run: bool = False,
    wait: float = 0.0,
    progress: Callable[[str], None] = lambda _: None,
) -> RepairSummary:
    """Repair every store of a cache, or one of them. Afterwards `featcache extract` embeds what was lost.

    Args:
        cache: the cache's folder; None for the usual one.
        store: a store's name, or the start of its fingerprint; None for all stores.
        dry_run: say what would be done, and do nothing.
        wait: seconds to wait for a store that another process writes to.
        progress: gets the name of each file that is checked.

    Returns:
        What was done or, in a dry run, would be; what only a person can repair; and which images were lost.

    Raises:
        UsageError: an argument that repair does not take.
        CacheError: no such cache or store; one that another process is writing to.
        MachineError: the disk refuses; run it again.
    """
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    summary = RepairSummary(dry_run)
    for root in store_folders(folder, store):
        with contextlib.nullcontext() if dry_run else hold_store(root, wait=wait):
            _StoreRepair(folder, root, summary, progress).run()
    for root in concatenation_folders(folder, store):
        actions, unrepaired = repair_concatenation(root, dry_run=dry_run)
        summary.actions += actions
        summary.unrepaired += unrepaired
    _repair_splits(folder, summary)
    if not dry_run:
        sweep_old_scratch(folder)
    return summary


class _StoreRepair:
    """The repair of one store, under its lock."""

    def __init__(self, cache: Path, root: Path, summary: RepairSummary, progress: Callable[[str], None]) -> None:
        self.cache, self.root, self.summary, self.progress = cache, root, summary, progress

    def run(self) -> None:
        """Repair trunk, log, shards, listings and heads, in this order: each step rests on those before it."""
        if reason := describe_foreign_trunk(self.root):
            self.summary.unrepaired.append(Problem(str(self.root), "trunk", reason))
            return
        dtype = self._repair_trunk()
        log = self._read_log()
        damaged = {shard.name for shard in log.commits.shards if self._is_damaged(shard)}
        sound = [shard for shard in log.commits.shards if shard.name not in damaged]
        first = sound[0] if sound else None
        adopted = list(self._adopt_shards(log, dtype or (first.dtype if first else None), first.dim if first else None))
        if log.damaged:
            lines = ", ".join(str(number) for number, _ in log.damaged)
            self._note("log", self.root / LOG_NAME, f"written anew without its damaged lines ({lines})")
        if not self.summary.dry_run:
            repair_log(self.root, log, adopted)
        for shard in log.commits.shards:
            if shard.name in damaged:
                self._note(
                    "dropped", self.root / "shards" / shard.name, f"{counted(shard.rows, 'row')} dropped from the log"
                )
                if not self.summary.dry_run:
                    drop_shard(self.root, shard)
        whole = list(self._keep_whole_listings(log))
        for folder in repair_heads(self.root, dry_run=self.summary.dry_run):
            self._note("head", folder, "damaged, moved aside; `featcache fit-head` makes it again")
        self._note_lost_rows([*sound, *adopted], whole)

    def _repair_trunk(self) -> str | None:
        """Return the dtype of this store's rows, from trunk.json as it is or as it can be written again; or None."""
        record = read_trunk_or_none(self.root)
        if record is not None:
            return record.spec.stored
        possible = list(_possible_trunks(self.cache))
        spec = find_spec(self.root, [spec for spec, _ in possible])
        path = self.root / TRUNK_FILE
        if spec is not None:
            weights = next((weights for candidate, weights in possible if candidate == spec), "unknown")
            self._note("trunk", path, "written anew: this is the trunk that the folder is named by")
        else:
            weights = ""
            reason = "it cannot be told which trunk this was; extract with its weights and precision writes it again"
            self._note("trunk", path, reason)
            self.summary.unrepaired.append(Problem(str(path), "trunk", f"{path}: {reason}; its shards are kept"))
        if not self.summary.dry_run:
            repair_trunk_record(self.root, spec, weights)
        return None if spec is None else spec.stored

    def _read_log(self) -> ReplayedLog:
        """Return the store's log; an empty one with damage where it cannot be read."""
        try:
            return CommitLog(self.root).replay()
        except CacheError:
            return ReplayedLog(Commits(), (), ((0, "is missing, with all others"),), 0)

    def _is_damaged(self, shard: Shard) -> bool:
        """Return whether a shard's file is not what the log says, or is gone."""
        self.progress(shard.name)
        return bool(check_shard(self.root / "shards", shard))

    def _adopt_shards(self, log: ReplayedLog, dtype: str | None, dim: int | None) -> Iterator[Shard]:
        """Yield the published shards that the log does not know, as lines for it; damaged ones are moved aside."""
        for path in unknown_shards(self.root, log):
            if dtype is None:
                message = f"{path}: left as it is: which trunk it belongs to is not known"
                self.summary.unrepaired.append(Problem(str(path), "orphan", message))
                continue
            self.progress(path.name)
            entry, wrong = examine_orphan(path, dim=dim, dtype=dtype)
            if entry is not None:
                dim = entry.dim
                self._note("adopted", path, f"{counted(entry.rows, 'row')} that the log did not know")
                yield entry
            else:
                self._note("aside", path, f"not in the log, and no shard of this store ({wrong})")
                if not self.summary.dry_run:
                    set_aside(self.root, path)

    def _keep_whole_listings(self, log: ReplayedLog) -> Iterator[ListingLine]:
        """Yield the log's lines of whole listings; damaged ones are dropped from the log."""
        for line in log.commits.listings.values():
            wrong = check_listing(self.cache, line)
            if not wrong:
                yield line
                continue
            message = f"damaged or missing; `featcache extract --split {line.split}` writes it again"
            self._note("listing", listing_path(self.cache, line), message)
            if not self.summary.dry_run:
                drop_listing(self.root, line)

    def _note_lost_rows(self, shards: list[Shard], lines: list[ListingLine]) -> None:
        """Note the images of these listings whose embeddings are in none of these shards."""
        held = [read_digests(self.root / "shards", shard) for shard in shards]
        index = DigestIndex(np.concatenate(held) if held else np.empty((0, 32), dtype=np.uint8))
        for line in lines:
            extracted = read_listing(self.cache, line)
            good = extracted.embedded
            for row in good[index.find(extracted.digests[good]) < 0]:
                self.summary.embed_again.append(("/".join(line.key), extracted.listing.paths[int(row)]))

    def _note(self, kind: str, path: Path, message: str) -> None:
        """Note one action, done or (in a dry run) to be done."""
        self.summary.actions.append(Problem(str(path), kind, f"{path}: {message}"))


def _possible_trunks(cache: Path) -> Iterator[tuple[TrunkSpec, str]]:
    """Yield (spec, name of the weights) for every trunk that the weights which this cache remembers may have been."""
    for arch_name, weights, sha256 in WeightsMemo(cache).entries():
        arch = ARCHITECTURES.get(arch_name)
        if arch is None:
            continue
        name = RANDOM if weights.startswith(f"{RANDOM} ") else weights
        with contextlib.suppress(FeatcacheError):
            # A file may be one that torchvision published, or may have been taken for another by an earlier version.
            named = arch.published.get(name)
            transforms = (
                [named.transform] if named else [arch.transform, *(p.transform for p in arch.published.values())]
            )
            label = name if name == RANDOM or named else Path(name).name
            for own, decoder, exif, compute, stored in product(
                dict.fromkeys(transforms), DECODERS.values(), ("ignore", "apply"), ("float32", "bfloat16"),
                ("float32", "float16"),
            ):  # fmt: skip
                yield (
                    TrunkSpec(
                        arch=arch_name, weights_sha256=sha256, compute=compute, stored=stored,
                        transform=replace(own, exif=exif, decoder=decoder),
                    ),
                    label,
                )  # fmt: skip


def _repair_splits(cache: Path, summary: RepairSummary) -> None:
    """Write the damaged records of assigned splits again, from what the listings say of them."""
    for problem in check_splits(cache):
        path = parse_path(problem.where)
        data_set, variant = path.parts[-3:-1]
        groups = dict(_groups_in_listings(cache, data_set, variant))
        action = (
            f"written anew from the listings, {len(groups):,} groups"
            if groups
            else "moved aside; no listing tells which group is in which split"
        )
        summary.actions.append(Problem(str(path), "splits", f"{path}: damaged, {action}"))
        if not summary.dry_run:
            set_aside(cache, path)
            if groups:
                write_split_assignment(cache, data_set, variant, groups)


def _groups_in_listings(cache: Path, data_set: str, variant: str) -> Iterator[tuple[str, str]]:
    """Yield (group, split) as the listings of all stores have them; the variant's name says what a group is."""
    by = variant.split("-")[-2] if variant.count("-") >= 2 else ""
    if by not in ("subject", "clip", "image"):
        return
    for root in store_folders(cache, None):
        with contextlib.suppress(CacheError):
            for line in CommitLog(root).replay().commits.listings.values():
                if (line.data_set, line.variant) == (data_set, variant):
                    with contextlib.suppress(FeatcacheError):
                        listing = read_listing(cache, line).listing
                        yield from ((group, line.split) for group in group_rows(listing, by))
