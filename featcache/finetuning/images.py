"""The images of one split as a training needs them: decoded once and kept in memory where they fit, else read anew."""

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.extraction import MAX_BAD, refuse_too_many
from featcache.listing import Listing, video_and_frame
from featcache.loader import ImageRead, read_frames, read_images
from featcache.machine import available_memory, cores
from featcache.media import ImageTransform

SHARE_OF_MEMORY = 0.6  # that the decoded images may take
_AHEAD = 128  # images that are decoded before they are asked for

ReadingProgress = Callable[[str, int, int], None]  # gets the split, the images read, and those to read


@dataclass(frozen=True, slots=True, eq=False)
class SplitImages:
    """The usable images of one split, in listing order, under the trunk's own transform."""

    listing: Listing
    transform: ImageTransform
    rows: npt.NDArray[np.int64]  # (images,), which rows of the listing have an image
    digests: tuple[bytes, ...]  # (images,), sha256 of each file
    failed: tuple[str, ...]  # why each other row has none, as "path: reason"
    pixels: Tensor | None  # (images, 3, height, width) uint8; None where they do not fit into memory
    workers: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """(images,) int64, an index into the classes; or (images, outputs) float32, labels or numbers."""
        if self.listing.targets is not None:
            return torch.from_numpy(self.listing.targets.values[self.rows].astype(np.float32))
        return torch.from_numpy(np.ascontiguousarray(self.listing.labels[self.rows]))

    def batches(self, order: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels of each batch, (n, 3, height, width) uint8; those in memory are a copy.

        Args:
            order: Of each batch, which images, (n,) int64.
        """
        if self.pixels is not None:
            for batch in order:
                yield self.pixels[batch]
            return
        rows = [int(self.rows[image]) for batch in order for image in batch.tolist()]
        with contextlib.closing(_read(self.listing, rows, self.transform, self.workers)) as images:
            for batch in order:
                pixels = torch.empty((len(batch), *self.transform.shape), dtype=torch.uint8)
                for place in range(len(batch)):
                    image = next(images)
                    if image.pixels is None:
                        raise UsageError(
                            f"{self.listing.file(rows[image.index])}: it could be read before, and now {image.failed}"
                        )
                    pixels[place] = torch.from_numpy(np.array(image.pixels))
                yield pixels


def load_images(
    listing: Listing, transform: ImageTransform, progress: ReadingProgress, *, workers: int | None = None
) -> SplitImages:
    """Read and decode the images of a split, once; those that give no picture are left out, as extract leaves them out.

    Args:
        listing: The rows.
        transform: What is done to each image.
        progress: Called with how far it is.
        workers: Processes that read and decode; None: as many as there are cores.

    Raises:
        DataError: more images than 1 % cannot be used.
        UsageError: the transform leaves decoding to a GPU.
        MachineError: no worker process stays alive.
    """
    if transform.decoder == "nvjpeg":
        raise UsageError("--decode gpu: a training decodes on the CPU, once; take exact or fast").correct(
            "--decode", "exact"
        )
    count = workers or cores()
    pixels = _allocate(listing, transform)
    digests, reasons = [b""] * len(listing), [""] * len(listing)
    with contextlib.closing(_read(listing, range(len(listing)), transform, count)) as images:
        for done, image in enumerate(images, start=1):  # frames of videos come in any order
            if image.pixels is None:
                reasons[image.index] = image.failed or "it gives no picture"
            elif pixels is not None:
                pixels[image.index] = torch.from_numpy(np.array(image.pixels))
            digests[image.index] = image.digest
            progress(listing.split, done, len(listing))
    refuse_too_many(listing, reasons, MAX_BAD, is_fixed=True)
    rows = np.flatnonzero(np.array([not reason for reason in reasons], dtype=bool))
    if pixels is not None and len(rows) < len(listing):
        pixels = pixels[torch.from_numpy(rows)]
    failed = tuple(f"{listing.paths[row]}: {reason}" for row, reason in enumerate(reasons) if reason)
    return SplitImages(listing, transform, rows, tuple(digests[row] for row in rows), failed, pixels, count)


def _allocate(listing: Listing, transform: ImageTransform) -> Tensor | None:
    """Return memory for the images of a split; None where it would take too much of what is free.

    Raises:
        UsageError: the images are frames of videos, which are decoded from a video's start to its end: in the order of
            a training, each would be decoded again and again.
    """
    size, free = len(listing) * math.prod(transform.shape), available_memory()
    if free is None or size <= SHARE_OF_MEMORY * free:
        return torch.empty((len(listing), *transform.shape), dtype=torch.uint8)
    if listing.videos:
        raise UsageError(
            f"{listing.root}: the {len(listing):,} frames of split {listing.split!r} take {size / 1e9:.1f} GB decoded, "
            f"{free / 1e9:.1f} GB are free; frames of videos are kept in memory. Take fewer, or write them as images"
        )
    return None


def _read(
    listing: Listing, rows: Sequence[int], transform: ImageTransform, workers: int
) -> Generator[ImageRead, None, None]:
    """Return what became of each row's image; of videos' frames in any order."""

    def is_wanted(_: bytes) -> bool:
        return True

    if not listing.videos:
        images = [listing.image_path(row) for row in rows]
        return read_images(images, transform, is_wanted, workers=workers, ahead=_AHEAD)
    frames = [video_and_frame(listing.file(row)) for row in rows]
    return read_frames(frames, transform, is_wanted, known={}, workers=workers, ahead=_AHEAD)
