"""A head on a video: what it sees, when."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.errors import DataError, UsageError
from featcache.extraction import Settings
from featcache.files import expand_home, open_file
from featcache.heads.saved import finite_or_none
from featcache.listing import readable
from featcache.media import (
    BadImageError,
    BadVideoError,
    frame_digest,
    hash_video,
    require_video_decoder,
    resize_and_crop,
    sample_frames,
)
from featcache.prediction.model import HeadWithTrunk, Waiting, open_head
from featcache.recipe import StoreOptions

SUFFIXES = (".mp4", ".mov", ".m4v")
PER_SECOND = 2.0  # frames that are looked at
_SAY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the video with one label."""

    start: float  # seconds, of its first frame
    end: float  # seconds, of the next one's first frame, or of the last frame of all
    first: int  # frames, from 0
    last: int
    label: str
    probability: float  # the mean over its frames


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What a head says of the frames of one video."""

    path: str
    head: str
    trunk: str
    classes: tuple[str, ...]
    frames: npt.NDArray[np.int64]  # (n,), the numbers of those that were looked at, from 0
    at: npt.NDArray[np.float64]  # (n,), seconds
    probabilities: npt.NDArray[np.float64]  # (n, classes)
    failed: str  # why the video was not read to its end; "" where it was
    embedded: int
    seconds: float
    notes: tuple[str, ...] = ()
    chosen: str = ""  # where a word stood for the head: which one that is and why, in a sentence

    def segments(self) -> list[Segment]:
        """The stretches between changes of the most probable label."""
        labels = self.probabilities.argmax(axis=1)
        cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        return [
            Segment(
                start=float(self.at[start]),
                end=float(self.at[min(end, len(labels) - 1)]),
                first=int(self.frames[start]),
                last=int(self.frames[end - 1]),
                label=self.classes[labels[start]],
                probability=float(self.probabilities[start:end, labels[start]].mean()),
            )
            for start, end in pairwise(cuts)
        ]

    def to_json(self) -> dict[str, Any]:
        """The keys of `featcache predict VIDEO --json`."""
        return {
            "head": self.head,
            "trunk": self.trunk,
            "classes": list(self.classes),
            "video": readable(self.path),
            "frames": len(self.frames),
            "embedded": self.embedded,
            "failed": self.failed or None,
            "segments": [
                {
                    "start": round(one.start, 3),
                    "end": round(one.end, 3),
                    "first_frame": one.first,
                    "last_frame": one.last,
                    "class": one.label,
                    "probability": finite_or_none(one.probability),
                }
                for one in self.segments()
            ],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "chosen": self.chosen or None,
        }


def is_video(path: str) -> bool:
    """By the end of its name."""
    return path.lower().endswith(SUFFIXES)


@checked
def timeline(
    head: str | None,
    video: str,
    *,
    per_second: float = PER_SECOND,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **where: Unpack[StoreOptions],
) -> Timeline:
    """Ask a head, named as for `predict`, about a video, `per_second` frames of each second (at most all of them).

    `progress` gets how many frames have been decoded; how many there are nobody knows before the end.

    Raises:
        UsageError: the recipe, the device, or `per_second`.
        CacheError: no such head; or its trunk's weights are not here, or others.
        DataError: the file cannot be read, or gives no frame.
        MachineError: no such device, or no decoder (PyAV) on this machine.
    """
    if not per_second > 0:
        raise UsageError(f"--per-second: found {per_second}, expected more than 0")
    Settings(device=device, batch_size=batch_size)  # refuses what cannot be
    began = time.monotonic()
    video = expand_home(video)
    require_video_decoder()
    asking = open_head(head, device=device, batch_size=batch_size, **where)
    frames, at, digests, failed, waiting, embedded = _look(asking, video, per_second, progress)
    rows = [waiting.answers.get(digest) for digest in digests]
    good = [row for row, answer in enumerate(rows) if answer is not None]
    if not good:
        raise DataError(f"{readable(video)}: {failed or 'no frame of it gives a finite_or_none embedding'}")
    return Timeline(
        path=video,
        head=asking.saved.name,
        trunk=asking.sentence,
        classes=asking.saved.classes,
        frames=np.array(frames, dtype=np.int64)[good],
        at=np.array(at)[good],
        probabilities=np.array([rows[row] for row in good]),
        failed=failed,
        embedded=embedded,
        seconds=time.monotonic() - began,
        notes=asking.notes,
        chosen=asking.chosen,
    )


def _look(
    asking: HeadWithTrunk, path: str, per_second: float, progress: Callable[[int], None]
) -> tuple[Sequence[int], Sequence[float], Sequence[bytes], str, Waiting, int]:
    """The frames' numbers, seconds and digests; why the video ended early; and the answers by digest."""
    frames: list[int] = []
    at: list[float] = []
    digests: list[bytes] = []
    held: set[bytes] = set()
    waiting, failed, said = Waiting(asking), "", time.monotonic()
    try:
        with os.fdopen(open_file(path, follow_links=True), "rb") as file:
            content = hash_video(file)
            for one in sample_frames(file, per_second):
                digest = frame_digest(content, one.number)
                frames.append(one.number)
                at.append(one.seconds)
                digests.append(digest)
                if asking.holds(digest):
                    held.add(digest)
                else:
                    waiting.add(digest, resize_and_crop(one.pixels, asking.transform))
                if time.monotonic() - said > _SAY_SECONDS:
                    said = time.monotonic()
                    progress(one.number + 1)
    except OSError as error:
        raise DataError(f"{readable(path)}: cannot be read: {error.strerror}") from None
    except (BadVideoError, BadImageError) as error:  # what came before it is right
        failed = str(error)
    waiting.flush()
    embedded = len(waiting.answers)
    waiting.recall(sorted(held))
    return frames, at, digests, failed, waiting, embedded
