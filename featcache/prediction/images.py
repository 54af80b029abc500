"""A head on new images: embedded as its training images were. What the store holds is not embedded anew."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.errors import DataError
from featcache.extraction import Settings
from featcache.files import expand_home
from featcache.heads.saved import finite_or_none
from featcache.listing import SUFFIXES, counted, is_left_out, readable
from featcache.loader import read_images
from featcache.machine import cores
from featcache.prediction.model import HeadWithTrunk, Waiting, open_head
from featcache.recipe import StoreOptions

TOP = 5  # labels that are shown of an image
_AHEAD = 64  # images that are read before the trunk asks for them
_SAY_SECONDS = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a head says of some images, in the order in which they were named."""

    head: str
    trunk: str  # architecture, weights and precision, in words
    classes: tuple[str, ...]
    paths: tuple[str, ...]  # (rows,), as they were named
    probabilities: npt.NDArray[np.float64]  # (rows, classes); nan where there is no answer
    failed: tuple[str, ...]  # (rows,), why there is none; "" where there is one
    embedded: int  # images that went through the trunk; of the others the store held the embedding
    seconds: float
    notes: tuple[str, ...] = ()
    chosen: str = ""  # where a word stood for the head: which one that is and why, in a sentence

    def top(self, row: int, count: int = TOP) -> list[tuple[str, float]]:
        """The most probable labels of a row, each with its probability; none where there is no answer."""
        if self.failed[row]:
            return []
        order = np.argsort(-self.probabilities[row], kind="stable")[:count]
        return [(self.classes[label], float(self.probabilities[row, label])) for label in order]

    def to_json(self, count: int = TOP) -> dict[str, Any]:
        """The keys of `featcache predict --json`."""
        return {
            "head": self.head,
            "trunk": self.trunk,
            "classes": list(self.classes),
            "images": [
                {
                    "path": readable(path),
                    "top": [
                        {"class": name, "probability": finite_or_none(share)} for name, share in self.top(row, count)
                    ],
                    "failed": self.failed[row] or None,
                }
                for row, path in enumerate(self.paths)
            ],
            "rows": len(self.paths),
            "embedded": self.embedded,
            "failed": sum(map(bool, self.failed)),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "chosen": self.chosen or None,
        }


@checked
def predict(
    head: str | None,
    images: Sequence[str | Path],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    **where: Unpack[StoreOptions],
) -> Predictions:
    """Ask a head about images: files, or folders of them; one path alone is one image, or one folder.

    `head` is a name, the start of one, a head's folder; or "best" (None is the same), which `compare` shows first, or
    "latest", the newest run's best.

    `weights` says where the trunk's weights are, where the cache does not remember it. `progress` gets how many
    images are done, and of how many. An image that cannot be used is a row with its reason.

    Raises:
        UsageError: the recipe, or the device.
        CacheError: no such head; or its trunk's weights are not here, or others.
        DataError: no image at all, or none that can be used.
        MachineError: no such device.
    """
    began = time.monotonic()
    Settings(device=device, workers=workers, batch_size=batch_size)  # refuses what cannot be
    asking = open_head(head, device=device, batch_size=batch_size, **where)
    left_out: list[str] = []
    paths = tuple(path for named in images for path in images_in(named, left_out))
    if not paths:
        raise DataError("no image was named; name files, a folder, or - for a list of names on stdin")
    digests, failed, answers, embedded = _ask(asking, paths, workers or cores(), progress)
    nothing = np.full(len(asking.saved.classes), np.nan)
    rows = [answers.get(digest) for digest in digests]
    refusal = asking.store.trunk.spec.refusal
    reasons = tuple(reason or (refusal if row is None else "") for reason, row in zip(failed, rows, strict=True))
    if all(reasons):
        raise DataError(f"{readable(paths[0])}: {reasons[0]}; none of {len(paths):,} images can be used")
    return Predictions(
        head=asking.saved.name,
        trunk=asking.sentence,
        classes=asking.saved.classes,
        paths=paths,
        probabilities=np.array([nothing if row is None else row for row in rows]),
        failed=reasons,
        embedded=embedded,
        seconds=time.monotonic() - began,
        notes=(*asking.notes, *([counted(left_out)] if left_out else [])),
        chosen=asking.chosen,
    )


def _ask(
    asking: HeadWithTrunk, paths: Sequence[str], workers: int, progress: Callable[[int, int], None]
) -> tuple[list[bytes], list[str], dict[bytes, npt.NDArray[np.float64] | None], int]:
    """Each file's digest, why it cannot be used, the answers by digest, and how many images were embedded."""
    waiting, claimed, held = Waiting(asking), set[bytes](), set[bytes]()
    digests, failed = [b""] * len(paths), [""] * len(paths)

    def wanted(digest: bytes) -> bool:
        if digest in claimed or digest in held:
            return False
        (held if asking.holds(digest) else claimed).add(digest)
        return digest in claimed

    broken: dict[bytes, str] = {}
    said = time.monotonic()
    files = [os.path.abspath(path) for path in paths]
    with contextlib.closing(read_images(files, asking.transform, wanted, workers=workers, ahead=_AHEAD)) as images:
        for image in images:
            digests[image.index], failed[image.index] = image.digest, image.failed
            if image.failed and image.digest:
                broken[image.digest] = image.failed
            if image.pixels is not None:
                waiting.add(image.digest, image.pixels)
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                progress(image.index + 1, len(paths))
    waiting.flush()
    embedded = len(waiting.answers)
    waiting.recall(sorted(held))
    # Of equal files only one is decoded, and not always the first: a later one's worker may have asked before it.
    failed = [reason or broken.get(digest, "") for reason, digest in zip(failed, digests, strict=True)]
    return digests, failed, waiting.answers, embedded


def images_in(named: str | Path, left_out: list[str] | None = None) -> list[str]:
    """A file as it is named, its tilde expanded; of a folder every image file below it, sorted.

    Hidden entries and system leftovers below the folder are no images of a person's: they are added to `left_out`.

    Raises:
        DataError: a folder without images, or one that cannot be read.
        UsageError: a home folder that there is not.
    """
    named = expand_home(named)
    if not os.path.isdir(named):
        return [named]
    found = sorted(_files(named, [] if left_out is None else left_out), key=os.fsencode)
    if not found:
        raise DataError(f"{readable(named)}: no image in this folder, by the ends of their names")
    return found


def _files(folder: str, left_out: list[str]) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{readable(error.filename)}: this folder cannot be read: {error.strerror}")

    for here, folders, names in os.walk(folder, onerror=refuse):
        leftovers = {name for name in (*folders, *names) if is_left_out(os.path.join(here, name), top=here == folder)}
        left_out += sorted(os.path.join(here, name) for name in leftovers)
        folders[:] = [name for name in folders if name not in leftovers]
        yield from (
            os.path.join(here, name) for name in names if name.lower().endswith(SUFFIXES) and name not in leftovers
        )
