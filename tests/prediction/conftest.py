"""A small cache with a head in it, made once: three digits, train and val extracted, test not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import featcache
from featcache.extraction import Settings
from tests.conftest import ARCH, Nano, single_thread, write_images

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


@dataclass(frozen=True)
class Made:
    data: Path
    cache: Path
    head: str
    weights: Path

    @property
    def where(self) -> dict[str, object]:
        return {"data": str(self.data), "cache": self.cache}

    def images(self, split: str) -> list[str]:
        return sorted(str(path) for path in (self.data / split).rglob("*.png"))


@pytest.fixture(scope="session")
def made(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("asked")
    counts = {"train": {"0": 40, "1": 40, "2": 30}, "val": {"0": 9, "1": 8, "2": 8}, "test": {"0": 9, "1": 8, "2": 7}}
    data = write_images(root / "digits", counts)
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    for split in ("train", "val"):
        featcache.extract(split, data=str(data), cache=root / "cache", settings=Settings(device="cpu"), **trunk)
    fit = featcache.fit_head([0.05], data=str(data), cache=root / "cache", epochs=30, check_seconds=None, device="cpu")
    assert fit.best is not None
    return Made(data, root / "cache", fit.best.name, nano.weights)
