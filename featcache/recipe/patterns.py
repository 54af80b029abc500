"""The patterns that name Drive&Act's frames and videos below its root."""

import re
from collections.abc import Sequence

FRAME_FIELDS = ("file_id", "participant_id", "annotation_id", "chunk_id", "activity", "view", "frame")
VIDEO_FIELDS = ("file_id", "participant_id", "view")
FRAMES, VIDEOS = "{file_id}/img_{frame:06d}.png", "{view}/{file_id}.mp4"  # where a recipe names neither
_FRAME_FORMAT = re.compile(r"(0?[1-9][0-9]?)?d?")  # how a whole number is written: 06d


def check_frame_pattern(pattern: str) -> str:
    """Return a pattern of frames, which names the drive and the frame.

    Raises:
        ValueError: it does not, or names what it must not.
    """
    names = _fields_of(pattern, FRAME_FIELDS)
    if names.count("frame") != 1 or "file_id" not in names:
        raise ValueError("expected {frame} once, and {file_id}, which tells the drives apart")
    return pattern


def check_video_pattern(pattern: str) -> str:
    """Return a pattern of videos, which names the drive.

    Raises:
        ValueError: it does not, or names what it must not.
    """
    if "file_id" not in _fields_of(pattern, VIDEO_FIELDS):
        raise ValueError("expected {file_id}, which tells the drives apart")
    return pattern


def _fields_of(pattern: str, permitted: Sequence[str]) -> list[str]:
    """Return the names of a pattern's fields, after a check of the whole pattern."""
    fields = [field.partition(":") for field in re.findall(r"\{([^{}]*)\}", pattern)]
    names = [name for name, _, _ in fields]
    rest = re.sub(r"\{[^{}]*\}", "", pattern)
    if "{" in rest or "}" in rest or "\0" in rest:
        raise ValueError("an unmatched brace, or a NUL")
    if unknown := [name for name in names if name not in permitted]:
        raise ValueError(f"unknown field {unknown[0]!r}; expected {', '.join(permitted)}")
    for name, _, number_format in fields:
        if number_format and (name != "frame" or not _FRAME_FORMAT.fullmatch(number_format)):
            raise ValueError(f"{{{name}:{number_format}}}; only a frame has a format, such as {{frame:06d}}")
    if pattern.startswith(("/", "~/")) or ".." in pattern.split("/"):
        raise ValueError("expected a path below the root: no leading '/' or '~/', no '..'")
    return names
