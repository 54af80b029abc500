"""A table of frames for a folder of videos: what `featcache init` writes, so that extract decodes the videos itself."""

import csv
import io
import os
import shlex
from dataclasses import dataclass

from featcache.files import open_file
from featcache.listing import DECODED_SUFFIXES, find_videos, frame_path, has_split_name
from featcache.media import BadVideoError, has_video_decoder, sample_numbers

PER_SECOND = 2  # frames of a video


@dataclass(frozen=True, slots=True)
class VideoTable:
    """The frames of the videos of a folder, as a table that featcache reads."""

    text: str  # CSV: path, label, clip, and split where the folder has splits
    classes: tuple[str, ...]  # sorted
    videos: int
    frames: int
    left_out: tuple[str, ...]  # each video that gives no frame, with the reason


def tabulate_videos(folder: str) -> VideoTable | None:
    """Return a table of the frames of every video of `<class>/…/video` or `<split>/<class>/…/video`.

    Args:
        folder: The folder of the videos, as it was typed; the paths of the table begin with it.

    Returns:
        The table; None where PyAV is not installed, or no video lies in a folder of its class or can be decoded.
    """
    if not has_video_decoder():
        return None
    videos = find_videos(folder)
    has_splits = has_split_name(video.split(os.sep)[0] for video in videos)
    rows: list[tuple[str, ...]] = []
    left_out: list[str] = []
    for video in videos:
        folders = video.split(os.sep)[:-1]
        if len(folders) <= has_splits:
            left_out.append(f"{video}: in no folder of a class")
            continue
        try:
            numbers = _sample_video(os.path.join(folder, video))
        except (BadVideoError, OSError) as error:
            left_out.append(f"{video}: {error}")
            continue
        clip = os.path.splitext(video)[0]
        rows += [
            (frame_path(os.path.join(folder, video), f"{number:06d}"), folders[has_splits], clip, folders[0])
            for number in numbers
        ]
    if not rows:
        return None
    columns = 4 if has_splits else 3
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(row[:columns] for row in [("path", "label", "clip", "split"), *rows])
    classes = tuple(sorted({row[1] for row in rows}))
    return VideoTable(text.getvalue(), classes, len({row[2] for row in rows}), len(rows), tuple(left_out))


def _sample_video(path: str) -> list[int]:
    """Return the numbers of the frames of one video that are taken.

    Raises:
        BadVideoError: it is no video that can be decoded.
        OSError: it cannot be read.
    """
    if not path.lower().endswith(DECODED_SUFFIXES):
        source, target = shlex.quote(path), shlex.quote(f"{os.path.splitext(path)[0]}.mp4")
        raise BadVideoError(f"only MP4 and MOV are read; `ffmpeg -i {source} -c copy {target}` may make one")
    with os.fdopen(open_file(path, follow_links=True), "rb") as file:
        return sample_numbers(file, PER_SECOND)
