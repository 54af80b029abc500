"""Which views of an image a prediction is averaged over."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, UsageError
from featcache.features import multiple_stores_error
from featcache.heads.saved import SavedModel, drawn_views, predicts_targets
from featcache.media import View, make_views
from featcache.store import FeatureStore, find_stores

Row = npt.NDArray[np.float64]  # (classes,), or numbers


def choose_views(store: FeatureStore, model: SavedModel) -> tuple[View, ...]:
    """Return the views that a model was trained on; of one that was not, those of the only set in the cache.

    Args:
        store: That of the plain images.
        model: What predicts.

    Raises:
        UsageError: the model gives labels and no probabilities, or the images' store is several side by side.
        CacheError: it was trained on plain images, and the cache has views of none or of several sets.
    """
    if len(store.parts) > 1:
        raise multiple_stores_error(store)
    if not model.gives_probabilities and not predicts_targets(model):
        raise UsageError(
            f"--test-views: {model.name} gives labels and no probabilities that could be averaged; leave it out"
        ).correct("--test-views", None)
    augment, count = drawn_views(model)
    if count:
        return make_views(augment, count)
    views = [
        other.trunk.spec.view
        for other in find_stores(store.cache, store.stat_log)
        if replace(other.trunk.spec, view=None) == store.trunk.spec and other.trunk.spec.view is not None
    ]
    sets = {view.augment for view in views}
    if len(sets) != 1:
        held = f"{len(sets)} sets of views ({'; '.join(sorted(sets))})" if sets else "no views"
        raise CacheError(
            f"{store.root}: {model.name} was trained on plain images, and this cache has {held}; leave --test-views "
            f"out, or take a head that was trained with `featcache fit-head --views`"
        )
    return tuple(sorted(views, key=lambda view: view.number))


def average_views(
    predictions: Mapping[tuple[bytes, int], Row | None], digests: Sequence[bytes], views: int
) -> list[Row | None]:
    """Return the mean of the probabilities of each image's views, (classes,) each; None where one has none.

    Args:
        predictions: By the image's digest and the place of the view.
        digests: Of the images, in the order of the result.
        views: How many there are of each image, the plain one included.
    """
    means: list[Row | None] = []
    for digest in digests:
        rows = [predictions.get((digest, place)) for place in range(views)]
        known = [row for row in rows if row is not None]
        means.append(np.mean(known, axis=0) if len(known) == views else None)
    return means
