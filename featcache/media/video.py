"""A video -> its frames, in order, exactly numbered. Only this module decodes videos.

Frame k (from 0) is the k-th frame that a player shows, whatever its timestamp says: B-frames are put in order, an
edit list is followed (a start that is late drops nothing, frames that an edit hides are none). What is damaged ends
the counting: a decoder that loses a frame would give every later number to a neighbour. So each decoded frame must
carry the timestamp of the packet that is due, and where it does not, that frame and all behind it are refused. An MP4
has no checksums: as in a JPEG, a changed byte may pass for a picture.
`docs/videos.md` states the outcomes. PyAV is an optional extra; nothing here needs torch.
"""

import contextlib
import hashlib
import heapq
import importlib.util
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.media.transform import MAX_PIXELS

Frame = TypeVar("Frame")

_DOMAIN = b"featcache video frame 1\0"  # no file's sha256 is taken of bytes that a frame's is taken of
_BLOCK = 1 << 20
# MP4 and MOV keep a table of their frames and of the time of each. Of others (Matroska, AVI, MPEG-TS) a damaged part
# is left out without a word, and a playlist that is named like a video would open other files.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2"
_REMUX = "`ffmpeg -i VIDEO -c copy OUT.mp4` may make one"
_NO_TIMES = f"its packets carry no timestamps; a video that has them is needed; {_REMUX}"
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_PIXELS)}


class BadVideoError(ValueError):
    """This video gives no further frame; the message is the reason, without the path."""


def has_video_decoder() -> bool:
    """Return whether videos can be decoded here: PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def require_video_decoder() -> None:
    """Refuse at once to go on where videos cannot be decoded.

    Raises:
        MachineError: PyAV is not installed.
    """
    if not has_video_decoder():
        raise MachineError("videos are decoded by PyAV, which is not installed here: pip install 'featcache[av]'")


def hash_video(file: BinaryIO) -> bytes:
    """Return the sha256 of a file's bytes, 32 bytes; in bounded memory.

    Args:
        file: The open video, at any place; it is read from the start, and left at the end.
    """
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.digest()


def frame_digest(video: bytes, frame: int) -> bytes:
    """Return the digest that one frame of a video is addressed by, 32 bytes; it is never that of a file.

    Args:
        video: The sha256 of the video's bytes, 32 bytes.
        frame: The frame's number, from 0.
    """
    return hashlib.sha256(_DOMAIN + video + frame.to_bytes(8, "little")).digest()


def decode_frames(file: BinaryIO, wanted: Sequence[int]) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, None]:
    """Yield the wanted frames, in one pass from the start to the last of them.

    The colours are those that `ffmpeg -pix_fmt rgb24` writes.

    Args:
        file: The open video.
        wanted: Numbers of frames, from 0, ascending.

    Yields:
        A frame's number, and its pixels, (height, width, 3) uint8, RGB.

    Raises:
        BadVideoError: it is no video, it ends before the last wanted frame, or it is damaged before it; what was
            yielded until then is right.
    """
    remaining = iter(wanted)
    due = next(remaining, None)
    if due is None:
        return
    count = 0  # frames that were shown
    for count, frame in enumerate(_shown_frames(file), start=1):
        if count <= due:
            continue
        if frame.width * frame.height > MAX_PIXELS:
            raise BadVideoError(f"frame {due}: more than {MAX_PIXELS / 1e6:.0f} megapixels")
        yield due, frame.to_ndarray(format="rgb24")
        due = next(remaining, None)
        if due is None:
            return
    raise BadVideoError(f"the video has {count:,} frames, the first is number 0")


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """One frame of a video that was sampled."""

    number: int  # from 0
    seconds: float  # from the start of the video
    pixels: npt.NDArray[np.uint8]  # (height, width, 3), RGB


def sample_frames(file: BinaryIO, per_second: float) -> Generator[SampledFrame, None, None]:
    """Yield so many frames of each second of a video of unknown length, at most all of them; always the first one.

    Args:
        file: The open video.
        per_second: How many frames of each second.

    Raises:
        BadVideoError: as `decode_frames`; what was yielded until then is right.
    """
    timed = ((float(frame.time), frame) for frame in _shown_frames(file))
    for number, seconds, frame in _sample(timed, per_second):
        if frame.width * frame.height > MAX_PIXELS:
            raise BadVideoError(f"frame {number}: more than {MAX_PIXELS / 1e6:.0f} megapixels")
        yield SampledFrame(number, seconds, frame.to_ndarray(format="rgb24"))


def sample_numbers(file: BinaryIO, per_second: float) -> list[int]:
    """Return the numbers of the frames that `sample_frames` yields, by the video's own table of times.

    Nothing is decoded, so that damage inside a frame is not seen.

    Args:
        file: The open video.
        per_second: How many frames of each second.

    Raises:
        BadVideoError: it is no video that can be decoded, or its frames carry no times.
    """
    with _open_stream(file) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        if any(packet.pts is None for packet in packets):
            raise BadVideoError(_NO_TIMES)
        times = sorted(float(packet.pts * packet.time_base) for packet in packets)
    return [number for number, _, _ in _sample(((time, None) for time in times), per_second)]


def _sample(timed: Iterable[tuple[float, Frame]], per_second: float) -> Iterator[tuple[int, float, Frame]]:
    """Yield so many of the frames of each second: number, seconds from the first one, and the frame."""
    due = first = 0.0
    for number, (time, frame) in enumerate(timed):
        first = time if number == 0 else first
        seconds = time - first
        if seconds < due - 1e-6:  # a time base that cannot say 1/3 exactly
            continue
        due += (int((seconds - due) * per_second) + 1) / per_second  # a gap in the video is not made up for
        yield number, seconds, frame


@contextlib.contextmanager
def _open_stream(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the stream of a video.

    Raises:
        BadVideoError: there is none that can be decoded.
    """
    import av

    file.seek(0)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    try:
        with av.open(file, "r", options=options, metadata_errors="replace", buffer_size=_BLOCK) as container:
            stream: Any = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                raise BadVideoError("no video stream in it that can be decoded")
            yield container, stream
    except av.FFmpegError as error:
        raise BadVideoError(f"no MP4 video that can be decoded; {_REMUX} ({error.strerror})") from None


def _shown_frames(file: BinaryIO) -> Iterator[Any]:
    """Yield every frame that a player shows, in order."""
    import av

    count = 0
    with _open_stream(file) as (container, stream):
        stream.codec_context.options = _STRICT
        stream.codec_context.thread_type = "NONE"  # the order of errors must not depend on the machine
        pending: list[int] = []  # timestamps of the packets whose frame has not been shown
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        raise BadVideoError(_NO_TIMES)
                    heapq.heappush(pending, packet.pts)
                if packet.is_corrupt:
                    raise BadVideoError(f"cut off or damaged at or behind frame {count}")
                for frame in packet.decode():
                    if frame.is_corrupt or not pending or frame.pts != heapq.heappop(pending):
                        raise BadVideoError(_describe_loss(count))
                    yield frame
                    count += 1
        except av.FFmpegError as error:
            if not count:
                raise
            raise BadVideoError(f"damaged at or behind frame {count} ({error.strerror})") from None
        if pending:
            raise BadVideoError(_describe_loss(count))


def _describe_loss(frame: int) -> str:
    return f"damaged: frame {frame} is lost, and with it the count of those behind it"
