"""timeline: a head on a video, and at what time it predicts which label."""

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
from featcache.listing import DECODED_SUFFIXES, readable
from featcache.media import (
    BadImageError,
    BadVideoError,
    frame_digest,
    hash_video,
    require_video_decoder,
    resize_and_crop,
    sample_frames,
)
from featcache.prediction.batcher import EmbeddingBatcher
from featcache.prediction.head_trunk import HeadTrunk
from featcache.prediction.model import HeadWithTrunk, open_head
from featcache.recipe import KeptHeadOptions

PER_SECOND = 2.0  # frames that are looked at
_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the video through which one label is the most probable."""

    start: float  # seconds, of its first frame
    end: float  # seconds, of the next one's first frame, or of the last frame of all
    first: int  # frames, from 0
    last: int
    label: str
    probability: float  # the mean over its frames


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What a head predicts for the frames of one video."""

    path: str
    head: str
    trunk: str
    classes: tuple[str, ...]
    frames: npt.NDArray[np.int64]  # (n,), the numbers of those that were embedded, from 0
    at: npt.NDArray[np.float64]  # (n,), their times in seconds
    probabilities: npt.NDArray[np.float64]  # (n, classes)
    failed: str  # why the video was not read to its end; "" where it was
    embedded: int
    seconds: float
    notes: tuple[str, ...] = ()
    handle: str = ""  # as of `Predictions`
    temperature: float | None = None  # as of `Predictions`
    chosen: str = ""  # which head "best" or "latest" stood for, and why, in a sentence
    is_exportable: bool = False  # whether `export_model` writes trunk and head as one network, as a .pt

    def segments(self) -> list[Segment]:
        """Return the parts of the video between changes of the most probable label, in order."""
        labels = self.probabilities.argmax(axis=1)
        bounds = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        return [
            Segment(
                start=float(self.at[start]),
                end=float(self.at[min(end, len(labels) - 1)]),
                first=int(self.frames[start]),
                last=int(self.frames[end - 1]),
                label=self.classes[labels[start]],
                probability=float(self.probabilities[start:end, labels[start]].mean()),
            )
            for start, end in pairwise(bounds)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache predict VIDEO --json`."""
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
                    "start": round(segment.start, 3),
                    "end": round(segment.end, 3),
                    "first_frame": segment.first,
                    "last_frame": segment.last,
                    "class": segment.label,
                    "probability": finite_or_none(segment.probability),
                }
                for segment in self.segments()
            ],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "chosen": self.chosen or None,
            "temperature": self.temperature,
        }


def is_video(path: str) -> bool:
    """Return whether a file is a video by the end of its name; nothing is opened.

    Args:
        path: of the file, .mp4, .mov or .m4v in upper or lower case.
    """
    return path.lower().endswith(DECODED_SUFFIXES)


@checked
def timeline(
    head: str | None,
    video: str,
    *,
    per_second: float = PER_SECOND,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Unpack[KeptHeadOptions],
) -> Timeline:
    """Return what a head predicts for the frames of a video.

    Args:
        head: as for `predict`.
        video: the file.
        per_second: frames of each second that are embedded; at most all of them.
        device: where the trunk runs: "auto", "cpu", "cuda" …
        batch_size: frames that are embedded at a time; None leaves it to the device.
        progress: gets how many frames have been decoded; how many there are is not known before the end.
        **options: those of `featcache.load`; `weights` says where the trunk's weights are, where the cache does not
            remember it.

    Raises:
        UsageError: the recipe, the device, or `per_second`.
        CacheError: no such head, or a damaged one; or its trunk's weights are not here, or others.
        DataError: the file cannot be read, or gives no frame.
        MachineError: no such device, too little memory on it, or no decoder (PyAV) on this machine.
    """
    if not per_second > 0:
        raise UsageError(f"--per-second: found {per_second}, expected more than 0")
    Settings(device=device, batch_size=batch_size)  # refuses what cannot be
    began = time.monotonic()
    video = expand_home(video)
    require_video_decoder()
    model = open_head(head, device=device, batch_size=batch_size, **options)
    model.refuse_targets(f"{readable(video)}: the timeline of a video")
    predictions = _predict_frames(model, video, per_second, progress)
    good = [row for row, probabilities in enumerate(predictions.probabilities) if probabilities is not None]
    if not good:
        raise DataError(f"{readable(video)}: {predictions.failed or 'no frame of it gives a finite embedding'}")
    return Timeline(
        path=video,
        head=model.saved.name,
        trunk=model.sentence,
        classes=model.saved.classes,
        frames=np.array(predictions.frames, dtype=np.int64)[good],
        at=np.array(predictions.at)[good],
        probabilities=np.array([predictions.probabilities[row] for row in good]),
        failed=predictions.failed,
        embedded=predictions.embedded,
        seconds=time.monotonic() - began,
        notes=model.notes,
        handle=model.handle,
        chosen=model.chosen,
        temperature=model.temperature,
        is_exportable=model.is_exportable,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _FramePredictions:
    """The head's predictions for the frames of a video, in their order."""

    frames: Sequence[int]  # their numbers, from 0
    at: Sequence[float]  # their times in seconds
    probabilities: Sequence[npt.NDArray[np.float64] | None]  # (classes,) each; None without a finite embedding
    failed: str  # why the video was not read to its end; "" where it was
    embedded: int  # frames that went through the trunk


def _predict_frames(
    model: HeadWithTrunk, path: str, per_second: float, progress: Callable[[int], None]
) -> _FramePredictions:
    """Return the head's prediction for each sampled frame; what the store holds is not embedded again."""
    numbers: list[int] = []
    at: list[float] = []
    digests: list[bytes] = []
    passes = [_TrunkPass(trunk, EmbeddingBatcher(trunk, _finish(model)), set()) for trunk in model.trunks]
    failed, reported = "", time.monotonic()
    try:
        with os.fdopen(open_file(path, follow_links=True), "rb") as file:
            content = hash_video(file)
            for frame in sample_frames(file, per_second):
                digest = frame_digest(content, frame.number)
                numbers.append(frame.number)
                at.append(frame.seconds)
                digests.append(digest)
                for trunk_pass in passes:
                    trunk_pass.add(digest, frame.pixels)
                if time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    progress(frame.number + 1)
    except OSError as error:
        raise DataError(f"{readable(path)}: cannot be read: {error.strerror}") from None
    except (BadVideoError, BadImageError) as error:  # the frames before it are right
        failed = str(error)
    embedded = set[bytes]().union(*(trunk_pass.end() for trunk_pass in passes))
    return _FramePredictions(numbers, at, _predict_rows(model, passes, digests), failed, len(embedded))


@dataclass(frozen=True, slots=True, eq=False)
class _TrunkPass:
    """The frames of a video on their way through one trunk."""

    trunk: HeadTrunk
    batcher: EmbeddingBatcher
    held: set[bytes]  # frames whose embeddings the store has

    def add(self, digest: bytes, pixels: npt.NDArray[np.uint8]) -> None:
        """Take a frame; what the store holds is not embedded again."""
        if self.trunk.holds(digest):
            self.held.add(digest)
        else:
            self.batcher.add((digest, 0), resize_and_crop(pixels, self.trunk.transform))

    def end(self) -> set[bytes]:
        """Embed what waits, take what the store holds, and return the digests of what went through the trunk."""
        self.batcher.flush()
        embedded = self.batcher.digests
        self.batcher.take_stored(sorted(self.held))
        return embedded


def _finish(model: HeadWithTrunk) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    """Return what is kept of embeddings: of a head on one trunk its predictions, else they themselves."""
    return (lambda x: model.probabilities(model.join([x]))) if len(model.trunks) == 1 else lambda x: x


def _predict_rows(
    model: HeadWithTrunk, passes: Sequence[_TrunkPass], digests: Sequence[bytes]
) -> list[npt.NDArray[np.float64] | None]:
    """Return the prediction on each frame, None where a trunk gave no finite embedding."""
    if len(passes) == 1:
        return [passes[0].batcher.rows.get((digest, 0)) for digest in digests]
    rows: list[npt.NDArray[np.float64] | None] = []
    for digest in digests:
        of_trunks = [trunk_pass.batcher.rows.get((digest, 0)) for trunk_pass in passes]
        whole = [row[None] for row in of_trunks if row is not None]
        rows.append(model.probabilities(model.join(whole))[0] if len(whole) == len(of_trunks) else None)
    return rows
