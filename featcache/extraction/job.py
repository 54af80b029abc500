"""Stage one: embed what the store lacks. Safe to stop at any moment, safe to run again."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.asked import Asked
from featcache.errors import CacheError, DataError, FeatcacheError
from featcache.extraction.rows import Rows
from featcache.extraction.summary import Progress, Settings, Summary, shown_path
from featcache.listing import Cut, Dealt, Listing, Source, cuts, source, subset
from featcache.loader import ImageRead, read_images
from featcache.recipe import Recipe
from featcache.store import (
    Extracted,
    FeatureStore,
    StatLog,
    StoreWriter,
    WeightsMemo,
    create,
    dealt,
    find,
    is_recorded,
)
from featcache.store.store import check_finite, digests_of
from featcache.trunks.registry import Trunk, TrunkSource, choose_device, load
from featcache.where import Where

_SAMPLE = 16  # images that are compared when a data set's folder has moved
_NAMED = 5  # bad images that an error names
_FLUSH_SECONDS = 5.0  # how much reading a kill may cost where nothing is embedded
_SAY_SECONDS = 0.1
_AHEAD = 2  # batches that are read and decoded before the trunk asks for them
_BATCH = 64  # … of this size, where none was typed: the trunk, which knows better, is not loaded yet


def extract(
    split: str | None = None,
    *,
    arch: str | None = None,
    weights: str | None = None,
    precision: str | None = None,
    stored: str | None = None,
    limit: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    **where: Unpack[Where],
) -> list[Summary]:
    """Embed one split, or every split, of a data set; a summary each.

    Raises:
        UsageError: the recipe or a setting.
        DataError: no images, or more than `max_bad` of them unreadable.
        CacheError: the data set's name stands for another folder, or another process writes to this store.
        MachineError: weights out of reach, no such device, disk full.
    """
    asked = Asked(**where)
    recipe = asked.recipe.override("trunk", arch=arch, weights=weights, precision=precision, stored=stored)
    folder, cut = asked.folder, asked.variant
    laid = source(recipe, dealt.read(folder, recipe.name, cut))
    whole = [laid.listing(one) for one in ([split] if split is not None else laid.splits())]
    listings = [subset(one, limit=limit, fraction=fraction, seed=seed) for one in whole]
    job = _Job(recipe, folder, asked.known, settings or Settings(), progress)
    for listing in listings:
        if asked.name is None:
            job.refuse_another_root(listing, laid)
    if isinstance(laid, Dealt):
        dealt.write(folder, recipe.name, cut, laid.groups)
    job.cuts = _cuts(laid)
    return [job.run(listing) for listing in listings]


class _Job:
    """One command's extracts: they share the memory of the cache, the store and the trunk."""

    def __init__(
        self, recipe: Recipe, cache: Path, known: StatLog, settings: Settings, progress: Callable[[Progress], None]
    ) -> None:
        self.recipe, self.cache, self.known, self.settings, self.progress = recipe, cache, known, settings, progress
        self.stores = find(cache, self.known)
        self.source = TrunkSource(recipe.trunk, WeightsMemo(cache))
        self.moved_from: dict[str, str] = {}  # by split, where the folder stood before
        self.cuts: list[Cut] = []

    @cached_property
    def root(self) -> Path:
        """The folder of the store that this job's trunk writes to."""
        spec = self.source.choose([store.trunk.spec for store in self.stores], lambda: self.device)
        return create(self.cache, spec, asked=self.source.label, known=self.known).root

    @cached_property
    def device(self) -> str:
        return choose_device(self.settings.device)

    @cached_property
    def trunk(self) -> Trunk:
        spec = self.store().trunk.spec
        return load(self.source, spec, device=self.device, batch_size=self.settings.batch_size)

    def store(self) -> FeatureStore:
        """The store as it is committed now."""
        return FeatureStore.open(self.root, self.known)

    def run(self, listing: Listing) -> Summary:
        """Embed what the store lacks of one split, and record the listing."""
        begun = time.monotonic()
        settings, store = self.settings, self.store()
        rows = Rows(listing, self.known.look_up([listing.file(row) for row in range(len(listing))]))
        rows.forgive(store)
        if not settings.retry_failed:
            rows.remember_refused(store)
        todo = rows.missing(store, retry_failed=settings.retry_failed)
        extracted = rows.extracted()
        embedded = 0
        if len(todo) or not is_recorded(store, extracted):
            with store.writer(shard_rows=settings.shard_rows, shard_seconds=settings.shard_seconds) as writer:
                if len(todo):
                    embedded = _Run(self, rows, todo, writer).embed()
                    extracted = rows.extracted()
                _refuse_too_many(listing, extracted.reasons, settings.max_bad)
                writer.commit(extracted, self.trunk.made() if embedded else None)
            if not self.store().holds(extracted.digests[extracted.good]).all():
                raise FeatcacheError(f"{self.root}: rows are missing after an extract; please report this bug")
        _refuse_too_many(listing, extracted.reasons, settings.max_bad)
        return self._summary(extracted, embedded, time.monotonic() - begun)

    def refuse_another_root(self, listing: Listing, laid: Source) -> None:
        """A data-set name stands for one folder; the same images elsewhere are the same data set, moved."""
        keys = [(store, key) for store in self.stores for key in store.listings]
        for store, key in keys:
            if key[:2] != (listing.data_set, listing.variant):
                continue
            try:
                before = store.listing(key)
            except CacheError:  # lost or damaged: it says nothing of a folder, and extract writes it again
                continue
            if before.listing.root == listing.root:
                continue
            there = key[2] in laid.splits()  # every split of the name must have come along, not this one alone
            if there and _moved(before, laid.listing(key[2])):
                self.moved_from[listing.split] = before.listing.root
                continue
            raise CacheError(
                f"{self.cache}: the name {listing.data_set!r} stands for {before.listing.root} in this cache, and "
                f"{listing.root} holds other images. Give these another name with --name, or type "
                f"--name {listing.data_set} to let the name stand for them from now on."
            )

    def _summary(self, extracted: Extracted, embedded: int, seconds: float) -> Summary:
        listing, trunk = extracted.listing, self.store().trunk
        rows = zip(listing.paths, extracted.reasons, strict=True)
        failures = tuple((path, reason) for path, reason in rows if reason)
        support = zip(listing.classes, listing.support(), strict=True)
        return Summary(
            data_set=listing.data_set,
            split=listing.split,
            rows=len(listing),
            embedded=embedded,
            reused=len(listing) - embedded - len(failures),
            failed=len(failures),
            seconds=seconds,
            images_per_second=embedded / seconds if embedded else 0.0,
            cache=str(self.cache),
            store=self.root.name,
            failures=failures,
            ignored=listing.ignored,
            empty_classes=tuple(name for name, count in support if not count),
            part=listing.part,
            moved_from=self.moved_from.get(listing.split, ""),
            cuts=tuple(str(cut) for cut in self.cuts if listing.split in (cut.one, cut.other)),
            trunk=f"{trunk.spec.arch}, weights {trunk.asked}, {trunk.spec.compute}",
        )


