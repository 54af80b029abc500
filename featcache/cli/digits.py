"""The whole way on images that need no download: 500 of scikit-learn's digits, which are real 8x8 scans."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import MachineError
from featcache.media import encode_png
from featcache.trunks import architecture, is_reachable

IMAGES = {"train": 300, "val": 100, "test": 100}
PROBE_SECONDS = 5.0
ARCH, WEIGHTS = "vit_b_16", "IMAGENET1K_V1"


@dataclass(frozen=True, slots=True)
class Command:
    """One command line: as a person types it."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("featcache", *self.words))

    @property
    def argv(self) -> list[str]:
        """The same, run by this Python."""
        return [sys.executable, "-m", "featcache", *self.words]


def write_digits(root: Path, seed: int = 0) -> None:
    """Write the images as `<root>/<split>/<digit>/<number>.png`, stratified, always the same ones.

    Raises:
        MachineError: the folder cannot be written.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0 … 16
    rest = np.arange(len(scans))
    scratch = root.with_name(f".{root.name}.partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        for split, count in IMAGES.items():
            chosen, rest = train_test_split(rest, train_size=count, random_state=seed, stratify=digits.target[rest])
            for number in np.sort(chosen):
                path = scratch / split / str(digits.target[number]) / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(scans[number]))
        scratch.rename(root)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise MachineError(f"{root}: the demo's images cannot be written: {error.strerror}") from None


def pretrained() -> bool:
    """Whether the published weights can be had: on disk already, or from a server that answers within 5 s."""
    return is_reachable(architecture(ARCH), WEIGHTS, PROBE_SECONDS)


def commands(*, trained: bool) -> Iterator[Command]:
    """What the demo types."""
    extra = ("--weights", WEIGHTS if trained else "random")
    yield Command(("extract", "--pipeline", "digits", *extra))
    yield Command(("fit-head", "--pipeline", "digits", *extra))
    yield Command(("report", "--pipeline", "digits", *extra))
