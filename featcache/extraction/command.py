"""Stage one: embed what the store lacks. Safe to stop at any moment, safe to run again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import DataError, UsageError
from featcache.extraction.job import ExtractJob
from featcache.extraction.moved_root import refuse_another_root
from featcache.extraction.summary import Progress, Settings, Summary
from featcache.listing import (
    AssignedSplits,
    DataSource,
    Leak,
    Listing,
    find_leaks,
    list_data_settings,
    resolve_source,
    take_subset,
)
from featcache.recipe import DataOptions, Recipe, TrunkKeywords, pick_options
from featcache.store import read_split_assignment, write_split_assignment


class ExtractOptions(DataOptions, TrunkKeywords, total=False):
    """What extract takes: which data set, and which settings of the trunk."""

    cnn: Mapping[str, Any] | None  # the settings of arch cnn, in place of the recipe's [trunk.cnn]


@checked
def extract(
    split: str | None = None,
    *,
    limit: int | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    **options: Unpack[ExtractOptions],
) -> list[Summary]:
    """Embed what a cache lacks of one split, or of every split, of a data set.

    Args:
        split: Which split; None: all.
        limit: Take so many rows of each split, drawn at random.
        fraction: Take this share of each split, drawn at random.
        seed: What the part is drawn with; 0 where none is given.
        settings: How the extract runs; nothing in it changes an embedding.
        progress: Called with where the extract stands.
        **options: Which data set and which cache, and the settings of the trunk that are given in place of the
            recipe's; see `ExtractOptions`.

    Returns:
        A summary of each split; of several, train, val and test come first.

    Raises:
        UsageError: the recipe, or a setting, asks for what cannot be.
        DataError: no images, or more than `max_bad` of them unreadable.
        CacheError: the data set's name stands for another folder, another process writes to this store, the store is
            damaged, or its images come out differently on this machine.
        MachineError: weights out of reach, no such device, disk full.
    """
    if seed is not None and limit is None and fraction is None:
        raise UsageError("--seed has no effect without --limit or --fraction: it draws the part that they ask for")
    request = DatasetRequest(**pick_options(options, DataOptions))
    recipe = request.recipe.override("trunk", **pick_options(options, TrunkKeywords), cnn=options.get("cnn"))
    if options.get("augment") is not None and not recipe.trunk.views:
        raise UsageError("--augment has no effect without --views: it says what a view is").correct("--views", "4")
    data = resolve_source(recipe, read_split_assignment(request.folder, recipe.name, request.variant))
    listings = [
        take_subset(
            replace(listing, notes=(*listing.notes, *request.notes)), limit=limit, fraction=fraction, seed=seed or 0
        )
        for listing in _listings(data, recipe, split)
    ]
    job = ExtractJob(
        recipe=recipe,
        cache=request.folder,
        stat_log=request.stat_log,
        settings=settings or Settings(),
        progress=progress,
    )
    if request.name is None:
        root = listings[0].root  # all splits have one
        moved_from = refuse_another_root(
            job.stores, cache=request.folder, data_set=recipe.name, root=root, stat_log=request.stat_log
        )
        job.moved_from = {listing.split: moved_from for listing in listings}
    if isinstance(data, AssignedSplits):
        write_split_assignment(request.folder, recipe.name, request.variant, data.groups)
    job.leaks = _leaks(data)
    try:
        return job.run_all(listings)
    finally:
        job.close_all()


def _listings(data: DataSource, recipe: Recipe, split: str | None) -> list[Listing]:
    """Return the listing of one split, or of every split, whole.

    Raises:
        DataError: no images, or images that the data set names and that are not there.
    """
    listings = [data.listing(name) for name in ([split] if split is not None else data.splits())]
    if data.unreadable:
        raise DataError(data.unreadable)
    return [replace(listing, settings=list_data_settings(recipe, videos=listing.videos)) for listing in listings]


def _leaks(data: DataSource) -> list[Leak]:
    """Return what the splits of a data set share, those included that are not extracted now."""
    return [] if data.has_disjoint_splits else find_leaks([data.listing(split) for split in data.splits()])
