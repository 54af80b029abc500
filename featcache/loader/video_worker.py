"""A worker that decodes videos; it gets requests and replies as `worker` does, a line of JSON each.

    > {"path": …, "known": {"stat": …, "digest": …} or null}      (known: need not be hashed again, if it is still that)
    < {"stat": [size, mtime_ns, ctime_ns, inode], "digest": …, "read_at": …} or {"failed": reason}
    > {"frames": [58, 59, …]}                                     (which to decode, ascending)
    > {"slot": 3}                                                 (once a frame)
    < {"frame": 58} or {"frame": 58, "failed": reason} or {"failed": reason}     (the last: no further one comes)

The file that is hashed is the file that is decoded: it stays open, and each frame is handed out only if the file has
not changed by then.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.files import now_ns, open_file, to_file_stat, wait_while_racy
from featcache.loader.worker import Channel, serve
from featcache.media import (
    BadImageError,
    BadVideoError,
    copy_image,
    decode_frames,
    frame_digest,
    hash_video,
    resize_views,
)

_LONGEST_WAIT = 2.0  # seconds; enough where a file system keeps whole seconds


@dataclass(frozen=True, slots=True, eq=False)
class _OpenVideo:
    """A video that is being decoded."""

    file: BinaryIO
    digest: bytes  # sha256
    status: list[int]  # its stat, when it was hashed
    wanted: list[int]  # numbers of frames, ascending
    decoded: Iterator[tuple[int, npt.NDArray[np.uint8]]]  # these frames, each with its number


def main(settings: str, shared: int) -> None:
    """Serve until standard input ends; `shared` is the descriptor of the memory shared with the parent."""
    serve(settings, shared, _decode_videos)


def _decode_videos(channel: Channel) -> None:
    while line := channel.requests.readline():
        request = json.loads(line)
        try:
            file = os.fdopen(open_file(request["path"], follow_links=True), "rb")
        except (OSError, ValueError) as error:
            channel.reply({"failed": _describe_unreadable(error)})
            continue
        with file:
            identity = identify(file, request["known"])
            channel.reply(identity)
            if "failed" not in identity:
                wanted = json.loads(channel.requests.readline() or b'{"frames": []}')["frames"]
                with contextlib.closing(decode_frames(file, wanted)) as decoded:
                    digest = bytes.fromhex(identity["digest"])
                    _hand_out(_OpenVideo(file, digest, identity["stat"], wanted, decoded), channel)


def identify(file: BinaryIO, known: dict[str, Any] | None) -> dict[str, Any]:
    """Return the digest and the stat of an open video, or why there is none; hashed, unless it is what is known."""
    try:
        read_at = now_ns()
        if known is not None and known["stat"] == _read_status(file):
            return {**known, "read_at": read_at}
        wait_while_racy(to_file_stat(os.fstat(file.fileno())), read_at, _LONGEST_WAIT)
        status, read_at = _read_status(file), now_ns()
        digest = hash_video(file)
        if _read_status(file) != status:
            return {"failed": "it changed while it was read"}
    except OSError as error:
        return {"failed": _describe_unreadable(error)}
    return {"stat": status, "digest": digest.hex(), "read_at": read_at}


def _hand_out(video: _OpenVideo, channel: Channel) -> None:
    """Put each wanted frame into the slot that the parent names for it, until one fails."""
    for frame in video.wanted:
        line = channel.requests.readline()
        if not line:  # the parent has ended
            return
        try:
            _, pixels = next(video.decoded)
            if _read_status(video.file) != video.status:
                raise BadVideoError("it changed while it was decoded")
        except BadVideoError as error:
            channel.reply({"failed": str(error)})
            return
        except OSError as error:
            channel.reply({"failed": _describe_unreadable(error)})
            return
        except Exception as error:  # a decoder raises whatever the bytes make it raise
            channel.reply({"failed": f"damaged: {error}"})
            return
        try:
            slot = channel.slots[json.loads(line)["slot"]]
            views = resize_views(pixels, channel.transform, channel.views, frame_digest(video.digest, frame))
            for view, place in zip(views, slot, strict=True):
                copy_image(view, place)
        except BadImageError as error:
            channel.reply({"frame": frame, "failed": str(error)})
        else:
            channel.reply({"frame": frame})


def _read_status(file: BinaryIO) -> list[int]:
    return list(to_file_stat(os.fstat(file.fileno())))


def _describe_unreadable(error: Exception) -> str:
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
