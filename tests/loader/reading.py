"""What tests of the loader share: files that are pictures, reading all of them, and the living child processes."""

import contextlib
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featcache.loader import ImageRead, read_images
from featcache.media import ImageTransform, encode_png

TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


linux = pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")


def everything(_digest: bytes) -> bool:
    return True


def written(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """`count` different pictures."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04d}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, start=first):
        path.write_bytes(encode_png(np.random.default_rng(number).integers(0, 256, (33, 45), dtype=np.uint8)))
    return [str(path) for path in paths]


def read_all(paths, wanted=everything, *, workers=2, ahead=4) -> list[ImageRead]:
    """Everything that was read, the pixels copied out of the memory that is used again."""
    with contextlib.closing(read_images(paths, TRANSFORM, wanted, workers=workers, ahead=ahead)) as images:
        return [replace(found, pixels=None if found.pixels is None else found.pixels.copy()) for found in images]


def sha256(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def children(parent: int | None = None) -> set[int]:
    """Living child processes, zombies not counted."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, above = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == (parent or os.getpid()) and state != "Z":
                found.add(int(entry.name))
    return found
