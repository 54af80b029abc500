"""The splits that a network is trained on and chosen by: those that extract lists."""

from dataclasses import dataclass, replace

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, DataError
from featcache.heads import refuse_targets_without_spread
from featcache.listing import AssignedSplits, Listing, find_leaks, list_data_settings, resolve_source
from featcache.store import read_split_assignment, write_split_assignment
from featcache.text import counted


@dataclass(frozen=True, slots=True, eq=False)
class SplitListings:
    """The rows of train and, where there is such a split, val."""

    train: Listing
    val: Listing | None
    notes: tuple[str, ...]  # what the two share

    @property
    def every(self) -> tuple[Listing, ...]:
        """Train, and val where there is one."""
        return (self.train,) if self.val is None else (self.train, self.val)


def list_splits(request: DatasetRequest) -> SplitListings:
    """Return train and val as they lie on disk, divided as extract divides them.

    Args:
        request: The data set and its cache.

    Raises:
        UsageError: the recipe.
        DataError: no images, images that are named and not there, or a train split of one class.
        CacheError: the data set has no train split.
    """
    recipe = request.recipe
    assignment = read_split_assignment(request.folder, recipe.name, request.variant)
    source = resolve_source(recipe, assignment)
    names = source.splits()
    if "train" not in names:
        raise CacheError(f"{recipe.name}: it has no train split; found {', '.join(names) or 'none'}")
    listings = [source.listing(name) for name in ("train", "val") if name in names]
    if source.unreadable:
        raise DataError(source.unreadable)
    if isinstance(source, AssignedSplits):
        write_split_assignment(request.folder, recipe.name, request.variant, source.groups)
    listings = [replace(part, settings=list_data_settings(recipe, videos=part.videos)) for part in listings]
    _require_something_to_learn(listings[0])
    leaks = () if source.has_disjoint_splits else tuple(map(str, find_leaks(listings)))
    return SplitListings(listings[0], listings[1] if len(listings) > 1 else None, leaks)


def _require_something_to_learn(train: Listing) -> None:
    if train.targets is not None:
        refuse_targets_without_spread(train.targets, train.classes, train.root)
        return
    present = [name for name, count in zip(train.classes, train.support(), strict=True) if count]
    if len(present) < 2:
        raise DataError(
            f"{train.root}: split 'train' has images of {counted(len(present), 'class')}; a classifier needs two"
        )
