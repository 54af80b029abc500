"""A worker that decodes videos, asked and answering as `worker` is, a JSON line each.

    > {"path": …, "known": {"stat": …, "digest": …} or null}      (known: need not be hashed again, if it is still that)
    < {"stat": [size, mtime_ns, ctime_ns, inode], "digest": …, "read_at": …} or {"failed": reason}
    > {"frames": [58, 59, …]}                                     (which to decode, ascending)
    > {"slot": 3}                                                 (once a frame)
    < {"frame": 58} or {"frame": 58, "failed": reason} or {"failed": reason}     (the last: no further one comes)

The file that is hashed is the file that is decoded: it stays open, and each frame is handed out only if the file has
not changed by then.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.files import open_file
from featcache.loader.worker import say, serve
from featcache.media import BadImageError, BadVideoError, ImageTransform, decode_frames, fit, put, video_digest

_GRAIN, _WHOLE_SECONDS = 20_000_000, 2_000_000_000  # ns: a file as young as this may change without its stat showing it


def main(settings: str, slots: int) -> None:
    """Serve until standard input ends; `slots` is the descriptor of the memory shared with the parent."""
    serve(settings, slots, _serve)


def _serve(transform: ImageTransform, places: npt.NDArray[np.uint8], asked: BinaryIO, answer: io.FileIO) -> None:
    while line := asked.readline():
        request = json.loads(line)
        try:
            file = os.fdopen(open_file(request["path"], follow_links=True), "rb")
        except (OSError, ValueError) as error:
            say(answer, {"failed": _unreadable(error)})
            continue
        with file:
            said = identify(file, request["known"])
            say(answer, said)
            if "failed" not in said:
                frames = json.loads(asked.readline() or b'{"frames": []}')["frames"]
                with contextlib.closing(decode_frames(file, frames)) as found:
                    _hand_out(file, said["stat"], frames, found, transform, places, asked, answer)


def identify(file: BinaryIO, known: dict[str, Any] | None) -> dict[str, Any]:
    """The digest and the stat of an open video, or why there is none; hashed, unless it is what is known."""
    try:
        before = os.fstat(file.fileno())
        read_at = time.time_ns()
        if known is not None and known["stat"] == _status(file):
            return {**known, "read_at": read_at}
        whole = before.st_mtime_ns % 10**9 == before.st_ctime_ns % 10**9 == 0
        age = read_at - max(before.st_mtime_ns, before.st_ctime_ns)
        if 0 <= age < (grain := _WHOLE_SECONDS if whole else _GRAIN):
            time.sleep((grain - age) / 1e9)
        status, read_at = _status(file), time.time_ns()
        digest = video_digest(file)
        if _status(file) != status:
            return {"failed": "it changed while it was read"}
    except OSError as error:
        return {"failed": _unreadable(error)}
    return {"stat": status, "digest": digest.hex(), "read_at": read_at}


def _hand_out(
    file: BinaryIO,
    status: list[int],
    frames: list[int],
    found: Iterator[tuple[int, npt.NDArray[np.uint8]]],
    transform: ImageTransform,
    places: npt.NDArray[np.uint8],
    asked: BinaryIO,
    answer: io.FileIO,
) -> None:
    for frame in frames:
        line = asked.readline()
        if not line:  # the parent has ended
            return
        try:
            _, pixels = next(found)
            if _status(file) != status:
                raise BadVideoError("it changed while it was decoded")
        except BadVideoError as error:
            say(answer, {"failed": str(error)})
            return
        except OSError as error:
            say(answer, {"failed": _unreadable(error)})
            return
        except Exception as error:  # a decoder raises whatever the bytes make it raise
            say(answer, {"failed": f"damaged: {error}"})
            return
        try:
            put(fit(pixels, transform), places[json.loads(line)["slot"]])
        except BadImageError as error:
            say(answer, {"frame": frame, "failed": str(error)})
        else:
            say(answer, {"frame": frame})


def _status(file: BinaryIO) -> list[int]:
    found = os.fstat(file.fileno())
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _unreadable(error: Exception) -> str:
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
