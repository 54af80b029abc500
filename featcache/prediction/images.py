"""predict: a head on new images, embedded as its training images were. What the store holds is not embedded again."""

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.containers import find_member, image_place, is_container_path, is_elsewhere, nearest_member
from featcache.errors import DataError
from featcache.extraction import Settings
from featcache.files import expand_home, nearest_path
from featcache.listing import IMAGE_SUFFIXES, count_leftovers, is_left_out, list_container, readable
from featcache.loader import read_images
from featcache.machine import cores
from featcache.prediction.batcher import EmbeddingBatcher
from featcache.prediction.head_trunk import HeadTrunk
from featcache.prediction.model import HeadWithTrunk, open_head
from featcache.prediction.predictions import Predictions
from featcache.prediction.test_time_views import average_views
from featcache.recipe import KeptHeadOptions

_KEPT_FILES = 1 << 14  # whose embeddings by each of several trunks are held at a time
_AHEAD = 64  # images that are read before the trunk asks for them
_PROGRESS_SECONDS = 0.1


@checked
def predict(
    head: str | None,
    images: Sequence[str | Path],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    test_views: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    **options: Unpack[KeptHeadOptions],
) -> Predictions:
    """Return what a head predicts for images. One that cannot be used is a row with its reason.

    Args:
        head: a name, the start of one, or a head's folder; or "best" (None is the same), which `compare` shows first,
            or "latest", the newest run's best.
        images: files, or folders of them; one path alone is one image, or one folder.
        device: where the trunk runs: "auto", "cpu", "cuda" …
        batch_size: images that are embedded at a time; None leaves it to the device and to how many there are.
        workers: processes that read and decode; None is one for each core.
        test_views: whether the probabilities are averaged over each image and as many views of it as the head was
            trained on; all of them are embedded.
        progress: gets how many images are done, and of how many.
        **options: those of `featcache.load`; `weights` says where the trunk's weights are, where the cache does not
            remember it.

    Raises:
        UsageError: the recipe, or the device.
        CacheError: no such head, or a damaged one; or its trunk's weights are not here, or others.
        DataError: no image at all, or none that can be used.
        MachineError: no such device, or too little memory on it.
    """
    began = time.monotonic()
    Settings(device=device, workers=workers, batch_size=batch_size)  # refuses what cannot be
    model = open_head(head, device=device, batch_size=batch_size, with_views=test_views, **options)
    left_out: list[str] = []
    paths = tuple(path for named in images for path in find_images(named, left_out))
    if not paths:
        raise DataError("no image was named; name files, a folder, or - for a list of names on stdin")
    predictions = _predict_files(replace(model, images=len(paths)), paths, workers or cores(), progress)
    undefined = np.full(len(model.saved.classes), np.nan)
    reasons = tuple(predictions.failed)
    if all(reasons):
        raise _no_usable_image(paths, reasons)
    return Predictions(
        head=model.saved.name,
        trunk=model.sentence,
        classes=model.saved.classes,
        paths=paths,
        probabilities=np.array([undefined if row is None else row for row in predictions.rows]),
        failed=reasons,
        embedded=len(predictions.embedded),
        seconds=time.monotonic() - began,
        notes=(*model.notes, *([count_leftovers(left_out)] if left_out else [])),
        handle=model.handle,
        chosen=model.chosen,
        temperature=model.temperature,
        is_exportable=model.is_exportable,
        targets=model.targets,
        thresholds=model.thresholds,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _FileRows:
    """What was made of files, in their order."""

    rows: Sequence[npt.NDArray[Any] | None]  # probabilities (classes,), or embeddings (dim,); None where it failed
    failed: Sequence[str]  # why a file could not be read, decoded or embedded; "" where it could
    embedded: Set[bytes]  # digests of the images that went through the trunk


def _predict_files(
    model: HeadWithTrunk, paths: Sequence[str], workers: int, progress: Callable[[int, int], None]
) -> _FileRows:
    """Return the head's prediction for each file; equal files, and those in the store, are not embedded again."""
    if len(model.trunks) == 1:
        return _embed_files(model.trunks[0], lambda x: model.probabilities(model.join([x])), paths, workers, progress)
    parts = []
    for start in range(0, len(paths), _KEPT_FILES):
        parts.append(_predict_by_several(model, paths[start : start + _KEPT_FILES], workers))
        progress(min(start + _KEPT_FILES, len(paths)), len(paths))
    return _FileRows(
        [row for part in parts for row in part.rows],
        [reason for part in parts for reason in part.failed],
        {digest for part in parts for digest in part.embedded},
    )


def _predict_by_several(model: HeadWithTrunk, paths: Sequence[str], workers: int) -> _FileRows:
    """Return the prediction for each file of a head on several trunks: each file goes through each trunk once."""
    of_trunks = [_embed_files(trunk, lambda x: x, paths, workers, lambda *_: None) for trunk in model.trunks]
    failed = [next(filter(None, reasons), "") for reasons in zip(*(part.failed for part in of_trunks), strict=True)]
    good = [place for place, reason in enumerate(failed) if not reason]
    rows: list[npt.NDArray[Any] | None] = [None] * len(paths)
    if good:
        x = model.join([np.array([part.rows[place] for place in good]) for part in of_trunks])
        for place, row in zip(good, model.probabilities(x), strict=True):
            rows[place] = row
    return _FileRows(rows, failed, {digest for part in of_trunks for digest in part.embedded})


def _embed_files(
    trunk: HeadTrunk, finish: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]], paths: Sequence[str],
    workers: int, progress: Callable[[int, int], None],
) -> _FileRows:  # fmt: skip
    """Return what `finish` makes of each file's embedding by one trunk, of a row alone or among others."""
    batcher, claimed, held = EmbeddingBatcher(trunk, finish), set[bytes](), set[bytes]()
    digests, failed = [b""] * len(paths), [""] * len(paths)

    def wants(digest: bytes) -> bool:
        if digest in claimed or digest in held:
            return False
        (held if trunk.holds(digest) else claimed).add(digest)
        return digest in claimed

    undecodable: dict[bytes, str] = {}
    reported = time.monotonic()
    files = list(map(image_place, paths))
    ahead = min(_AHEAD, len(files))
    reading = read_images(files, trunk.transform, wants, views=trunk.views, workers=workers, ahead=ahead)
    with contextlib.closing(reading) as images:
        for image in images:
            digests[image.index], failed[image.index] = image.digest, image.failed
            if image.failed and image.digest:
                undecodable[image.digest] = image.failed
            for place, pixels in enumerate(() if image.views is None else image.views):
                batcher.add((image.digest, place), pixels)
            if time.monotonic() - reported > _PROGRESS_SECONDS:
                reported = time.monotonic()
                progress(image.index + 1, len(paths))
    batcher.flush()
    embedded = batcher.digests
    batcher.take_stored(sorted(held))
    rows = average_views(batcher.rows, digests, len(trunk.views))
    # Of equal files only one is decoded, and not always the first: a later one's worker may have asked before it.
    failed = [
        reason or undecodable.get(digest, "") or (trunk.spec.refusal if row is None else "")
        for reason, digest, row in zip(failed, digests, rows, strict=True)
    ]
    return _FileRows(rows, failed, embedded)


