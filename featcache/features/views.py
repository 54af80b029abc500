"""The embedded views of a split's images, beside the embeddings of the images themselves."""

import shlex
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.features.in_memory import Features
from featcache.listing import RowTargets, shown_path
from featcache.media import make_views
from featcache.store import FeatureStore, ListingKey, find_stores, label_features, trunk_flags
from featcache.text import counted

_SOURCE_KEYS = ("views", "augment")  # of `Features.source`, beside those of a split without views
_NAMED = 3  # images without a view that an error names


@dataclass(frozen=True, slots=True, eq=False)
class ViewStores:
    """The stores of one set of views of one trunk that hold a split."""

    augment: str  # which set, in the words of `--augment`
    stores: tuple[FeatureStore, ...]  # by the number of their view

    @property
    def fingerprints(self) -> str:
        """The trunks of all views, with commas between them: what a head that draws from them records."""
        return ",".join(store.trunk.spec.fingerprint() for store in self.stores)

    @property
    def sentence(self) -> str:
        """How many views of which kind, in words."""
        count = len(self.stores)
        return f"{count} {'view' if count == 1 else 'views'} of {self.augment}"


def find_views(request: DatasetRequest, store: FeatureStore, key: ListingKey, augment: str = "") -> ViewStores:
    """Return the stores of the views of a split's images.

    Args:
        request: The data set; it names the command that makes views.
        store: That of the plain images.
        key: (data set, variant, split).
        augment: Which set of views; "" is the only one that there is.

    Raises:
        UsageError: `augment` cannot be read, or the images' store is several side by side.
        CacheError: no such views were extracted, or several sets, and none was named.
    """
    if len(store.parts) > 1:
        raise multiple_stores_error(store)
    wanted = make_views(augment, 1)[0].augment if augment else ""
    sets: dict[str, list[FeatureStore]] = {}
    for other in find_stores(store.cache, store.stat_log):
        spec = other.trunk.spec
        if spec.view is not None and replace(spec, view=None) == store.trunk.spec and key in other.listings:
            sets.setdefault(spec.view.augment, []).append(other)
    if wanted:
        sets = {name: stores for name, stores in sets.items() if name == wanted}
    if len(sets) > 1:
        named = " or ".join(f"--augment {shlex.quote(name)}" for name in sorted(sets))
        raise CacheError(f"{store.root}: {len(sets)} sets of views of {'/'.join(key)} are in this cache; name {named}")
    if not sets:
        which = f"views of {wanted}" if wanted else "views"
        raise CacheError(
            f"{store.root}: no {which} of {'/'.join(key)} are in this cache; run "
            f"`{_extract_command(request, store, wanted, 4)}` first"
        )
    ((name, stores),) = sets.items()
    return ViewStores(name, tuple(sorted(stores, key=_number)))


def read_views(request: DatasetRequest, plain: Features, views: ViewStores) -> npt.NDArray[np.float32]:
    """Return the embeddings of the views of a split's images, (views, rows, dim).

    Args:
        request: As of `find_views`.
        plain: The embeddings of the images, with their digests.
        views: The stores of the views.

    Raises:
        CacheError: an image lacks a view, or a file is damaged.
        MachineError: they do not fit into memory.
    """
    assert plain.digests is not None  # noqa: S101 (of a store they are known)
    x = np.empty((len(views.stores), *plain.x.shape), dtype=np.float32)
    for place, store in enumerate(views.stores):
        lacking = np.flatnonzero(~store.holds(plain.digests))
        if len(lacking):
            named = ", ".join(shown_path(plain.paths[row]) for row in lacking[:_NAMED].tolist())
            more = f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
            command = _extract_command(request, store, views.augment, _number(views.stores[-1]))
            raise CacheError(
                f"{store.root}: {counted(len(lacking), 'image')} of {plain.split} "
                f"{'lacks' if len(lacking) == 1 else 'lack'} {store.trunk.spec.view}: {named}{more}; run `{command}`"
            )
        x[place] = store.load(plain.digests)
    return x


def attach_views(request: DatasetRequest, store: FeatureStore, plain: Features, augment: str) -> Features:
    """Return a split with the views of its images, and with what they are in its `source`.

    Args:
        request: As of `find_views`.
        store: That of the plain images.
        plain: The split, out of that store.
        augment: As of `find_views`.

    Raises:
        UsageError: as `find_views`.
        CacheError: as `find_views` and `read_views`.
        MachineError: as `read_views`.
    """
    views = find_views(request, store, request.key(plain.split), augment)
    source = plain.source | dict(zip(_SOURCE_KEYS, (views.fingerprints, views.augment), strict=True))
    return replace(plain, views=read_views(request, plain, views), source=source)


def stack_views(features: Features) -> Features:
    """Return the views of a split as rows of their own: those of the first view of all images, then of the next.

    Args:
        features: A split; one without views is returned as it is.
    """
    if features.views is None:
        return features
    count, rows, dim = features.views.shape
    repeated = {name: getattr(features, name) * count for name in ("paths", "clips", "subjects")}
    digests = None if features.digests is None else np.tile(features.digests, (count, 1))
    x, targets = features.views.reshape(count * rows, dim), features.targets
    targets = None if targets is None else RowTargets(targets.kind, np.tile(targets.values, (count, 1)))
    y = np.tile(features.y, count)
    return replace(features, x=x, y=y, targets=targets, digests=digests, views=None, **repeated)


def drop_views(features: Features) -> Features:
    """Return a split as it is without views, its `source` included.

    Args:
        features: A split; one without views is returned as it is.
    """
    if features.views is None:
        return features
    source = {name: value for name, value in features.source.items() if name not in _SOURCE_KEYS}
    return replace(features, views=None, source=source)


def refuse_views_from_disk(augment: str) -> None:
    """Refuse to read views as they are needed.

    Args:
        augment: Which views were asked for; "" where none was named.

    Raises:
        UsageError: always.
    """
    named = f" of {augment}" if augment else ""
    raise UsageError(
        f"--views: the views{named} are held in memory with the training rows, and these are read from disk; train "
        f"without --views, or with --in-memory where all of them fit"
    ).correct("--from-disk", None)


def multiple_stores_error(store: FeatureStore) -> UsageError:
    """Return the error that views are of the images of one store, and these features stand in several.

    Args:
        store: Several stores side by side.
    """
    return UsageError(
        f"--views and --test-views take embeddings of one store, and these are of {len(store.parts)}, "
        f"{label_features(store.parts)}; leave them out, or name one layer with --layer in place of --features"
    )


def _number(store: FeatureStore) -> int:
    """Return the number of a store's view."""
    return 0 if store.trunk.spec.view is None else store.trunk.spec.view.number


def _extract_command(request: DatasetRequest, store: FeatureStore, augment: str, count: int) -> str:
    """Return the command that embeds so many views with a store's trunk."""
    spec, named = store.trunk.spec, dict(trunk_flags(store))
    if request.arch is not None:
        del named["--arch"]  # it is repeated as it was typed
    flags = {"--views": str(count), "--augment": augment, **named}
    if request.layer is None and spec.layer != "cls":
        flags["--layer"] = spec.layer
    words = [word for pair in flags.items() for word in pair]
    return request.command_line("extract", *words, *_fitted_positions(store))


def _fitted_positions(store: FeatureStore) -> list[str]:
    """Return the flag of a trunk whose position embeddings were interpolated."""
    return ["--interpolate-positions"] if store.trunk.spec.positions == "interpolated" else []
