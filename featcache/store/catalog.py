"""The stores of a cache, and which of them a question is about.

Stage two computes no TrunkSpec: it takes what holds the listing.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from featcache.errors import CacheError, UsageError
from featcache.files import StatLog, expand_home, hold_store, is_missing, list_folders, make_folder
from featcache.files.objects import ObjectPath, parse_path, use_local_copies
from featcache.store.commits import CommitLog, ListingKey
from featcache.store.concatenated_store import (
    ConcatenatedStore,
    is_concatenation,
    label_features,
    open_concatenation,
    trunk_without_layer,
)
from featcache.store.request import StoreRequest, flags_that_name
from featcache.store.store import FeatureStore
from featcache.store.trunk_record import FINGERPRINT_DIGITS, TRUNK_FILE, TrunkRecord, write_trunk
from featcache.trunks import TrunkSpec

DEFAULT_CACHE = "cache"
CACHE_VARIABLE, LOCAL_CACHE_VARIABLE = "FEATCACHE_CACHE", "FEATCACHE_LOCAL_CACHE"
ANY_STORE = StoreRequest()


def cache_folder(cache: str | Path | None, local_cache: str | Path | None = None, *, flag: str = "--cache") -> Path:
    """Return the cache that is meant: as given, else FEATCACHE_CACHE, else ./cache; absolute.

    Args:
        cache: The folder, or the URL in an object store, as a person types it; None or "": FEATCACHE_CACHE decides, or
            where that is not set, ./cache.
        local_cache: Of a cache in an object store, the folder for copies of what is read; None: FEATCACHE_LOCAL_CACHE,
            or where that is not set, no copies are kept.
        flag: What it was typed for, for messages.

    Raises:
        UsageError: it begins with the tilde of a user who has no home folder; no such URL; or copies of a local cache,
            or in a bucket.
    """
    named = cache or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE
    place = parse_path(named, flag)
    if not isinstance(place, ObjectPath):
        if local_cache is not None:
            error = UsageError(f"--local-cache has no effect: the cache is a folder already, {place}; leave it out")
            raise error.correct("--local-cache", None)
        return Path(expand_home(named)).absolute()
    if copies := local_cache or os.environ.get(LOCAL_CACHE_VARIABLE):
        if isinstance(parse_path(copies, "--local-cache"), ObjectPath):
            raise UsageError(f"--local-cache: found {copies}, expected a folder of this machine")
        use_local_copies(place, Path(expand_home(copies)).absolute())
    return place


def choose_store(
    cache: Path, stat_log: StatLog, key: ListingKey, request: StoreRequest = ANY_STORE, *,
    advise: Callable[[], str] | None = None,
) -> FeatureStore:  # fmt: skip
    """Return the one store that holds a listing and is what is asked for.

    Args:
        cache: The cache folder.
        stat_log: The memory of the cache.
        key: The listing's data set, variant and split.
        request: What the store must be; unless it is given, any store is.
        advise: Returns what to do where no store holds the listing, or raises; None: to extract its split.

    Raises:
        CacheError: no store is, or several are; the message says how to go on.
    """
    stores = find_stores(cache, stat_log)
    if request.store is not None:  # it may be the name of several together
        stores += find_concatenations(cache, stat_log)
    holding = [store for store in stores if key in store.listings and request.may_mean(store)]
    fitting = [store for store in holding if request.is_met_by(store)]
    if len(fitting) == 1:
        return fitting[0]
    name = "/".join(key)
    if fitting:
        error = CacheError(
            f"{cache}: {len(fitting)} stores hold {name}: {', '.join(store.name for store in fitting)}; "
            f"name one with {_describe_choice(fitting)}"
        )
        for flag, value in flags_that_name(fitting[0], fitting):
            error.correct(flag, shlex.quote(value))
        raise error
    refuse_other_stores(cache, stat_log, [store for store in holding if len(store.parts) == 1], request, name)
    data_set, _, split = key
    advice = f"run `featcache extract --split {split}` first" if advise is None else advise()
    raise CacheError(
        f"{cache}: no embeddings of {data_set}, split {split!r}, are in this cache; "
        f"{advice}, or name another --cache{describe_broken_stores(cache, stat_log)}"
    )


def _describe_choice(stores: Sequence[FeatureStore]) -> str:
    """Return what tells these stores apart, as flags to type: "--layer cls or --layer mean"."""
    words = [
        " ".join(f"{flag} {shlex.quote(value)}" for flag, value in flags_that_name(store, stores)) for store in stores
    ]
    choice = f"{', '.join(words[:-1])} or {words[-1]}"
    choice = choice if "--store" in choice else f"{choice}, or with --store"
    layers, trunks = {store.trunk.spec.layer for store in stores}, {trunk_without_layer(s.trunk.spec) for s in stores}
    if len(layers) < len(stores) or len(trunks) > 1:
        return choice
    return f"{choice}; or take them together with --features {label_features(stores)}"


def refuse_other_stores(
    cache: Path, stat_log: StatLog, holding: Sequence[FeatureStore], request: StoreRequest, name: str
) -> None:
    """Raise a CacheError where other stores hold the data set; the message says how they differ from the request.

    Args:
        cache: The cache folder.
        stat_log: The memory of the cache.
        holding: The stores that hold it.
        request: What none of them is.
        name: What they hold, for the message.

    Raises:
        CacheError: there are such stores; or the one that is named cannot be opened.
    """
    broken = find_broken_stores(cache, stat_log)  # one of these may be meant
    if request.store in broken:
        raise broken[request.store]
    if holding:
        request.refuse(str(cache), name, holding, describe_broken_stores(cache, stat_log))


def create_store(
    cache: Path,
    spec: TrunkSpec,
    *,
    weights_name: str,
    weights_path: str = "",
    stat_log: StatLog,
    wait: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
) -> FeatureStore:
    """Return the store of a trunk: the one that is there, or a new empty one.

    Args:
        cache: The cache folder; it need not be there yet.
        spec: The trunk.
        weights_name: How its weights were named, for a new store's trunk.json and folder.
        weights_path: The same with a file's whole path, for a new store's trunk.json.
        stat_log: The memory of the cache.
        wait: Seconds to wait for another process that is making the same store.
        waiting: Told once who is waited for.

    Raises:
        CacheError: its folder is damaged, or another process is making it.
        UsageError: `wait` is below 0.
        MachineError: the disk refuses.
    """
    existing = [store for store in find_stores(cache, stat_log) if store.trunk.spec == spec]
    if existing:
        return existing[0]
    slug = re.sub(r"[^a-z0-9_.]+", "_", weights_name.lower()).strip("_.")[:40]
    tail = spec.fingerprint()[:FINGERPRINT_DIGITS]
    begun = sorted((cache / "stores").glob(f"*-{tail}"))  # a run was killed there, or repair took its trunk.json out
    root = begun[0] if begun else cache / "stores" / _folder_name(f"{spec.arch}-{slug}-{_part(spec)}-{tail}")
    make_folder(root / "shards")
    with hold_store(root, wait=wait, waiting=waiting):
        if not (root / TRUNK_FILE).exists():
            CommitLog(root).create()  # durable before there is a trunk.json, which makes it a store
            write_trunk(root, TrunkRecord(spec, weights_name, weights_path))
    store = FeatureStore.open(root, stat_log)
    if store.trunk.spec != spec:
        raise CacheError(
            f"{root}: this folder is named after the trunk that is asked for, but holds the store of another; "
            f"name another --cache"
        )
    return store


def _part(spec: TrunkSpec) -> str:
    """Return which part of a forward a store holds: its layer and, of views, which one."""
    return spec.layer if spec.view is None else f"{spec.layer}-view{spec.view.number}"


def _folder_name(text: str) -> str:
    """Return a text with everything in it that a folder's name should not hold, colons and slashes, as underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def find_stores(cache: Path, stat_log: StatLog) -> list[FeatureStore]:
    """Return the stores of a cache that can be opened, by name; `find_broken_stores` returns the others.

    Args:
        cache: The cache folder; it need not be there.
        stat_log: The memory of the cache, for the stores to use.

    Raises:
        CacheError: the folder of the stores cannot be listed.
    """
    return [store for store in _open_all(cache, stat_log) if isinstance(store, FeatureStore)]