def _no_usable_image(paths: Sequence[str], reasons: Sequence[str]) -> DataError:
    """Return the error that no image can be used, with the file or the row that a misspelt name most likely means."""
    first, member = f"{readable(paths[0])}: {reasons[0]}", find_member(paths[0])
    meant = None if member is None else nearest_member(member)
    if meant is not None:
        first += f"; did you mean {readable(meant)}?"
    error = DataError(first if len(paths) == 1 else f"none of {len(paths):,} images can be used; the first: {first}")
    close = meant or (None if os.path.lexists(paths[0]) else nearest_path(paths[0], suffixes=IMAGE_SUFFIXES))
    return error if close is None else error.correct(paths[0], shlex.quote(close))


def find_images(named: str | Path, left_out: list[str] | None = None) -> list[str]:
    """Return a file as it is named, its tilde expanded; of a folder every image file below it, sorted.

    Of a container it is every image in it, in its order; one of them is named as `photos.tar#ants/0013.jpg`.

    Args:
        named: a file, a folder, a container, or an image in one.
        left_out: gets the hidden entries and system leftovers below the folder, which are no images.

    Raises:
        DataError: a folder without images, or one that cannot be read.
        UsageError: a home folder that does not exist.
    """
    path = expand_home(named)
    if is_container_path(path) and (is_elsewhere(path) or os.path.isfile(path)):
        return list_container(path)
    if not os.path.isdir(path):
        return [path]
    files = sorted(_image_files(path, [] if left_out is None else left_out), key=os.fsencode)
    if not files:
        raise DataError(f"{readable(path)}: no image in this folder, by the ends of their names")
    return files


def _image_files(folder: str, left_out: list[str]) -> Iterator[str]:
    """Yield the files below a folder that are images by their names; leftovers are added to `left_out`."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{readable(error.filename)}: this folder cannot be read: {error.strerror}")

    for here, folders, names in os.walk(folder, onerror=refuse):
        leftovers = {name for name in (*folders, *names) if is_left_out(os.path.join(here, name), top=here == folder)}
        left_out += sorted(os.path.join(here, name) for name in leftovers)
        folders[:] = [name for name in folders if name not in leftovers]
        yield from (
            os.path.join(here, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and name not in leftovers
        )
