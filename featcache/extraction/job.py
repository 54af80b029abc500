"""One command's extracts: the trunk, its devices and the stores of its layers, one split after the other."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from featcache.cluster import Cluster, open_cluster
from featcache.errors import FeatcacheError
from featcache.extraction.cluster_run import ClusterExtraction
from featcache.extraction.cluster_workers import ClusterWorkers, describe_worker_settings
from featcache.extraction.device_loading import open_devices
from featcache.extraction.devices import Device, DevicePool
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.layer import LayerExtraction, LayerPlan, count_images
from featcache.extraction.placement import Placement, choose_placements
from featcache.extraction.rows import RowStates, refuse_too_many
from featcache.extraction.run import SplitExtraction
from featcache.extraction.split_summary import summarize_split
from featcache.extraction.summary import Progress, Settings, Summary
from featcache.extraction.timing import TimeBreakdown
from featcache.files import StatLog, sweep_old_scratch
from featcache.listing import (
    Leak,
    Listing,
)
from featcache.machine import cores
from featcache.recipe import Recipe
from featcache.store import (
    FINGERPRINT_DIGITS,
    FeatureStore,
    StoreWriter,
    as_recorded,
    create_store,
    find_broken_stores,
    find_stores,
)
from featcache.trunks import PRECISION, TrunkSource, TrunkSpec, WeightsMemo, name_trunk, require_decoder


@dataclass(kw_only=True, eq=False)
class ExtractJob:
    """One command's extracts: they share the stat log of the cache, the stores and the trunk."""

    recipe: Recipe
    cache: Path
    stat_log: StatLog
    settings: Settings
    progress: Callable[[Progress], None]
    moved_from: dict[str, str] = field(default_factory=dict)  # by split, where the folder stood before
    leaks: list[Leak] = field(default_factory=list)
    # By split and store, what a comparison with old rows gave.
    drift: dict[tuple[str, str], DriftComparison] = field(default_factory=dict)
    remaining_listings: Sequence[Listing] = ()  # still to be extracted: all images to come decide the engine
    opened: list[Device] = field(default_factory=list)  # what `close` ends
    widths: dict[str, int] = field(default_factory=dict)  # of each layer that the devices give, in this order
    pool: DevicePool | None = None  # until an image is to be embedded
    timings: dict[str, TimeBreakdown] = field(default_factory=dict)  # by split, where the time went
    writers: dict[str, StoreWriter] = field(default_factory=dict)  # by store, what holds its lock
    workers: ClusterWorkers | None = None  # where a cluster embeds, until an image is to be embedded

    @cached_property
    def stores(self) -> list[FeatureStore]:
        """The stores of the cache, as they are before this command writes anything."""
        return find_stores(self.cache, self.stat_log)

    @cached_property
    def source(self) -> TrunkSource:
        """The trunk that the recipe asks for."""
        return name_trunk(self.recipe.trunk, WeightsMemo(self.cache))

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The folder of each layer's store, view by view, in the order of the layers."""
        held = [store.trunk.spec for store in self.stores]
        specs = self.source.choose(held, lambda: self.placements[0].device)
        for spec in specs:  # all that can be refused is, before there is an empty store
            if spec not in held:
                self.source.layer_width(spec.layer)
                if spec.decoder == "nvjpeg" and self.settings.cluster is None:  # which may ask for torch
                    require_decoder(spec.decoder, self.placements[0].device)
            self._refuse_damaged(spec, held)
        return tuple(
            create_store(
                self.cache, spec, weights_name=self.source.label, weights_path=self.source.argument,
                stat_log=self.stat_log, wait=self.settings.wait, waiting=self._report_waiting,
            ).root
            for spec in specs
        )  # fmt: skip

    @cached_property
    def placements(self) -> list[Placement]:
        """Where the trunk runs: of the workers of a cluster, where each has it."""
        if self.settings.cluster is not None:
            return [Placement("cuda" if self.cluster.share.gpus else "cpu")]
        return choose_placements(self.settings.device)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster that embeds, connected to."""
        assert self.settings.cluster is not None  # noqa: S101 (nobody asks without one)
        return open_cluster(self.settings.cluster)

    def load_devices(self, layers: Sequence[LayerExtraction]) -> DevicePool:
        """Return the devices, with the trunk on them, once each of these layers has its columns of what they give.

        They are loaded when they are first needed; and again where a layer turns out to be lacking that they leave out.
        """
        stores = {layer.store.trunk.spec.layer: layer.store for layer in layers}
        if self.pool is None or not stores.keys() <= self.widths.keys():
            every, to_come = self._open_stores(), self._plan_remaining()
            needed = stores.keys() | {plan.layer for plan in to_come if len(plan.todo)}
            is_first = self.pool is None
            self.close()
            self.widths = {
                store.trunk.spec.layer: store.dim or self.source.layer_width(store.trunk.spec.layer)
                for store in every
                if not is_first or store.trunk.spec.layer in needed
            }
            opening = open_devices(
                self.source, layers[0].store.trunk.spec, self.widths, self.placements, self.settings,
                images=count_images([*layers, *to_come]),
            )  # fmt: skip
            for device in opening:
                self.opened.append(device)
            self.pool = DevicePool(self.opened)
            self.pool.load()
        ends = np.cumsum(list(self.widths.values()))
        for layer in layers:
            place = list(self.widths).index(layer.store.trunk.spec.layer)
            layer.columns = slice(int(ends[place]) - self.widths[layer.store.trunk.spec.layer], int(ends[place]))
        return self.pool

    def _plan_remaining(self) -> list[LayerPlan]:
        """Return what the splits to come ask of each layer, by what is known of their files now.

        Every file of them is looked up; that is spared where it decides nothing.
        """
        stores = self._open_stores()
        if self.settings.engine != "auto" and len(stores) == 1:
            return []
        return [plan for listing in self.remaining_listings for plan in self._plan(listing, stores)]

    def close(self) -> None:
        """End the devices' threads, and the processes that they have."""
        for device in self.opened:
            device.close()
        self.opened = []

    def close_all(self) -> None:
        """End the devices, and the workers of a cluster."""
        self.close()
        if self.workers is not None:
            self.workers.close()
        elif "cluster" in self.__dict__:
            self.cluster.close()

    def _open_stores(self) -> list[FeatureStore]:
        """Return each layer's store as it is committed now, in the order of the layers."""
        return [FeatureStore.open(root, self.stat_log) for root in self.roots]

    def run_all(self, listings: Sequence[Listing]) -> list[Summary]:
        """Extract these splits, and return a summary of each, in this order; of several layers, one a layer."""
        summaries = []
        for number, listing in enumerate(listings, start=1):
            self.remaining_listings = listings[number:]
            summaries += self.run(listing)
        return summaries

    def run(self, listing: Listing) -> list[Summary]:
        """Embed what the stores lack of one split, record the listing, and return what was done for each layer."""
        begun = time.monotonic()
        plans = self._plan(listing, self._open_stores())
        open_plans = [plan for plan in plans if not plan.is_complete]
        embedded = self._write(listing, open_plans) if open_plans else {}
        seconds = time.monotonic() - begun
        summaries = []
        for plan in plans:
            extracted = as_recorded(plan.store, plan.rows.extracted())
            refuse_too_many(listing, extracted.reasons, self.settings.max_bad)
            summaries.append(summarize_split(self, extracted, plan.store, embedded.get(plan.store.name, 0), seconds))
        return summaries

    def _write(self, listing: Listing, plans: Sequence[LayerPlan]) -> dict[str, int]:
        """Write what is lacking of a split, in lockstep, and return how many images that were, by store."""
        settings = self.settings
        with contextlib.ExitStack() as holding:
            layers = {}
            for plan in sorted(plans, key=lambda plan: plan.store.name):  # no two processes wait for each other
                writer = holding.enter_context(
                    plan.store.writer(
                        shard_rows=settings.shard_rows, shard_seconds=settings.shard_seconds, wait=settings.wait,
                        waiting=self._report_waiting,
                    )
                )  # fmt: skip
                self.writers[plan.store.name] = writer
                layers[plan.store.name] = LayerExtraction(plan.rows, plan.todo, writer)
            in_order = [layers[plan.store.name] for plan in plans]
            sweep_old_scratch(self.cache)
            if any(len(layer.todo) for layer in in_order):
                self._embed(listing, [layer for layer in in_order if len(layer.todo)])
            for layer in in_order:
                extracted = as_recorded(layer.store, layer.rows.extracted())
                refuse_too_many(listing, extracted.reasons, settings.max_bad)
                self.writers[layer.store.name].commit(extracted)
        for layer in in_order:
            extracted = layer.rows.extracted()
            if (
                not FeatureStore.open(layer.store.root, self.stat_log)
                .holds(extracted.digests[extracted.embedded])
                .all()
            ):
                raise FeatcacheError(f"{layer.store.root}: rows are missing after an extract; please report this bug")
        return {layer.store.name: layer.embedded for layer in in_order}

    def _embed(self, listing: Listing, layers: Sequence[LayerExtraction]) -> None:
        """Embed what these layers lack of a split."""
        extraction: SplitExtraction | ClusterExtraction
        if self.settings.cluster is not None:
            self.workers = self.workers or self._name_workers(listing, layers)
            extraction = ClusterExtraction(self, layers, self.writers, self.workers)
        else:
            extraction = SplitExtraction(self, layers)
        extraction.embed()
        if extraction.timing is not None:
            self.timings[listing.split] = extraction.timing

    def _name_workers(self, listing: Listing, layers: Sequence[LayerExtraction]) -> ClusterWorkers:
        """Return the workers of this command; they load every layer that a split to come may lack."""
        widths = {
            store.trunk.spec.layer: store.dim or self.source.layer_width(store.trunk.spec.layer)
            for store in self._open_stores()
        }
        settings = describe_worker_settings(
            self.source, self.settings, self.cluster, roots=self.roots, widths=widths, data=listing.root,
            images=count_images([*layers, *self._plan_remaining()]),
        )  # fmt: skip
        return ClusterWorkers(self.cluster, settings)

    def compare_environment(self, layers: Sequence[LayerExtraction], devices: DevicePool) -> None:
        """Before the first row, hold an environment that is new to a store against its rows, and note it.

        Raises:
            CacheError: the same images come out differently here.
        """
        for layer in layers:
            writer = self.writers[layer.store.name]
            comparison = layer.compare(writer, devices, workers=self.settings.workers or cores())
            if comparison is not None:
                self.drift[layer.rows.listing.split, layer.store.name] = comparison

    def _plan(self, listing: Listing, stores: Sequence[FeatureStore]) -> list[LayerPlan]:
        """Return what is known of a split's rows, and which of them must be read, for each of these stores."""
        known = RowStates.remembered(listing, self.stat_log, self.source.transform.key())
        plans = []
        for store in stores:
            rows = known.copy()
            rows.forget_failures_of_held(store)
            if not self.settings.retry_failed:
                rows.remember_refused(store)
            plans.append(LayerPlan(store, rows, rows.missing(store, retry_failed=self.settings.retry_failed)))
        return plans

    def describe_engine(self) -> str:
        """Return how the forward ran and why, in words; "" where nothing was embedded."""
        where = self.workers or self.pool
        return where.describe_engine() if where is not None else ""

    def _report_waiting(self, who: str) -> None:
        self.progress(Progress("", f"waiting for the store: {who}", 0, 0, 0, 0.0))

    def _refuse_damaged(self, spec: TrunkSpec, held: Sequence[TrunkSpec]) -> None:
        """Stop where the store that would be added to is damaged: a new one beside it would embed everything again."""
        is_open = self.recipe.trunk.precision == "auto" and spec not in held
        meant = (
            [self.source.spec(compute, spec.layer, spec.view) for compute in PRECISION.values()] if is_open else [spec]
        )
        tails = tuple(f"-{spec.fingerprint()[:FINGERPRINT_DIGITS]}" for spec in meant)
        for name, error in find_broken_stores(self.cache, self.stat_log).items():
            if name.endswith(tails):
                raise error
