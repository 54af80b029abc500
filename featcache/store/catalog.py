"""The stores of a cache, and which of them a question is about.

Stage two computes no TrunkSpec: it takes what holds the listing.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import StatLog, expand_home, folders_in, is_missing, make_folder, publish, writing
from featcache.store import commits
from featcache.store.commits import Key
from featcache.store.request import StoreRequest
from featcache.store.store import FeatureStore
from featcache.store.trunk_record import TAIL, TRUNK, TrunkRecord, write_trunk
from featcache.trunks import TrunkSpec

DEFAULT = "cache"
VARIABLE = "FEATCACHE_CACHE"
ANY = StoreRequest()


def cache_folder(cache: str | Path | None) -> Path:
    """The cache that is meant: as given, else FEATCACHE_CACHE, else ./cache; absolute.

    Raises:
        UsageError: it begins with the tilde of a user who has no home folder.
    """
    return Path(expand_home(cache or os.environ.get(VARIABLE) or DEFAULT)).absolute()


def choose(cache: Path, known: StatLog, key: Key, request: StoreRequest = ANY) -> FeatureStore:
    """The one store that holds a listing of (data set, variant, split) and is what is asked for.

    Raises:
        CacheError: no store is, or several are; the message says how to go on.
    """
    holding = [found for found in find(cache, known) if key in found.listings]
    fitting = [found for found in holding if request.fits(found)]
    if len(fitting) == 1:
        return fitting[0]
    what = "/".join(key)
    if fitting:
        raise CacheError(
            f"{cache}: {len(fitting)} stores hold {what}: {_names(fitting)}; "
            f"name one with --store (or tell them apart with --weights or --precision)"
        )
    refuse_other_stores(cache, known, holding, request, what)
    data_set, _, split = key
    raise CacheError(
        f"{cache}: no embeddings of {data_set}, split {split!r}, are in this cache; run `featcache extract "
        f"--split {split}` first, or name another --cache{damage_note(cache, known)}"
    )


def refuse_other_stores(
    cache: Path, known: StatLog, holding: Sequence[FeatureStore], request: StoreRequest, what: str
) -> None:
    """Say what the stores that hold `what` have instead of what is asked for.

    Raises:
        CacheError: there are such stores; or the one that is named cannot be opened.
    """
    damaged = broken(cache, known)  # one of these may be meant
    if request.store in damaged:
        raise damaged[request.store]
    if holding:
        request.refuse(str(cache), what, holding, damage_note(cache, known))


def create(
    cache: Path,
    spec: TrunkSpec,
    *,
    asked: str,
    weights: str = "",
    known: StatLog,
    wait: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
) -> FeatureStore:
    """The store of this spec: the one that is there, or a new empty one.

    `asked` and `weights` are what a new one's trunk.json says of how the weights were named.

    Raises:
        CacheError: its folder is damaged, or another process is making it.
    """
    found = [store for store in find(cache, known) if store.trunk.spec == spec]
    if found:
        return found[0]
    slug = re.sub(r"[^a-z0-9_.]+", "_", asked.lower()).strip("_.")[:40]
    tail = spec.fingerprint()[:TAIL]
    begun = sorted((cache / "stores").glob(f"*-{tail}"))  # a run was killed there, or repair took its trunk.json out
    root = begun[0] if begun else cache / "stores" / f"{spec.arch}-{slug}-{spec.layer}-{tail}"
    make_folder(root / "shards")
    with writing(root, wait=wait, waiting=waiting):
        if not (root / TRUNK).exists():
            if not (root / commits.LOG_NAME).exists():  # durable before there is a trunk.json, which makes it a store
                publish(root / commits.LOG_NAME, b"", replace=True)
            write_trunk(root, TrunkRecord(spec, asked, weights))
    made = FeatureStore.open(root, known)
    if made.trunk.spec != spec:
        raise CacheError(f"{root}: the folder of this trunk's store holds another trunk's; name another --cache")
    return made


def find(cache: Path, known: StatLog) -> list[FeatureStore]:
    """The stores of a cache that can be opened, by name; `broken` tells of the others."""
    return [found for found in _survey(cache, known) if isinstance(found, FeatureStore)]


def broken(cache: Path, known: StatLog) -> dict[str, CacheError]:
    """The stores of a cache that cannot be opened, by name, with what is wrong. They stop nobody who needs another."""
    return {found[0].name: found[1] for found in _survey(cache, known) if isinstance(found, tuple)}


def _survey(cache: Path, known: StatLog) -> Iterator[FeatureStore | tuple[Path, CacheError]]:
    """Every store; a folder without its trunk.json was never finished and is none."""
    for root in folders_in(cache / "stores"):
        try:
            if not is_missing(root / TRUNK):
                yield FeatureStore.open(root, known)
        except CacheError as error:
            yield root, error


def damage_note(cache: Path, known: StatLog) -> str:
    """The stores of a cache that cannot be opened, a line each, for the end of a message that something is missing."""
    return "".join(f"\nA store that cannot be opened: {error}" for error in broken(cache, known).values())


def _names(stores: Sequence[FeatureStore]) -> str:
    return ", ".join(found.name for found in stores)
