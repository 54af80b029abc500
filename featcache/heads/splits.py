"""The train and val splits as stage two needs them, and what must be said of them; for heads and classifiers alike."""

import numpy as np

from featcache.errors import CacheError, DataError
from featcache.features import RANDOM_TRUNK, Features


def refuse_unfit(train: Features, val: Features | None) -> None:
    """Whether a classifier can learn from train, and val can judge it.

    Raises:
        DataError: a single class, or no rows.
        CacheError: the two were extracted from different folders, or with different classes.
    """
    seen = np.unique(train.y)
    if len(seen) < 2:
        found = f"only class {train.classes[seen[0]]!r}" if len(seen) else "no row"
        raise DataError(
            f"{train.source['root']}: split 'train' has {found} with an embedding; a classifier needs two classes. "
            f"Add images of another class and run `featcache extract --split train` again."
        )
    if val is None:
        return
    if not len(val.y):
        raise DataError(f"{train.source['root']}: no image of split 'val' has an embedding; mend or remove the split")
    if val.source["root"] != train.source["root"]:
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


def notes_of(train: Features, val: Features | None) -> list[str]:
    """What a person must know of the splits beside the scores."""
    notes = []
    if train.source["weights"] == "random":
        notes.append(RANDOM_TRUNK)
    for split in (train, val):
        if split is not None and split.part:
            notes.append(
                f"split {split.split!r} is a part of its folder ({split.part}); extract it again for all of it"
            )
        if split is not None and split.failed:
            notes.append(f"{split.failed:,} images of split {split.split!r} have no embedding and are left out")
    absent = [name for label, name in enumerate(train.classes) if not (train.y == label).any()]
    if absent:
        notes.append(f"no training image of {len(absent)} of {len(train.classes)} classes: {', '.join(absent[:5])}")
    if val is None:
        notes.append(
            "no val split in the cache: nothing chose this head, and no figure here was measured on unseen images"
        )
    return notes
