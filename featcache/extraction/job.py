"""One command's extracts: the trunk, its devices and the store, one split after the other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError
from featcache.extraction.devices import Device, DevicePool
from featcache.extraction.drift import DriftComparison
from featcache.extraction.placement import Placement, choose_placements
from featcache.extraction.rows import RowStates, refuse_too_many
from featcache.extraction.run import SplitExtraction
from featcache.extraction.summary import Progress, Settings, Summary
from featcache.extraction.timing import TimeBreakdown
from featcache.extraction.trunk_process import TrunkProcess
from featcache.files import StatLog, sweep_old_scratch
from featcache.listing import (
    Leak,
    Listing,
)
from featcache.recipe import Recipe
from featcache.store import (
    FINGERPRINT_DIGITS,
    ExtractedListing,
    FeatureStore,
    as_recorded,
    create_store,
    find_broken_stores,
    find_stores,
    is_recorded,
)
from featcache.trunks import PRECISION, TrunkSource, TrunkSpec, WeightsMemo, load_trunk, name_trunk, require_decoder


@dataclass(kw_only=True, eq=False)
class ExtractJob:
    """One command's extracts: they share the stat log of the cache, the store and the trunk."""

    recipe: Recipe
    cache: Path
    stat_log: StatLog
    settings: Settings
    progress: Callable[[Progress], None]
    moved_from: dict[str, str] = field(default_factory=dict)  # by split, where the folder stood before
    leaks: list[Leak] = field(default_factory=list)
    drift: dict[str, DriftComparison] = field(default_factory=dict)  # by split, what a comparison with old rows gave
    images_in_split: int = 0  # of the split that is extracted now, those that may have to be embedded
    remaining_listings: Sequence[Listing] = ()  # still to be extracted: all images to come decide the engine
    opened: list[Device] = field(default_factory=list)  # what `close` ends
    timings: dict[str, TimeBreakdown] = field(default_factory=dict)  # by split, where the time went

    @cached_property
    def stores(self) -> list[FeatureStore]:
        """The stores of the cache, as they are before this command writes anything."""
        return find_stores(self.cache, self.stat_log)

    @cached_property
    def source(self) -> TrunkSource:
        """The trunk that the recipe asks for."""
        return name_trunk(self.recipe.trunk, WeightsMemo(self.cache))

    @cached_property
    def root(self) -> Path:
        """The folder of the store that this job's trunk writes to."""
        held = [store.trunk.spec for store in self.stores]
        spec = self.source.choose(held, lambda: self.placements[0].device)
        if spec not in held and spec.decoder == "nvjpeg":  # before there is an empty store; which may ask for torch
            require_decoder(spec.decoder, self.placements[0].device)
        self._refuse_damaged(spec, held)
        return create_store(
            self.cache,
            spec,
            weights_name=self.source.label,
            weights_path=self.source.argument,
            stat_log=self.stat_log,
            wait=self.settings.wait,
            waiting=self._report_waiting,
        ).root

    @cached_property
    def placements(self) -> list[Placement]:
        """Where the trunk runs."""
        return choose_placements(self.settings.device)

    @cached_property
    def devices(self) -> DevicePool:
        """The devices, with the trunk on them."""
        settings, spec, images = self.settings, self.store().trunk.spec, self._count_images()
        if len(self.placements) == 1:
            device = self.placements[0].device
            _ = self.source.tensors  # read (or fetched) here, where Ctrl-C ends it; the device's thread cannot be ended
            load = partial(
                load_trunk, self.source, spec, device=device, batch_size=settings.batch_size, engine=settings.engine,
                images=images,
            )  # fmt: skip
            self.opened = [Device(load)]
        else:
            if (file := self.source.file) is not None and not file.exists():
                _ = self.source.tensors  # fetched once, not by every process
            for placement in self.placements:
                process = TrunkProcess(
                    self.source, spec, placement, batch_size=settings.batch_size, engine=settings.engine,
                    images=images // len(self.placements),
                )  # fmt: skip
                self.opened.append(Device(process.load, process.kill, process.close))
        devices = DevicePool(self.opened)
        devices.load()
        return devices

    def close(self) -> None:
        """End the devices' threads, and the processes that they have."""
        for device in self.opened:
            device.close()

    def store(self) -> FeatureStore:
        """Return the store as it is committed now."""
        return FeatureStore.open(self.root, self.stat_log)

    def run_all(self, listings: Sequence[Listing]) -> list[Summary]:
        """Extract these splits, and return a summary of each, in this order."""
        summaries = []
        for number, listing in enumerate(listings, start=1):
            self.remaining_listings = listings[number:]
            summaries.append(self.run(listing))
        return summaries

    def run(self, listing: Listing) -> Summary:
        """Embed what the store lacks of one split, record the listing, and return what was done."""
        begun = time.monotonic()
        settings, store = self.settings, self.store()
        rows, todo = self._missing(listing, store)
        extracted = as_recorded(store, rows.extracted())
        embedded = 0
        if len(todo) or not is_recorded(store, extracted):
            with store.writer(
                shard_rows=settings.shard_rows, shard_seconds=settings.shard_seconds, wait=settings.wait,
                waiting=self._report_waiting,
            ) as writer:  # fmt: skip
                sweep_old_scratch(self.cache)
                if len(todo):
                    self.images_in_split = len(todo)
                    extraction = SplitExtraction(self, rows, todo, writer)
                    embedded, self.timings[listing.split] = extraction.embed(), extraction.timing
                    extracted = as_recorded(writer.store, rows.extracted())
                refuse_too_many(listing, extracted.reasons, settings.max_bad)
                writer.commit(extracted)
            if not self.store().holds(extracted.digests[extracted.embedded]).all():
                raise FeatcacheError(f"{self.root}: rows are missing after an extract; please report this bug")
        refuse_too_many(listing, extracted.reasons, settings.max_bad)
        return self._summary(extracted, embedded, time.monotonic() - begun)

    def _missing(self, listing: Listing, store: FeatureStore) -> tuple[RowStates, npt.NDArray[np.int64]]:
        """Return what is known of a split's rows, and which of them must be read."""
        rows = RowStates.remembered(listing, self.stat_log, self.source.transform.key())
        rows.forget_failures_of_held(store)
        if not self.settings.retry_failed:
            rows.remember_refused(store)
        return rows, rows.missing(store, retry_failed=self.settings.retry_failed)

    def _count_images(self) -> int:
        """Return how many images this command may have to embed from now on, by what is known of its files now."""
        if self.settings.engine != "auto":  # it decides nothing, and of a split to come every file is looked up
            return self.images_in_split
        store = self.store()
        return self.images_in_split + sum(len(self._missing(listing, store)[1]) for listing in self.remaining_listings)

    def _report_waiting(self, who: str) -> None:
        self.progress(Progress("", f"waiting for the store: {who}", 0, 0, 0, 0.0))

    def _refuse_damaged(self, spec: TrunkSpec, held: Sequence[TrunkSpec]) -> None:
        """Stop where the store that would be added to is damaged: a new one beside it would embed everything again."""
        is_open = self.recipe.trunk.precision == "auto" and spec not in held
        meant = [self.source.spec(compute) for compute in PRECISION.values()] if is_open else [spec]
        tails = tuple(f"-{spec.fingerprint()[:FINGERPRINT_DIGITS]}" for spec in meant)
        for name, error in find_broken_stores(self.cache, self.stat_log).items():
            if name.endswith(tails):
                raise error

    def _describe_transform(self, spec: TrunkSpec) -> str:
        """Return, of weights from a file, which transform they got and what else is to be known of it; of others, what
        was done with their file.

        That is: the stores that these weights made under another transform, and, where the file was read, what else it
        holds.
        """
        if self.source.kind != "file":
            return f"of the weights' file: {self.source.unused}" if self.source.unused else ""
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
        unused = f"; {self.source.unused}" if self.source.unused else ""
        return self.source.sentence + also + unused

    def _summary(self, extracted: ExtractedListing, embedded: int, seconds: float) -> Summary:
        listing, trunk = extracted.listing, self.store().trunk
        timing = self.timings.get(listing.split) if embedded else None
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
            cuts=tuple(str(leak) for leak in self.leaks if listing.split in (leak.split, leak.other_split)),
            transform=self._describe_transform(trunk.spec),
            trunk=f"{trunk.spec.arch}, weights {trunk.weights_name}, {trunk.spec.compute}",
            engine=self.devices.describe_engine() if embedded else "",
            held_back=timing.describe() if timing else "",
            shares=timing.shares() if timing else {},
        )
