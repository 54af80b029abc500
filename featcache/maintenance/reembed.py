"""verify --deep: a sample of the images that a store holds, read and embedded anew, and compared."""

from collections.abc import Callable
from pathlib import Path

from featcache.errors import FeatcacheError, MachineError
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
from featcache.maintenance.verification import Examined
from featcache.store import Problem, cache_folder
from featcache.trunks import WeightsMemo, choose_device, find_weights, load_trunk, require_decoder

SAMPLE = 32


def embed_again(
    found: Examined,
    *,
    cache: str | Path | None = None,
    weights: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    sample: int = SAMPLE,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Add to what `examine` found what a sample of each sound store's images says; `weights` where they have moved.

    Raises:
        UsageError, MachineError: no such device.
    """
    folder = cache_folder(cache)
    Settings(device=device, batch_size=batch_size)  # which refuses what is none
    for store in found.sound:
        if not store.rows:
            continue
        progress(store.name)
        try:
            source = find_weights(store.trunk.spec, store.trunk.weights_name, WeightsMemo(folder), weights)
        except FeatcacheError as error:
            source, wrong = None, f": {error}"
        else:
            wrong = ""
        if source is None:
            way_out = f"{weights} are others" if weights and not wrong else "name them with --weights"
            said = f"{store.root}: not compared: weights {store.trunk.weights_name} are not here; {way_out}"
            found.notes.append(Problem(str(store.root), "deep", said + wrong))
            continue
        chosen = choose_device(device)
        try:
            require_decoder(store.trunk.spec.decoder, chosen)
        except MachineError as error:
            found.notes.append(Problem(str(store.root), "deep", f"{store.root}: not compared: {error}"))
            continue
        trunk = load_trunk(source, store.trunk.spec, device=chosen, batch_size=batch_size)
        held = [one for found_ in readable_listings(store) for one in drift_candidates(store, found_, 8 * sample)]
        compared = compare_drift(store, held, trunk, workers=cores(), sample=sample)
        found.compared += compared.compared
        if not compared.compared:
            said = f"{store.root}: not compared: none of the images that it holds is still where it was"
            found.notes.append(Problem(str(store.root), "deep", said))
        elif not compared.is_within_bound(store.trunk.spec.compute):
            before = provenance_of(store, compared.digest)
            said = (
                f"{store.root}: embedded again, {shown_path(compared.worst)} comes out otherwise: "
                f"{compared.describe(store.trunk.spec.compute)}. It was embedded on "
                f"{'a machine that nobody noted' if before is None else describe_provenance(before)}; here: "
                f"{describe_provenance(trunk.provenance())}"
            )
            found.problems.append(Problem(str(store.root), "drift", said))
        else:
            said = f"{store.root}: {compared.describe(store.trunk.spec.compute)}"
            found.notes.append(Problem(str(store.root), "deep", said))
