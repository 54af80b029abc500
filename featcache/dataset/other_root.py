"""A listing that was extracted from another folder than the one that is meant: moved, or another data set."""

import os
import warnings
from typing import TYPE_CHECKING

from featcache.errors import CacheError
from featcache.listing import locate_root
from featcache.recipe import name_after
from featcache.store import FeatureStore, ListingKey, has_files, has_same_files, is_same_folder

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest


def refuse_other_root(request: "DatasetRequest", store: FeatureStore, key: ListingKey, root: str) -> None:
    """Accept a listing's root that the data set has moved away from, with a warning; refuse any other folder."""
    wanted = locate_root(request.recipe)
    if is_same_folder(root, wanted):
        return
    before = store.listing(key)
    left = has_files(before)
    if not left and os.path.isdir(wanted) and has_same_files(before, wanted, request.stat_log):
        request.stat_log.try_flush()
        warnings.warn(f"{root} has moved to {wanted}; `featcache extract` records the new place", stacklevel=3)
        return
    if not left and not os.path.exists(wanted) and not os.path.isdir(root):
        warnings.warn(
            f"neither {wanted} nor {root}, which {'/'.join(key)} was extracted from, is on this machine: they are "
            f"assumed to be the same data set, since its name is the same",
            stacklevel=3,
        )
        return
    back = f"Name {root} with --data" if os.path.isdir(root) else f"{root} is gone: put its images there again"
    held = [name for name, place in request.data_sets().items() if is_same_folder(place, wanted)]
    name = held[0] if held else name_after(wanted)
    if name == request.recipe.name:
        name = f"{name_after(os.path.dirname(wanted))}-{name}"
    error = CacheError(
        f"{request.folder}: {'/'.join(key)} was extracted from {root}, and you asked for {wanted}"
        f"{'' if left else ', which does not hold all of its images as they were'}. {back}, or give the other data set "
        f"a name of its own, in every command: --name {name}"
    )
    raise error.correct("--name", name)
