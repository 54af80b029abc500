"""The train and val splits as stage two needs them, and what must be noted of them; for heads and classifiers alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, DataError, UsageError
from featcache.features import (
    RANDOM_TRUNK,
    EmbeddingPool,
    Features,
    Streamed,
    attach_views,
    changes_since_extract,
    find_views,
    has_random_trunk,
    open_streamed,
    read_features,
    refuse_views_from_disk,
)
from featcache.heads.modules import features_by_clip
from featcache.listing import RowTargets, find_leaks
from featcache.machine import available_memory
from featcache.recipe import LABELS, VALUE
from featcache.store import FeatureStore, is_same_folder
from featcache.text import counted

SHARE_OF_MEMORY = 0.7  # that the training rows may take


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The splits that stage two learns from and chooses by, out of one store."""

    source: FeatureStore
    train: Features | Streamed
    val: Features | None
    notes: tuple[str, ...]  # what has changed since, what was cut, what is read from disk

    @property
    def in_memory(self) -> Features:
        """The training rows, which `read_splits` was asked to hold in memory."""
        if isinstance(self.train, Streamed):
            raise TypeError("these rows are on disk")
        return self.train


def read_splits(
    request: DatasetRequest,
    *,
    from_disk: bool | None = False,
    with_views: bool = False,
    augment: str = "",
    any_targets: bool = False,
    pool: EmbeddingPool | None = None,
) -> Splits:
    """Return the train split and, where it is cached, val, of one trunk.

    Args:
        request: The data set, its cache, and the store that is meant.
        from_disk: Whether the training rows stay on disk; None: where they do not fit into the memory that is free.
        with_views: Whether the training images come with their views.
        augment: Which set of views, where there are several.
        any_targets: Whether the caller knows rows with several labels or numbers, too.
        pool: Of embeddings, where several listings of the data set are read one after the other.

    Raises:
        UsageError: views that would have to be read from disk, or the store of a single view.
        CacheError: train is not in the cache, or lacks a view, or the two don't fit together.
        DataError: a single class, or a split without rows.
    """
    source = request.store_of("train")
    _refuse_view(source)
    notes = []
    key = request.key_of(source, "train")
    copies = 1 + (len(find_views(request, source, key, augment).stores) if with_views else 0)
    if from_disk is None:
        size, free = copies * len(source.listing(key).embedded) * (source.dim or 0) * 4, available_memory()
        from_disk = free is not None and size > SHARE_OF_MEMORY * free
        if from_disk and free is not None:
            notes.append(
                f"the training rows take {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: they are read from disk "
                f"as they are needed, and the check, which needs them in memory, is left out"
            )
    if from_disk and with_views:
        refuse_views_from_disk(augment)
    train = open_streamed(source, key) if from_disk else read_features(source, key, any_targets=any_targets, pool=pool)
    if with_views and isinstance(train, Features):
        train = attach_views(request, source, train, augment)
        notes.append(
            f"each step draws one of {copies - 1} {'view' if copies == 2 else 'views'} ({train.source['augment']}) of "
            f"an image; the curve of train is of these, and the final scores are of the plain images"
        )
    val = None
    if request.key("val") in source.listings:
        val = read_features(source, request.key_of(source, "val"), any_targets=any_targets, pool=pool)
    refuse_unfit(train, val)
    source.publish_record()  # where heads of several stores will be kept
    both = [train] if val is None else [train, val]
    stale = changes_since_extract(source, request.recipe, [split.split for split in both])
    return Splits(source, train, val, (*notes, *stale, *map(str, find_leaks(both))))


def _refuse_view(source: FeatureStore) -> None:
    """Raise a UsageError where a store holds a single view."""
    views = [part.trunk.spec.view for part in source.parts if part.trunk.spec.view is not None]
    if views:
        raise UsageError(
            f"--store {source.name}: it holds {views[0]}; a head is trained on the plain images, or with "
            f"fit-head --views on all views"
        )


def splits_by_clip(splits: Splits, frames: int) -> Splits:
    """Return the splits with one row a clip, and a note that says so.

    Args:
        splits: One row an image, in memory.
        frames: Of a clip that are looked at, at most.

    Raises:
        DataError: a split without clips, or a clip of several classes.
    """
    train = features_by_clip(splits.in_memory, frames)
    val = None if splits.val is None else features_by_clip(splits.val, frames)
    refuse_unfit(train, val)
    counts = [f"{counted(len(train.y), 'clip')} of train" + ("" if val is None else f" and {len(val.y):,} of val")]
    outside = sum(clip == "" for split in (splits.in_memory, splits.val) if split is not None for clip in split.clips)
    if outside:
        none = "belongs to none and is" if outside == 1 else "belong to none and are"
        counts.append(f"{counted(outside, 'image')} {none} left out")
    note = f"a row of this head is a clip: {'; '.join(counts)}; its scores count clips, those of other heads images"
    return replace(splits, train=train, val=val, notes=(*splits.notes, note))


