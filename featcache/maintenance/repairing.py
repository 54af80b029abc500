"""featcache repair: what is damaged is taken out and kept aside; what is whole and unknown is adopted."""

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
from featcache.heads.saved import repair_heads
from featcache.listing import groups_of
from featcache.maintenance.verification import store_folders, unknown_shards
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
from featcache.trunks import ARCHITECTURES, DECODERS, RANDOM, TrunkSpec, WeightsMemo


@dataclass(slots=True, eq=False)
class Repaired:
    """What was done, or (in a dry run) would be."""

    dry_run: bool
    actions: list[Problem] = field(default_factory=list)  # kind: "dropped", "adopted", "log", "trunk", "head", …
    unmended: list[Problem] = field(default_factory=list)  # what only a person can mend
    embed_again: list[tuple[str, str]] = field(default_factory=list)  # data set/variant/split, path of the image

    def to_json(self) -> dict[str, Any]:
        """The document of `featcache repair --json`."""
        plain = {
            name: [{"where": one.where, "kind": one.kind, "message": one.message} for one in found]
            for name, found in (("actions", self.actions), ("unmended", self.unmended))
        }
        again = [{"listing": listing, "path": path} for listing, path in self.embed_again]
        return {"dry_run": self.dry_run, **plain, "embed_again": again}


@checked
def repair(
    *,
    cache: str | Path | None = None,
    store: str | None = None,
    dry_run: bool = False,
    wait: float = 0.0,
    progress: Callable[[str], None] = lambda _: None,
) -> Repaired:
    """Mend every store of a cache, or one of them. Afterwards `featcache extract` embeds what was lost.

    `progress` gets the name of each file that is looked at.

    Raises:
        CacheError: no such cache or store; one that another process is writing to.
        MachineError: the disk refuses; run it again.
    """
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    done = Repaired(dry_run)
    for root in store_folders(folder, store):
        with contextlib.nullcontext() if dry_run else hold_store(root, wait=wait):
            _Mending(folder, root, done, progress).run()
    _mend_splits(folder, done)
    if not dry_run:
        sweep_old_scratch(folder)
    return done


