"""Which of the packages that take long to import a command imports: those that it needs, and no other.

A command that fails here imports one that it did without: look with `python -X importtime -m featcache …` who does.
Import that package inside the function that needs it, or a name that only an annotation needs under `TYPE_CHECKING`.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import featcache
from featcache.extraction import Settings
from tests.conftest import Nano, write_images

# Milliseconds of processor time, with what a package imports itself, but NumPy; 2 cores of an Intel Xeon that
# others used too, Python 3.11, 2026-11-30.
COSTS = {
    "numpy": 100, "h5py": 30, "rich": 40, "pydantic": 50, "filelock": 50, "safetensors": 10, "PIL": 20, "jinja2": 60,
    "av": 80, "pyarrow": 30, "onnx": 90, "scipy": 220, "optuna": 250, "matplotlib": 470, "llvmlite": 50, "numba": 230,
    "sklearn": 1120, "torch": 1840, "torchvision": 3580, "skops": 3660,
}  # fmt: skip
RECIPE = {"numpy", "pydantic", "rich", "filelock", "h5py"}  # a data set, a cache and a table of what is in them
HEAD = RECIPE | {"safetensors"}
TRAINING = HEAD | {"torch", "numba", "llvmlite", "scipy"}  # the loops; numba looks for SciPy's BLAS
ALLOWED = {
    "--help": set(),
    "data": RECIPE,
    "extract": RECIPE | {"PIL"},  # of images that the cache holds
    "compare --split test": HEAD,
    "report": HEAD | {"scipy"},  # intervals
    "predict best STORED": HEAD | {"PIL"},
    "predict best NEW": HEAD | {"PIL", "torch"},
    "fit-head --no-check": TRAINING,
    "fit-head": TRAINING,  # and SciPy for the check's intervals on val
}


@dataclass(frozen=True)
class Prepared:
    """A cache with a head, and an image that it does not hold."""

    data: Path
    new: Path
    flags: tuple[str, ...]


@pytest.fixture(scope="module")
def prepared(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("imports")
    counts = {"train": {"0": 8, "1": 8}, "val": {"0": 3, "1": 3}, "test": {"0": 3, "1": 3}, "new": {"0": 1}}
    data = write_images(root / "digits", counts)
    new = next((data / "new").rename(root / "new").rglob("*.png"))
    where = {"data": str(data), "cache": root / "cache"}
    trunk = dict(zip(("arch", "weights", "precision"), nano.flags[1::2], strict=True))
    for split in ("train", "val", "test"):
        featcache.extract(split, **where, **trunk, settings=Settings(device="cpu"))
    featcache.fit_head(0.05, **where, epochs=2, check_seconds=None, device="cpu")
    return Prepared(data, new, ("--data", str(data), "--cache", str(root / "cache")))


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_imports_only_what_it_needs(command: str, prepared: Prepared, nano: Nano) -> None:
    """Of the packages that take long to import, a command imports none beside those that are allowed to it."""
    stored = next((prepared.data / "train").rglob("*.png"))
    words = command.replace("STORED", str(stored)).replace("NEW", str(prepared.new)).split()
    flags = () if command == "--help" else prepared.flags[:2] if command == "data" else prepared.flags
    trunk = nano.flags if command == "extract" else ()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "featcache", *words, *flags, *trunk], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {name: COSTS[name] for name in COSTS.keys() & imported - ALLOWED[command]} == {}