class _Run:
    """The main loop of one split: read what may be missing, embed what is, publish as it comes."""

    def __init__(self, job: _Job, rows: Rows, todo: npt.NDArray[np.int64], writer: StoreWriter) -> None:
        self.job, self.rows, self.todo, self.writer = job, rows, todo, writer
        self.claimed: set[bytes] = set()  # decoded in this run: an image that stands in two rows is embedded once
        self.embedded = 0
        self.waiting: list[bytes] = []  # the digests of the batch that is being filled
        self.pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)  # the batch, (batch_size, 3, crop, crop)
        self.begun = self.said = self.flushed = time.monotonic()

    def embed(self) -> int:
        """Embed the rows that the store lacks; how many images that were."""
        job, listing = self.job, self.rows.listing
        settled = np.ones(len(listing), dtype=bool)
        settled[self.todo] = False
        bad = sum(bool(reason) for reason, known in zip(self.rows.reasons(), settled, strict=True) if known)
        self._say("reading", 0)
        paths = [listing.file(int(row)) for row in self.todo]
        transform = job.source.transform
        workers = job.settings.workers or _cores()
        images = read_images(
            paths,
            transform,
            self._wanted,
            workers=workers,
            ahead=_AHEAD * (job.settings.batch_size or _BATCH),
        )
        with contextlib.closing(images):
            try:
                for image in images:
                    self.rows.take(int(self.todo[image.index]), image, job.known)
                    bad += bool(image.failed)
                    if bad > job.settings.max_bad * len(listing):
                        read = sum(found is not None for found in self.rows.known)
                        _refuse_too_many(listing, self.rows.reasons(), job.settings.max_bad, read)
                    if image.pixels is not None:
                        self._add(image, image.pixels)
                    self._say("embedding" if self.claimed else "reading", image.index + 1)
                self._forward()
            except BaseException:  # Ctrl-C included: what is embedded is published before anything else happens
                with contextlib.suppress(FeatcacheError):
                    self.writer.flush()
                raise
            finally:
                job.known.try_flush()
        return self.embedded

    def _wanted(self, digest: bytes) -> bool:
        """Whether an image must be decoded; asked once per file, by the loader's threads in turn."""
        if digest in self.claimed or self.writer.store.holds(digests_of([digest]))[0]:
            return False
        self.claimed.add(digest)
        return True

    def _add(self, image: ImageRead, pixels: npt.NDArray[np.uint8]) -> None:
        if not len(self.pixels):
            self._say("loading the trunk", image.index, now=True)
            self.pixels = np.empty((self.job.trunk.batch_size, *pixels.shape), dtype=np.uint8)
        self.pixels[len(self.waiting)] = pixels
        self.waiting.append(image.digest)
        if len(self.waiting) == len(self.pixels):
            self._forward()

    def _forward(self) -> None:
        """Embed the batch, hand what can be stored to the writer, and name what cannot."""
        if not self.waiting:
            return
        found = self.job.trunk.embed(self.pixels[: len(self.waiting)])
        fine = check_finite(found, self.writer.store.trunk.spec.stored)
        kept = [digest for digest, good in zip(self.waiting, fine, strict=True) if good]
        for digest, good in zip(self.waiting, fine, strict=True):
            if not good:
                self.rows.refused[digest] = "its embedding is not finite, or too large to be stored"
        self.waiting = []
        self.embedded += len(kept)
        if kept:
            self.writer.append(digests_of(kept), found[fine])

    def _say(self, stage: str, done: int, *, now: bool = False) -> None:
        """Report, ten times a second at the most; and let the memory of what was read reach the disk."""
        moment = time.monotonic()
        if now or moment - self.said > _SAY_SECONDS or done in (0, len(self.todo)):
            self.said = moment
            split, total = self.rows.listing.split, len(self.todo)
            self.job.progress(Progress(split, stage, done, total, self.embedded, moment - self.begun))
        if moment - self.flushed > _FLUSH_SECONDS:
            self.flushed = moment
            self.job.known.flush()


