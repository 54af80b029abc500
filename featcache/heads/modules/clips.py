"""Images that belong together in time, as one row a clip: what heads over clips are trained on, and answer for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.features import Features


@dataclass(frozen=True, slots=True, eq=False)
class ClipRows:
    """The clips of some images, in the order of their first images."""

    x: npt.NDArray[np.float32]  # (clips, frames x width + 1): frames in time order, zeros, and how many frames
    clip_of: npt.NDArray[np.int64]  # (images,) the row of each image's clip
    first: npt.NDArray[np.int64]  # (clips,) the first image of each


def group_frames(x: npt.NDArray[np.float32], clips: Sequence[str], frames: int) -> ClipRows:
    """Return one row a clip; an image that belongs to none is a clip of one frame.

    Args:
        x: (images, width) embeddings; the images of a clip in time order.
        clips: (images,) the name of each image's clip, "" where it belongs to none.
        frames: how many a row has room for; of a longer clip as many are taken, evenly spread, both ends among them.
    """
    numbers: dict[str | int, int] = {}
    clip_of = np.array([numbers.setdefault(clip or image, len(numbers)) for image, clip in enumerate(clips)], np.int64)
    order, sizes = np.argsort(clip_of, kind="stable"), np.bincount(clip_of, minlength=len(numbers))
    starts = np.cumsum(sizes) - sizes
    rows = np.zeros((len(numbers), frames * x.shape[1] + 1), np.float32)
    for clip, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        taken = size if size <= frames else frames
        places = np.arange(size) if size <= frames else np.linspace(0, size - 1, frames).round().astype(np.int64)
        rows[clip, : taken * x.shape[1]] = x[order[start + places]].reshape(-1)
        rows[clip, -1] = taken
    return ClipRows(rows, clip_of, order[starts] if len(numbers) else order)


def features_by_clip(features: Features, frames: int) -> Features:
    """Return a split with one row a clip, as heads over clips learn from it.

    Args:
        features: the split, one row an image; images that belong to no clip are left out.
        frames: as for `group_frames`.

    Raises:
        DataError: no image belongs to a clip, or the images of a clip have several classes.
    """
    inside = np.flatnonzero([bool(clip) for clip in features.clips])
    if not len(inside):
        raise DataError(
            f"{features.source.get('root', '')}: no image of split {features.split!r} belongs to a clip, and --head "
            f"temporal learns from clips; name the clips in a table, or train another head"
        ).correct("--head", "mlp")
    clips = [features.clips[image] for image in inside]
    grouped = group_frames(features.x[inside], clips, frames)
    labels, first = features.y[inside] if features.targets is None else features.targets.codes()[inside], grouped.first
    if len(mixed := np.flatnonzero(labels[first][grouped.clip_of] != labels)):
        if features.targets is not None:
            raise DataError(
                f"clip {clips[mixed[0]]!r} has images with different {features.targets.kind}: --head temporal needs "
                f"the same for all images of a clip; name shorter clips, or train another head"
            )
        here, there = labels[mixed[0]], labels[first][grouped.clip_of][mixed[0]]
        raise DataError(
            f"clip {clips[mixed[0]]!r} has images of {features.classes[there]!r} and {features.classes[here]!r}: "
            f"--head temporal needs one class a clip; name shorter clips, or train another head"
        )
    rows = inside[first]
    return replace(
        features,
        x=grouped.x,
        y=features.y[rows],
        paths=tuple(features.paths[row] for row in rows),
        clips=tuple(features.clips[row] for row in rows),
        subjects=tuple(features.subjects[row] for row in rows),
        digests=None,
        targets=None if features.targets is None else features.targets.take(rows),
    )