def find_concatenations(cache: Path, stat_log: StatLog) -> list[ConcatenatedStore]:
    """Return the stores of a cache that heads were trained on together, by name; those that can be opened.

    Args:
        cache: The cache folder; it need not be there.
        stat_log: The memory of the cache, for the stores to use.

    Raises:
        CacheError: the folder of the stores cannot be listed.
    """
    opened = _open_concatenations(cache, find_stores(cache, stat_log))
    return [store for store in opened if isinstance(store, ConcatenatedStore)]


def _open_concatenations(
    cache: Path, stores: Sequence[FeatureStore]
) -> Iterator[ConcatenatedStore | tuple[Path, CacheError]]:  # fmt: skip
    for root in list_folders(cache / "stores"):
        try:
            if is_concatenation(root):
                yield open_concatenation(root, stores)
        except CacheError as error:
            yield root, error


def open_store(root: Path, stat_log: StatLog) -> FeatureStore:
    """Return the store in a folder, or the stores together whose heads the folder has.

    Args:
        root: The folder, absolute: `stores/<its name>` in the cache.
        stat_log: The memory of that cache.

    Raises:
        CacheError: no store, a damaged one, one of a newer format, or one of those that belong together is missing.
    """
    if is_concatenation(root):
        return open_concatenation(root, find_stores(root.parent.parent, stat_log))
    return FeatureStore.open(root, stat_log)


def find_broken_stores(cache: Path, stat_log: StatLog) -> dict[str, CacheError]:
    """Return the stores of a cache that cannot be opened, by name, with what is wrong.

    They stop nobody who needs another.

    Args:
        cache: The cache folder; it need not be there.
        stat_log: The memory of the cache.

    Raises:
        CacheError: the folder of the stores cannot be listed.
    """
    opened = list(_open_all(cache, stat_log))
    stores = [store for store in opened if isinstance(store, FeatureStore)]
    every = [*opened, *_open_concatenations(cache, stores)]
    return {broken[0].name: broken[1] for broken in every if isinstance(broken, tuple)}


def describe_broken_stores(cache: Path, stat_log: StatLog) -> str:
    """Return a line for each store that cannot be opened, for the end of a message that something is missing; or "".

    Args:
        cache: The cache folder; it need not be there.
        stat_log: The memory of the cache.

    Raises:
        CacheError: the folder of the stores cannot be listed.
    """
    broken = find_broken_stores(cache, stat_log).values()
    return "".join(f"\nA store that cannot be opened: {error}" for error in broken)


def _open_all(cache: Path, stat_log: StatLog) -> Iterator[FeatureStore | tuple[Path, CacheError]]:
    """Yield every store, or its folder and why it cannot be opened; a folder without trunk.json is no store."""
    for root in list_folders(cache / "stores"):
        try:
            if not is_missing(root / TRUNK_FILE):
                yield FeatureStore.open(root, stat_log)
        except CacheError as error:
            yield root, error
