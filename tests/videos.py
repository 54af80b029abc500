"""Videos made of real photographs, in the ways that encoders make them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

RATE = 15
TICKS = 1000  # a frame's duration in the time base of the videos made here


def pictures(count: int, *, size: tuple[int, int] = (96, 64), first: int = 0) -> list[np.ndarray]:
    """`count` different views of the two photographs that ship with scikit-learn, (height, width, 3) uint8."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # 640x427
    width, height = size
    found = []
    for number in range(first, first + count):  # a camera that pans, so that an encoder uses what frames have in common
        left, top = 7 * number % (640 - 2 * width), 4 * number % (427 - 2 * height)
        view = photographs[number // 20 % 2].crop((left, top, left + 2 * width, top + 2 * height))
        found.append(np.asarray(view.resize(size)))
    return found


def write_video(
    path: Path,
    shown: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A video of these pictures at these times (in ticks; ascending); one every TICKS where none are named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = shown[0].shape
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE * TICKS)
        for number, pixels in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (times or range(0, 10**9, TICKS))[number], Fraction(1, RATE * TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def remux(path: Path, to: Path, *, shift: int) -> Path:
    """The same packets, each `shift` frames later: above 0 the edit starts late, below 0 it hides frames."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path)) as file, av.open(str(to), "w") as out:
        stream = file.streams.video[0]
        copy = out.add_stream_from_template(stream)
        offset = round(shift / RATE / stream.time_base)
        for packet in file.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, copy
                out.mux(packet)
    return to


def nearest(pixels: np.ndarray, shown: Sequence[np.ndarray]) -> int:
    """Which of the pictures this decoded frame shows."""
    return int(np.argmin([np.abs(pixels.astype(int) - picture).mean() for picture in shown]))
