"""Small trainings: three digits and the small trunk, with the head that a training may start from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import featcache
from tests.conftest import ARCH, Nano, single_thread, write_images

one_thread = pytest.fixture(autouse=True)(single_thread)

TRUNK_SETTINGS = {"arch": ARCH, "precision": "fp32"}
COUNTS = {"train": {"0": 12, "1": 10, "2": 6}, "val": {"0": 4, "1": 4, "2": 3}, "test": {"0": 5, "1": 4, "2": 3}}
Finetune = Callable[..., featcache.Finetuned]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data set and the cache, as every function takes them."""
    root = tmp_path_factory.mktemp("finetuning")
    return {"data": str(write_images(root / "digits", COUNTS)), "cache": str(root / "cache")}


@pytest.fixture(scope="module")
def trained_head(places: dict[str, str], nano: Nano) -> featcache.Fit:
    """A linear head on the frozen trunk, which the library's own forward would give, too."""
    settings = featcache.Settings(engine="eager", workers=1)
    featcache.extract(settings=settings, weights=str(nano.weights), **TRUNK_SETTINGS, **places)
    return featcache.fit_head(lr=0.1, epochs=3, batch_size=8, check_seconds=None, **places)


@pytest.fixture(scope="module")
def finetune(places: dict[str, str], nano: Nano) -> Finetune:
    """Fine-tune the small trunk for three epochs of four batches; with these settings in place of ours."""

    def call(**settings: Any) -> featcache.Finetuned:
        small = {"epochs": 3, "batch_size": 8, "workers": 1, "device": "cpu"}
        start = str(settings.get("start", ""))
        weights = {} if start == "scratch" else {"weights": str(nano.weights)}
        trunk = {} if start.startswith("head") else {**weights, **TRUNK_SETTINGS}
        return featcache.finetune(**{**small, **trunk, **places, **settings})

    return call


@pytest.fixture
def other_cache(tmp_path: Path) -> str:
    """A cache of the test's own."""
    return str(tmp_path / "cache")
