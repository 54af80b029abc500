"""A small real cache with a head in it, made once and copied for each test."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import featcache
from featcache import Settings
from tests.conftest import ARCH, Nano, single_thread, write_images

one_thread = pytest.fixture(autouse=True, scope="package")(single_thread)


@dataclass(frozen=True)
class Made:
    """A cache of its own for one test, and the images that it was made of."""

    cache: Path
    images: Path
    weights: Path

    @property
    def store(self) -> Path:
        return next((self.cache / "stores").iterdir())

    @property
    def shards(self) -> list[Path]:
        return sorted((self.store / "shards").glob("*.h5"))

    @property
    def where(self) -> dict[str, object]:
        return {"data": str(self.images), "cache": self.cache, "name": "digits"}

    def extract(self, split: str | None = None, *, batch_size: int = 4, **settings) -> list[featcache.Summary]:
        given = {"device": "cpu", "workers": 1, "batch_size": batch_size, "shard_rows": 4, **settings}
        return featcache.extract(
            split, **self.where, arch=ARCH, weights=str(self.weights), precision="fp32", settings=Settings(**given)
        )

    def loaded(self) -> dict[str, bytes]:
        return {split: featcache.load(split, **self.where).x.tobytes() for split in ("train", "val", "test")}


@pytest.fixture(scope="package")
def template(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """17 digits in three splits: five shards of at most 4 rows, one head."""
    here = tmp_path_factory.mktemp("made")
    write_images(here / "digits", {"train": {"0": 5, "1": 4}, "val": {"0": 2, "1": 2}, "test": {"0": 2, "1": 2}})
    made = Made(here / "cache", here / "digits", nano.weights)
    made.extract()
    featcache.fit_head(0.1, **made.where, epochs=2, check_seconds=None, device="cpu")
    return made


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    shutil.copytree(template.cache, tmp_path / "cache")
    return Made(tmp_path / "cache", template.images, template.weights)


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path, place: int | None = None) -> None:
    """Flip one bit in the middle of a file, or at `place`."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    overwrite(path, bytes(data))


Damage = Callable[[Made], None]
