"""verify --deep: a sample of each store's images is read and embedded again, and compared with what the store holds."""

from collections.abc import Callable
from pathlib import Path

from featcache.errors import CacheError, FeatcacheError, MachineError
from featcache.extraction import (
    Settings,
    compare_drift,
    describe_provenance,
    drift_candidates,
    provenance_of,
    readable_listings,
)
from featcache.listing import shown_path
from featcache.machine import cores
from featcache.maintenance.verification import Verification
from featcache.store import cache_folder
from featcache.trunks import WeightsMemo, choose_device, find_weights, load_trunk, require_decoder

SAMPLE = 32


def reembed_sample(
    verification: Verification,
    *,
    cache: str | Path | None = None,
    weights: str | None = None,
    arch: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    sample: int = SAMPLE,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Embed a sample of each sound store's images again, and add what that shows to a verification.

    Args:
        verification: what `run_verification` returned.
        cache: the cache's folder; None for the usual one.
        weights: where the trunk's weights are, where they have moved.
        arch: a module of one's own that may be imported.
        device: where the trunk runs: "auto", "cpu", "cuda" …
        batch_size: images that are embedded at a time; None leaves it to the device.
        sample: images of each store.
        progress: gets the name of each store.

    Raises:
        UsageError: no name of a device, or a batch size out of its range.
        CacheError: a store was damaged since it was verified.
        MachineError: no such device, or no memory for a single image.
    """
    folder = cache_folder(cache)
    Settings(device=device, batch_size=batch_size)  # refuses what cannot be
    for store in verification.sound_stores:
        if not store.rows:
            continue
        progress(store.name)
        try:
            source = find_weights(store.trunk.spec, store.trunk.weights_name, WeightsMemo(folder), weights, arch)
        except CacheError as error:  # a module of one's own
            verification.add_note(store.root, "deep", f"{store.root}: not compared: {error}")
            continue
        except FeatcacheError as error:
            source, reason = None, f": {error}"
        else:
            reason = ""
        if source is None:
            way_out = f"{weights} are others" if weights and not reason else "name them with --weights"
            message = f"{store.root}: not compared: weights {store.trunk.weights_name} are not here; {way_out}"
            verification.add_note(store.root, "deep", message + reason)
            continue
        chosen = choose_device(device)
        try:
            require_decoder(store.trunk.spec.decoder, chosen)
        except MachineError as error:
            verification.add_note(store.root, "deep", f"{store.root}: not compared: {error}")
            continue
        trunk = load_trunk(source, store.trunk.spec, device=chosen, batch_size=batch_size)
        candidates = [
            candidate
            for extracted in readable_listings(store)
            for candidate in drift_candidates(store, extracted, 8 * sample)
        ]
        drift = compare_drift(store, candidates, trunk, workers=cores(), sample=sample)
        verification.compared += drift.compared
        if not drift.compared:
            message = f"{store.root}: not compared: none of the images that it holds is still where it was"
            verification.add_note(store.root, "deep", message)
        elif not drift.is_within_bound(store.trunk.spec.compute):
            before = provenance_of(store, drift.digest)
            verification.add_problem(
                store.root,
                "drift",
                f"{store.root}: embedded again, {shown_path(drift.worst)} comes out differently: "
                f"{drift.describe(store.trunk.spec.compute)}. It was embedded on "
                f"{'a machine that was not recorded' if before is None else describe_provenance(before)}; here: "
                f"{describe_provenance(trunk.provenance())}",
            )
        else:
            verification.add_note(store.root, "deep", f"{store.root}: {drift.describe(store.trunk.spec.compute)}")
