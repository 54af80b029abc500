"""What the tests share: real images, and a small real trunk whose weights lie in a file as a user's would."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("featcache", deadline=None)  # nothing here is a timed test
settings.load_profile("featcache")

# numba looks for changes in the file of a compiled function alone (`heads.training.kernels`): what the tests run is
# what stands there now. It reads this when it is imported, in our processes too.
_LOOPS = sorted((Path(__file__).parents[1] / "featcache" / "heads" / "training" / "kernels").glob("*.py"))
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _LOOPS)).hexdigest()[:16]
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "numba" / _STAMP)

SHARED = Path(__file__).parents[2] / "shared" / "data"
ARCH = "vit_nano_16"


@dataclass(frozen=True)
class Nano:
    """The small trunk: `weights` is a state dict that torchvision's own class saved."""

    weights: Path
    flags: tuple[str, ...]


def single_thread() -> Iterator[None]:
    """For a fixture: trunks and heads of tests are so small that a second thread only waits, for seconds where the
    machine is busy.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Nano:
    import torch

    from featcache.trunks.architectures import architecture
    from featcache.trunks.weights import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        arch = architecture(ARCH)
        built = build_network(arch, arch.transform.crop)
        state = {name: value + 0.1 * torch.randn_like(value) for name, value in built.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "nano.pth"
    torch.save(state, path)
    os.utime(path, ns=(10**18, 10**18))  # an old file: its stat is trusted at once
    return Nano(path, ("--arch", ARCH, "--weights", str(path), "--precision", "fp32"))


def scans() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 8, 8) uint8 grey scans of handwritten digits and their labels; they ship with scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def write_images(root: Path, counts: Mapping[str, Mapping[str, int]], *, kind: str = "png") -> Path:
    """`counts[split][class]` different scans, as `<root>/<split>/<class>/<number>.<kind>`; class "3" holds threes."""
    pictures, labels = scans()
    used: dict[str, int] = {}
    for split, classes in counts.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            digit = int(name) if name.isdecimal() else sum(map(ord, name)) % 10
            rows = np.flatnonzero(labels == digit % 10)
            for _ in range(count):
                number = used.get(name, 0)
                used[name] = number + 1
                picture = Image.fromarray(pictures[rows[number % len(rows)]]).resize((32 + number % 5, 32))
                picture.save(root / split / name / f"{number:04d}.{kind}")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small image folder: three digits, three splits."""
    counts = {"train": {"0": 12, "1": 10, "2": 6}, "val": {"0": 4, "1": 4, "2": 3}, "test": {"0": 5, "1": 4, "2": 3}}
    return write_images(tmp_path / "digits", counts)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Type a featcache command in a process of its own, in an empty folder, with nothing of ours in its environment."""
    here = tmp_path / "here"
    here.mkdir()

    def typed(*words: object, **environment: str) -> Ran:
        command = [sys.executable, "-W", "error::ResourceWarning", "-m", "featcache", *map(str, words)]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FEATCACHE_")}
        done = subprocess.run(command, capture_output=True, cwd=here, env={**kept, **environment}, check=False)
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    return typed


@pytest.fixture(scope="session")
def hymenoptera() -> Path:
    """Ants and bees: 398 real photographs, where the shared data stands beside the checkout."""
    root = SHARED / "hymenoptera"
    if not root.is_dir():
        pytest.skip("../shared/data/hymenoptera is not here")
    return root


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an S3-compatible server on loopback, one for the whole session."""
    from tests.object_server import object_server

    with object_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket_url(object_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache in a new bucket of the server, which this process can reach."""
    from tests.object_server import make_bucket, use_endpoint

    use_endpoint(object_store, monkeypatch.setenv)
    return f"s3://{make_bucket(object_store)}/features"
