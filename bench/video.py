"""python bench/video.py

On a 2-core AMD EPYC, 2026-11-25, two videos of 300 frames: 184 frames a second out of videos, 63 out of PNG files
(medians of three alternating runs), 2.9 times as fast; 2.4 kB a frame on disk beside 539.

Frames of 960x540 to the trunk's input, the start of two worker processes and the hashing included: out of the videos
(H.264, as Drive&Act's are), and out of a folder of PNG files of the very same frames. Both give the same pixels, which
is checked. The pictures are cut from the two photographs that ship with scikit-learn, as a camera would pan over them.
Beside it: what the decoder alone does in one process, with and without turning frames into RGB; and the disk of each.
"""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from machine import Result, alternate, document, table
from PIL import Image
from sklearn.datasets import load_sample_images

from featcache.loader import ImageRead, read_frames, read_images
from featcache.media import ImageTransform
from featcache.media.video import decode_frames
from featcache.trunks.architectures import architecture

WIDTH, HEIGHT, RATE = 960, 540, 15
TRANSFORM: ImageTransform = architecture("vit_b_16").transform
WORKERS, AHEAD = 2, 128


def views(count: int, number: int) -> Iterator[np.ndarray]:
    """`count` frames of a camera that pans, with a little noise, as a sensor has."""
    chance = np.random.default_rng(number)
    photograph = Image.fromarray(load_sample_images().images[number % 2]).resize((2 * WIDTH, 1281))
    for at in range(count):
        left, top = 3 * at % WIDTH, 2 * at % (1281 - HEIGHT)
        view = np.asarray(photograph.crop((left, top, left + WIDTH, top + HEIGHT)), dtype=np.int16)
        yield np.clip(view + chance.integers(-3, 4, view.shape, dtype=np.int16), 0, 255).astype(np.uint8)


def film(path: Path, count: int, number: int) -> Path:
    """One video of these frames, as libx264 makes it by default, with B-frames."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for at, pixels in enumerate(views(count, number)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def pngs(video: Path, folder: Path, count: int) -> list[str]:
    """Every frame as a PNG file."""
    folder.mkdir()
    paths = [folder / f"img_{at:06d}.png" for at in range(count)]
    with video.open("rb") as file:
        for at, pixels in decode_frames(file, range(count)):
            Image.fromarray(pixels).save(paths[at])
    return list(map(str, paths))


def everything(_digest: bytes) -> bool:
    return True


def all_of(found: Generator[ImageRead, None, None]) -> dict[int, int]:
    """What was read: the sum of each frame's pixels, by its place."""
    with contextlib.closing(found) as images:
        return {image.index: int(image.pixels.sum()) for image in images if image.pixels is not None}


def decode_alone(videos: list[Path], count: int, *, rgb: bool) -> None:
    for path in videos:
        with path.open("rb") as file:
            if rgb:
                for _ in decode_frames(file, range(count)):
                    pass
            else:
                with contextlib.suppress(StopIteration):
                    next(iter(decode_frames(file, [count - 1])))


def measure(count: int, runs: int) -> tuple[list[Result], dict[str, float]]:
    scratch = Path(tempfile.mkdtemp(prefix="featcache-bench-"))
    try:
        videos = [film(scratch / f"{number}.mp4", count, number) for number in range(2)]
        files = [path for video in videos for path in pngs(video, scratch / video.stem, count)]
        places = [(str(video), at) for video in videos for at in range(count)]

        def of_videos() -> dict[int, int]:
            return all_of(read_frames(places, TRANSFORM, everything, known={}, workers=WORKERS, ahead=AHEAD))

        def of_files() -> dict[int, int]:
            return all_of(read_images(files, TRANSFORM, everything, workers=WORKERS, ahead=AHEAD))

        if of_videos() != of_files():
            raise SystemExit("the two ways give other pixels")
        timed = alternate(
            {
                "videos": of_videos,
                "PNG files": of_files,
                "decoding alone, one process": lambda: decode_alone(videos, count, rgb=False),
                "… and RGB": lambda: decode_alone(videos, count, rgb=True),
            },
            runs,
        )
        frames = len(places)
        rates = [Result(r.name, "frames/s", frames / r.median, frames / r.max, frames / r.min, r.runs) for r in timed]
        disk = {
            "disk, videos": sum(video.stat().st_size for video in videos) / frames / 1e3,
            "disk, PNG files": sum(Path(path).stat().st_size for path in files) / frames / 1e3,
        }
        results = rates + [Result.of(name, "kB/frame", [value]) for name, value in disk.items()]
        ratios = {
            "videos_vs_pngs": timed[1].median / timed[0].median,
            "disk_pngs_vs_videos": disk["disk, PNG files"] / disk["disk, videos"],
        }
        return results, ratios
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="frames a second out of videos, and out of PNG files")
    parser.add_argument("--frames", type=int, default=300, help="of each of two videos")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results, ratios = measure(asked.frames, asked.runs)
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
