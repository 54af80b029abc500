"""The decoded images of a training in memory that several processes share: a file without a name."""

import mmap
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from featcache.errors import MachineError
from featcache.finetuning.images import SplitImages
from featcache.listing import Listing, RowTargets
from featcache.loader import create_shared_file
from featcache.media import ImageTransform

_ALIGNED = 64  # bytes

Layout = dict[str, list[Any]]  # of each array its first byte, its shape and its type


def share_images(splits: Sequence[SplitImages]) -> tuple[IO[bytes], Layout]:
    """Return memory that holds the images of some splits, with their labels and digests, and where each stands in it.

    Args:
        splits: Train and, where there is one, val.

    Raises:
        MachineError: they are not in memory, or there is no room for them.
    """
    arrays = {f"{split.listing.split}.{name}": array for split in splits for name, array in _arrays(split)}
    layout, end = {}, 0
    for name, array in arrays.items():
        layout[name] = [end, list(array.shape), array.dtype.str]
        end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    try:
        file = create_shared_file(max(1, end))
    except MachineError:
        raise MachineError(
            f"{splits[0].listing.root}: no room for {end / 1e6:,.0f} MB of decoded images that several devices share; "
            f"name one --device, which needs no second copy"
        ) from None
    memory = mmap.mmap(file.fileno(), 0)
    for name, array in arrays.items():
        _view(memory, layout[name])[...] = array
    return file, layout


def _arrays(split: SplitImages) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if split.pixels is None:
        raise MachineError(
            f"{split.listing.root}: the decoded images of split {split.listing.split!r} do not fit into memory, which "
            f"several devices share; name one --device, which reads them anew in every epoch"
        )
    yield "pixels", split.pixels.numpy()
    yield "labels", split.labels.numpy()
    yield "digests", np.frombuffer(b"".join(split.digests), dtype=np.uint8).reshape(-1, 32)


def open_images(
    handle: int, layout: Layout, split: str, *, classes: int, kind: str, transform: ImageTransform, workers: int
) -> SplitImages | None:
    """Return the images of a split as another process shares them; None where there is no such split.

    Args:
        handle: The descriptor of the memory.
        layout: Where each array stands in it.
        split: Its name.
        classes: How many there are; or outputs.
        kind: What a row has: one class, labels or numbers.
        transform: What was done to each image.
        workers: Threads that augment.
    """
    if f"{split}.pixels" not in layout:
        return None
    memory = mmap.mmap(handle, 0)
    arrays = {name: _view(memory, layout[f"{split}.{name}"]) for name in ("pixels", "labels", "digests")}
    rows, labels = len(arrays["pixels"]), arrays["labels"]
    has_classes = labels.ndim == 1
    listing = Listing(
        data_set="", variant="", split=split, root="", classes=tuple(map(str, range(classes))), paths=[""] * rows,
        labels=labels if has_classes else np.zeros(rows, np.int64), clips=[""] * rows, subjects=[""] * rows,
        targets=None if has_classes else RowTargets(kind, labels.astype(np.float64)),
    )  # fmt: skip
    digests = tuple(digest.tobytes() for digest in arrays["digests"])
    pixels = torch.from_numpy(arrays["pixels"])
    return SplitImages(listing, transform, np.arange(rows), digests, (), pixels, workers)


def _view(memory: mmap.mmap, place: Sequence[Any]) -> npt.NDArray[Any]:
    begin, shape, kind = place
    array: npt.NDArray[Any] = np.ndarray(shape, dtype=np.dtype(kind), buffer=memory, offset=begin)
    return array
