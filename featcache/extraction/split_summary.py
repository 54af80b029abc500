"""The summary of what an extract did for one layer of a split."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featcache.extraction.summary import Summary
from featcache.listing import find_filled
from featcache.store import ExtractedListing, FeatureStore
from featcache.trunks import TrunkSpec

if TYPE_CHECKING:
    from featcache.extraction.job import ExtractJob


def summarize_split(
    job: "ExtractJob", extracted: ExtractedListing, store: FeatureStore, embedded: int, seconds: float
) -> Summary:
    """Return what an extract did for one layer of a split.

    Args:
        job: The command.
        extracted: The split's listing, and what became of its rows.
        store: The layer's.
        embedded: How many images.
        seconds: How long it took.
    """
    listing, trunk = extracted.listing, store.trunk
    timing = job.timings.get(listing.split) if embedded else None
    failed = np.flatnonzero(find_filled(extracted.reasons)).tolist()
    failures = tuple((listing.paths[row], extracted.reasons[row]) for row in failed)
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
        cache=str(job.cache),
        store=store.name,
        layer=trunk.spec.layer,
        view=trunk.spec.view,
        failures=failures,
        ignored=listing.ignored,
        notes=tuple(listing.remarks()),
        empty_classes=tuple(name for name, count in support if not count),
        part=listing.part,
        moved_from=job.moved_from.get(listing.split, ""),
        drift=job.drift.get((listing.split, store.name)),
        cuts=tuple(str(leak) for leak in job.leaks if listing.split in (leak.split, leak.other_split)),
        transform=_describe_transform(job, trunk.spec),
        trunk=f"{trunk.spec.arch}, weights {trunk.weights_name}, {trunk.spec.compute}"
        + ("" if len(job.roots) == 1 and trunk.spec.layer == "cls" else f", layer {trunk.spec.layer}")
        + ("" if trunk.spec.view is None else f", {trunk.spec.view}"),
        engine=job.describe_engine() if embedded else "",
        held_back=timing.describe() if timing else "",
        shares=timing.shares() if timing else {},
    )


def _describe_transform(job: "ExtractJob", spec: TrunkSpec) -> str:
    """Return, of weights from a file, which transform they got and what else is to be known of it; of others, what
    was done with their file.

    That is: the stores that these weights made under another transform, and, where the file was read, what else it
    holds.
    """
    if job.source.kind != "file":
        return f"of the weights' file: {job.source.unused}" if job.source.unused else ""
    older = [
        store.name
        for store in job.stores
        if store.trunk.spec != spec
        and replace(store.trunk.spec, transform=spec.transform) == spec
        and replace(store.trunk.spec.transform, exif=spec.transform.exif, decoder=spec.decoder) != spec.transform
    ]
    also = f"; made of the same weights under another transform: {', '.join(older)} (--store names it)" if older else ""
    unused = f"; {job.source.unused}" if job.source.unused else ""
    return job.source.sentence + also + unused
