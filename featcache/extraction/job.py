"""Stage one: embed what the store lacks. Safe to stop at any moment, safe to run again."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import DataError, FeatcacheError, UsageError
from featcache.extraction.devices import Device, Devices
from featcache.extraction.drift import Drift
from featcache.extraction.moved_root import refuse_another_root
from featcache.extraction.placement import Place, places
from featcache.extraction.rows import Rows, refuse_too_many
from featcache.extraction.run import Run
from featcache.extraction.summary import Progress, Settings, Summary
from featcache.extraction.timing import Account
from featcache.extraction.trunk_process import TrunkProcess
from featcache.files import StatLog, sweep_old_scratch
from featcache.listing import Dealt, Leak, Listing, Source, data_source, find_leaks, settings_of, subset
from featcache.recipe import DataOptions, Recipe, TrunkKeywords, pick_options
from featcache.store import (
    TAIL,
    Extracted,
    FeatureStore,
    broken,
    create,
    find,
    is_recorded,
    read_split_assignment,
    recorded_form,
    write_split_assignment,
)
from featcache.trunks import PRECISION, TrunkSource, TrunkSpec, WeightsMemo, load_trunk, require_decoder


class ExtractOptions(DataOptions, TrunkKeywords, total=False):
    """What extract takes: which data set, and which settings of the trunk."""


@checked
def extract(
    split: str | None = None,
    *,
    limit: int | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    **options: Unpack[ExtractOptions],
) -> list[Summary]:
    """Embed one split, or every split, of a data set; a summary each.

    Raises:
        UsageError: the recipe or a setting.
        DataError: no images, or more than `max_bad` of them unreadable.
        CacheError: the data set's name stands for another folder, or another process writes to this store.
        MachineError: weights out of reach, no such device, disk full.
    """
    if seed is not None and limit is None and fraction is None:
        raise UsageError("--seed has no effect without --limit or --fraction: it draws the part that they ask for")
    asked = Asked(**pick_options(options, DataOptions))
    recipe = asked.recipe.override("trunk", **pick_options(options, TrunkKeywords))
    folder, cut = asked.folder, asked.variant
    laid = data_source(recipe, read_split_assignment(folder, recipe.name, cut))
    whole = [laid.listing(one) for one in ([split] if split is not None else laid.splits())]
    if laid.absent:
        raise DataError(laid.absent)
    whole = [replace(one, settings=settings_of(recipe, videos=one.videos)) for one in whole]
    listings = [subset(one, limit=limit, fraction=fraction, seed=seed or 0) for one in whole]
    job = _Job(recipe, folder, asked.known, settings or Settings(), progress)
    if asked.name is None:
        root = listings[0].root  # all splits have one
        before = refuse_another_root(folder, job.stores, recipe.name, root, asked.known)
        job.moved_from = {listing.split: before for listing in listings}
    if isinstance(laid, Dealt):
        write_split_assignment(folder, recipe.name, cut, laid.groups)
    job.cuts = _cuts(laid)
    with contextlib.closing(job):
        return job.run_all(listings)


class _Job:
    """One command's extracts: they share the memory of the cache, the store and the trunk."""

    def __init__(
        self, recipe: Recipe, cache: Path, known: StatLog, settings: Settings, progress: Callable[[Progress], None]
    ) -> None:
        self.recipe, self.cache, self.known, self.settings, self.progress = recipe, cache, known, settings, progress
        self.stores = find(cache, self.known)
        self.source = TrunkSource(recipe.trunk, WeightsMemo(cache))
        self.moved_from: dict[str, str] = {}  # by split, where the folder stood before
        self.cuts: list[Leak] = []
        self.drift: dict[str, Drift] = {}  # by split, what a comparison with the store's old rows gave
        self.planned = 0  # images that may have to be embedded, in this split …
        self.later: Sequence[Listing] = ()  # … and in these: together they decide the engine
        self.opened: list[Device] = []  # what `close` ends
        self.accounts: dict[str, Account] = {}  # by split, where the time went

    @cached_property
    def root(self) -> Path:
        """The folder of the store that this job's trunk writes to."""
        held = [store.trunk.spec for store in self.stores]
        spec = self.source.choose(held, lambda: self.places[0].device)
        if spec not in held and spec.decoder == "nvjpeg":  # before there is an empty store; which may ask for torch
            require_decoder(spec.decoder, self.places[0].device)
        self._refuse_damaged(spec, held)
        return create(
            self.cache,
            spec,
            asked=self.source.label,
            weights=self.source.argument,
            known=self.known,
            wait=self.settings.wait,
            waiting=self._waiting,
        ).root

    @cached_property
    def places(self) -> list[Place]:
        return places(self.settings.device)

    @cached_property
    def devices(self) -> Devices:
        settings, spec, images = self.settings, self.store().trunk.spec, self._images()
        if len(self.places) == 1:
            device = self.places[0].device
            _ = self.source.tensors  # read (or fetched) here, where Ctrl-C ends it; the device's thread cannot be ended
            open_ = partial(
                load_trunk, self.source, spec, device=device, batch_size=settings.batch_size, engine=settings.engine,
                images=images,
            )  # fmt: skip
            self.opened = [Device(open_)]
        else:
            if (file := self.source.file) is not None and not file.exists():
                _ = self.source.tensors  # fetched once, not by every process
            for place in self.places:
                process = TrunkProcess(
                    self.source, spec, place, batch_size=settings.batch_size, engine=settings.engine,
                    images=images // len(self.places),
                )  # fmt: skip
                self.opened.append(Device(process.load, process.kill, process.close))
        found = Devices(self.opened)
        found.load()
        return found

    def close(self) -> None:
        """End the devices' threads, and the processes that they have."""
        for device in self.opened:
            device.close()

    def store(self) -> FeatureStore:
        """The store as it is committed now."""
        return FeatureStore.open(self.root, self.known)

    def run_all(self, listings: Sequence[Listing]) -> list[Summary]:
        """A summary of each split, in this order."""
        done = []
        for place, listing in enumerate(listings, start=1):
            self.later = listings[place:]
            done.append(self.run(listing))
        return done

    def run(self, listing: Listing) -> Summary:
        """Embed what the store lacks of one split, and record the listing."""
        begun = time.monotonic()
        settings, store = self.settings, self.store()
        rows, todo = self._missing(listing, store)
        extracted = recorded_form(store, rows.extracted())
        embedded = 0
        if len(todo) or not is_recorded(store, extracted):
            with store.writer(
                shard_rows=settings.shard_rows, shard_seconds=settings.shard_seconds, wait=settings.wait,
                waiting=self._waiting,
            ) as writer:  # fmt: skip
                sweep_old_scratch(self.cache)
                if len(todo):
                    self.planned = len(todo)
                    run = Run(self, rows, todo, writer)
                    embedded, self.accounts[listing.split] = run.embed(), run.account
                    extracted = recorded_form(writer.store, rows.extracted())
                refuse_too_many(listing, extracted.reasons, settings.max_bad)
                writer.commit(extracted)
            if not self.store().holds(extracted.digests[extracted.good]).all():
                raise FeatcacheError(f"{self.root}: rows are missing after an extract; please report this bug")
        refuse_too_many(listing, extracted.reasons, settings.max_bad)
        return self._summary(extracted, embedded, time.monotonic() - begun)

    def _missing(self, listing: Listing, store: FeatureStore) -> tuple[Rows, npt.NDArray[np.int64]]:
        """What is known of a split's rows, and which of them must be read."""
        rows = Rows.of(listing, self.known, self.source.transform.key())
        rows.forgive(store)
        if not self.settings.retry_failed:
            rows.remember_refused(store)
        return rows, rows.missing(store, retry_failed=self.settings.retry_failed)

    def _images(self) -> int:
        """How many images this command may have to embed from now on, by what is known of its files now."""
        if self.settings.engine != "auto":  # it decides nothing, and of a split to come every file is looked up
            return self.planned
        store = self.store()
        return self.planned + sum(len(self._missing(listing, store)[1]) for listing in self.later)

    def _waiting(self, who: str) -> None:
        self.progress(Progress("", f"waiting for the store: {who}", 0, 0, 0, 0.0))

    def _refuse_damaged(self, spec: TrunkSpec, held: Sequence[TrunkSpec]) -> None:
        """A damaged store stops nobody but who would add to it: a new one beside it would embed everything again."""
        auto = self.recipe.trunk.precision == "auto" and spec not in held
        meant = [self.source.spec(compute) for compute in PRECISION.values()] if auto else [spec]
        tails = tuple(f"-{one.fingerprint()[:TAIL]}" for one in meant)
        for name, error in broken(self.cache, self.known).items():
            if name.endswith(tails):
                raise error

    def _transform(self, spec: TrunkSpec) -> str:
        """Of weights from a file, which transform they got, the stores that they made under another one, and, where
        the file was read, what else it holds.
        """
        if self.source.kind != "file":
            return ""
        older = [
            store.name
            for store in self.stores
            if store.trunk.spec != spec
            and replace(store.trunk.spec, transform=spec.transform) == spec
            and replace(store.trunk.spec.transform, exif=spec.transform.exif, decoder=spec.decoder) != spec.transform
        ]
        also = (
            f"; made of the same weights under another transform: {', '.join(older)} (--store names it)"
            if older
            else ""
        )
        further = f"; {self.source.further}" if self.source.further else ""
        return self.source.sentence + also + further

    def _summary(self, extracted: Extracted, embedded: int, seconds: float) -> Summary:
        listing, trunk = extracted.listing, self.store().trunk
        account = self.accounts.get(listing.split) if embedded else None
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
            notes=tuple(listing.remarks()),
            empty_classes=tuple(name for name, count in support if not count),
            part=listing.part,
            moved_from=self.moved_from.get(listing.split, ""),
            drift=self.drift.get(listing.split),
            cuts=tuple(str(cut) for cut in self.cuts if listing.split in (cut.one, cut.other)),
            transform=self._transform(trunk.spec),
            trunk=f"{trunk.spec.arch}, weights {trunk.asked}, {trunk.spec.compute}",
            engine=self.devices.engine() if embedded else "",
            held_back=account.sentence() if account else "",
            shares=account.shares() if account else {},
        )


def _cuts(laid: Source) -> list[Leak]:
    """What the splits of a data set share, those included that are not extracted now."""
    return [] if laid.apart else find_leaks([laid.listing(split) for split in laid.splits()])