def refuse_clips_on_disk(from_disk: bool | None) -> None:
    """Raise a UsageError where clips are to be trained on from disk.

    Raises:
        UsageError: `from_disk` is true.
    """
    if from_disk:
        raise UsageError(
            "--from-disk: a head over clips gathers the frames of each clip in memory; leave the option out"
        ).correct("--from-disk", None)


def refuse_unfit(train: Features | Streamed, val: Features | None) -> None:
    """Raise unless a classifier can learn from train, and val can judge it.

    Raises:
        DataError: a single class, or no rows.
        CacheError: the two were extracted from different folders, or with different classes.
    """
    labels = np.unique(train.y)
    if isinstance(train, Features) and train.targets is not None:
        refuse_targets_without_spread(train.targets, train.classes, train.source["root"])
    elif len(labels) < 2:
        content = f"only class {train.classes[labels[0]]!r}" if len(labels) else "no row"
        raise DataError(
            f"{train.source['root']}: split 'train' has {content} with an embedding; a classifier needs two classes. "
            f"Add images of another class and run `featcache extract --split train` again."
        )
    if val is None:
        return
    if not len(val.y):
        raise DataError(
            f"{train.source['root']}: no image of split 'val' has an embedding; repair its images, or remove the split"
        )
    if not is_same_folder(val.source["root"], train.source["root"]):
        raise CacheError(
            f"{train.source['data_set']}: train was extracted from {train.source['root']}, val from "
            f"{val.source['root']}. Run `featcache extract` (without --split): it embeds only what is new."
        )
    if val.classes != train.classes:
        raise CacheError(
            f"{train.source['data_set']}: train was extracted with {len(train.classes)} classes, val with "
            f"{len(val.classes)}: the folder changed in between. Run `featcache extract` (without --split) again; "
            f"it embeds only what is new."
        )


def refuse_targets_without_spread(targets: RowTargets, names: Sequence[str], root: str) -> None:
    """Raise a DataError where nothing can be learnt: no row, no label of any row, or a number that is always the same.

    Args:
        targets: Of the training rows.
        names: Of the labels or numbers.
        root: The folder of the images.

    Raises:
        DataError: see above.
    """
    values, where = targets.values, f"{root}: split 'train' has"
    if not len(values):
        raise DataError(f"{where} no row with an embedding; repair its images, and run `featcache extract` again")
    varies = (values != values[0]).any(axis=0)
    if targets.kind == LABELS and not varies.any():
        raise DataError(
            f"{where} the same labels in every row; a head needs a label that some rows have and others lack. Add such "
            f"images, and run `featcache extract --split train` again."
        )
    if targets.kind == VALUE and not varies.all():
        name = names[int(np.flatnonzero(~varies)[0])]
        raise DataError(
            f"{where} the same {name} in every row; nothing can be learnt of it. Take it out of target_columns, or add "
            f"images with other values."
        )


def notes_of_splits(train: Features | Streamed, val: Features | None) -> list[str]:
    """Return what a person must know of the splits beside the scores."""
    notes = []
    if has_random_trunk(train.source):
        notes.append(RANDOM_TRUNK)
    for split in (train, val):
        if split is not None and split.part:
            notes.append(
                f"split {split.split!r} is a part of its folder ({split.part}); extract it again for all of it"
            )
        if split is not None and split.failed:
            notes.append(f"left out: {counted(split.failed, 'image')} of split {split.split!r} without an embedding")
    has_classes = isinstance(train, Streamed) or train.targets is None
    absent = [name for label, name in enumerate(train.classes) if not (train.y == label).any()]
    if absent and has_classes:
        verb = "has" if len(absent) == 1 else "have"
        lacking = f"{len(absent)} of {len(train.classes)} classes {verb} no training image"
        notes.append(f"{lacking}: {', '.join(absent[:5])}")
    if val is None:
        notes.append(
            "no val split in the cache: no head was selected, and none of these scores comes from unseen images"
        )
    return notes