class _Mending:
    """The repair of one store, under its lock."""

    def __init__(self, cache: Path, root: Path, done: Repaired, progress: Callable[[str], None]) -> None:
        self.cache, self.root, self.done, self.progress = cache, root, done, progress

    def run(self) -> None:
        """Trunk, log, shards, listings, heads: each step rests on those before it."""
        if said := describe_foreign_trunk(self.root):
            self.done.unmended.append(Problem(str(self.root), "trunk", said))
            return
        dtype = self._trunk()
        log = self._log()
        bad = {part.name for part in log.commits.shards if self._is_damaged(part)}
        kept = [part for part in log.commits.shards if part.name not in bad]
        first = kept[0] if kept else None
        adopted = list(self._adopted(log, dtype or (first.dtype if first else None), first.dim if first else None))
        if log.damaged:
            lines = ", ".join(str(number) for number, _ in log.damaged)
            self._act("log", self.root / LOG_NAME, f"written anew without its damaged lines ({lines})")
        if not self.done.dry_run:
            repair_log(self.root, log, adopted)
        for part in log.commits.shards:
            if part.name in bad:
                self._act("dropped", self.root / "shards" / part.name, f"{part.rows:,} rows dropped from the log")
                if not self.done.dry_run:
                    drop_shard(self.root, part)
        whole = list(self._listings(log))
        for folder in repair_heads(self.root, dry_run=self.done.dry_run):
            self._act("head", folder, "damaged, moved aside; `featcache fit-head` makes it again")
        self._say_what_is_lost([*kept, *adopted], whole)

    def _trunk(self) -> str | None:
        """The dtype of this store's rows, from trunk.json as it is or as it can be made again."""
        there = read_trunk_or_none(self.root)
        if there is not None:
            return there.spec.stored
        known = list(_known_trunks(self.cache))
        spec = find_spec(self.root, [spec for spec, _ in known])
        path = self.root / TRUNK_FILE
        if spec is not None:
            asked = next((asked for known_spec, asked in known if known_spec == spec), "unknown")
            self._act("trunk", path, "written anew: this is the trunk that the folder is named by")
        else:
            asked = ""
            said = "which trunk this was cannot be told; extract with its weights and precision writes it again"
            self._act("trunk", path, said)
            self.done.unmended.append(Problem(str(path), "trunk", f"{path}: {said}; its shards are kept"))
        if not self.done.dry_run:
            repair_trunk_record(self.root, spec, asked)
        return None if spec is None else spec.stored

    def _log(self) -> ReplayedLog:
        try:
            return CommitLog(self.root).replay()
        except CacheError:
            return ReplayedLog(Commits(), (), ((0, "is missing, with all others"),), 0)

    def _is_damaged(self, part: Shard) -> bool:
        self.progress(part.name)
        return bool(check_shard(self.root / "shards", part))

    def _adopted(self, log: ReplayedLog, dtype: str | None, dim: int | None) -> Iterator[Shard]:
        """Published shards that the log does not know, as lines for it; those that are damaged are moved aside."""
        for path in unknown_shards(self.root, log):
            if dtype is None:
                said = f"{path}: left as it is: which trunk it belongs to is not known"
                self.done.unmended.append(Problem(str(path), "orphan", said))
                continue
            self.progress(path.name)
            entry, wrong = examine_orphan(path, dim=dim, dtype=dtype)
            if entry is not None:
                dim = entry.dim
                self._act("adopted", path, f"{entry.rows:,} rows that the log did not know")
                yield entry
            else:
                self._act("aside", path, f"not in the log, and no shard of this store ({wrong})")
                if not self.done.dry_run:
                    set_aside(self.root, path)

    def _listings(self, log: ReplayedLog) -> Iterator[ListingLine]:
        for line in log.commits.listings.values():
            wrong = check_listing(self.cache, line)
            if not wrong:
                yield line
                continue
            said = f"damaged or missing; `featcache extract --split {line.split}` writes it again"
            self._act("listing", listing_path(self.cache, line), said)
            if not self.done.dry_run:
                drop_listing(self.root, line)

    def _say_what_is_lost(self, shards: list[Shard], lines: list[ListingLine]) -> None:
        held = [read_digests(self.root / "shards", part) for part in shards]
        index = DigestIndex(np.concatenate(held) if held else np.empty((0, 32), dtype=np.uint8))
        for line in lines:
            extracted = read_listing(self.cache, line)
            good = extracted.embedded
            for row in good[index.find(extracted.digests[good]) < 0]:
                self.done.embed_again.append(("/".join(line.key), extracted.listing.paths[int(row)]))

    def _act(self, kind: str, path: Path, said: str) -> None:
        self.done.actions.append(Problem(str(path), kind, f"{path}: {said}"))


def _known_trunks(cache: Path) -> Iterator[tuple[TrunkSpec, str]]:
    """Every spec that the weights which this cache remembers could have made, with how they were asked for."""
    for arch_name, asked, sha256 in WeightsMemo(cache).entries():
        arch = ARCHITECTURES.get(arch_name)
        if arch is None:
            continue
        name = RANDOM if asked.startswith(f"{RANDOM} ") else asked
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


def _mend_splits(cache: Path, done: Repaired) -> None:
    """Splits that were dealt and whose record is damaged: what the listings say of them is written down again."""
    for problem in check_splits(cache):
        path = Path(problem.where)
        data_set, variant = path.parts[-3:-1]
        groups = dict(_dealt_groups(cache, data_set, variant))
        said = f"written anew from the listings, {len(groups):,} groups" if groups else "moved aside; no listing says"
        done.actions.append(Problem(str(path), "splits", f"{path}: damaged, {said}"))
        if not done.dry_run:
            set_aside(cache, path)
            if groups:
                write_split_assignment(cache, data_set, variant, groups)


def _dealt_groups(cache: Path, data_set: str, variant: str) -> Iterator[tuple[str, str]]:
    """Group -> split, as the newest listings of any store have them; the variant's name says what a group is."""
    by = variant.split("-")[-2] if variant.count("-") >= 2 else ""
    if by not in ("subject", "clip", "image"):
        return
    for root in store_folders(cache, None):
        with contextlib.suppress(CacheError):
            for line in CommitLog(root).replay().commits.listings.values():
                if (line.data_set, line.variant) == (data_set, variant):
                    with contextlib.suppress(FeatcacheError):
                        listing = read_listing(cache, line).listing
                        yield from ((group, line.split) for group in groups_of(listing, by))
