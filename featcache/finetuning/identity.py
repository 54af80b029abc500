"""What a training is made of, as JSON: its checkpoint and its result are named by the hash of that."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.extraction import look_up_files
from featcache.finetuning.augmentation_text import describe_augmentation
from featcache.finetuning.command import FinetuneJob
from featcache.listing import Listing

if TYPE_CHECKING:
    from featcache.finetuning.images import SplitImages


def identify_training(job: FinetuneJob, images: "Sequence[SplitImages]") -> dict[str, Any]:
    """Return what a training is made of: the first weights, the settings, the images with their classes.

    Args:
        job: What is asked for.
        images: Train and, where there is one, val.
    """
    splits = ((split.listing, split.rows, [digest.hex() for digest in split.digests]) for split in images)
    return _identify(job, splits)


def identify_remembered(job: FinetuneJob) -> dict[str, Any] | None:
    """Return the same without reading an image, from what the cache remembers of the files.

    Args:
        job: What is asked for.

    Returns:
        As `identify_training`; None where an image is new, or has changed since it was read.
    """
    splits, transform = [], job.start.source.transform.key()
    for listing in job.splits.every:
        known = look_up_files(listing, job.request.stat_log, transform)
        if not known.is_known.all():
            return None
        rows = np.flatnonzero(known.reasons == 0)
        splits.append((listing, rows, [digest.tobytes().hex() for digest in known.digests[rows]]))
    return _identify(job, splits)


def _identify(job: FinetuneJob, splits: Iterable[tuple[Listing, npt.NDArray[np.int64], list[str]]]) -> dict[str, Any]:
    return {
        "start": job.start.identity,
        "layer": job.start.layer,
        "settings": job.section.model_dump(exclude={"start"}),
        "augment": describe_augmentation(job.augmentation),
        "select": job.select,
        "splits": [[listing.classes, _truth(listing, rows), digests] for listing, rows, digests in splits],
    }


def _truth(listing: Listing, rows: npt.NDArray[np.int64]) -> list[Any]:
    """Return the label of each row, or its labels or numbers in float32, which a training learns."""
    if listing.targets is None:
        return list(listing.labels[rows].tolist())
    return list(listing.targets.values[rows].astype(np.float32).tolist())