def _cuts(laid: Source) -> list[Cut]:
    """What the splits of a data set share, those included that are not extracted now."""
    return [] if laid.apart else cuts([laid.listing(split) for split in laid.splits()])


def _moved(before: Extracted, listing: Listing) -> bool:
    """Whether the folder holds the images that the name stood for: most of a sample have the digests they had."""
    place = {path: row for row, path in enumerate(before.listing.paths)}
    common = [path for path in listing.paths if path in place]
    sample = common[:: max(1, len(common) // _SAMPLE)][:_SAMPLE]
    same = 0
    for path in sample:
        with contextlib.suppress(OSError):
            data = Path(listing.root, path).read_bytes()
            same += hashlib.sha256(data).digest() == before.digests[place[path]].tobytes()
    return 2 * same > len(sample)


def _refuse_too_many(listing: Listing, reasons: Sequence[str], max_bad: float, read: int | None = None) -> None:
    """Stop where too many images are bad; `read` of them were looked at so far, all without it."""
    looked_at = len(listing) if read is None else max(read, 1)
    bad = [row for row, reason in enumerate(reasons) if reason]
    if len(bad) <= max_bad * len(listing):
        return
    shown = "".join(f"\n  {shown_path(listing.paths[row])}: {reasons[row]}" for row in bad[:_NAMED])
    more = f"\n  … and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    enough = min(1.0, float(np.ceil(200 * len(bad) / looked_at)) / 100)
    so_far = "" if looked_at >= len(listing) else f" (the run stopped after {looked_at:,} images)"
    raise DataError(
        f"{listing.root}: {len(bad)} of {len(listing):,} images of split {listing.split!r} cannot be used, more than "
        f"the {max_bad:.2%} that --max-bad allows{so_far}; what was embedded is kept.{shown}{more}\n"
        f"Mend or remove them, or run again with --max-bad {enough:g} to leave them out."
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
