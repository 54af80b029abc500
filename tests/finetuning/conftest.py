"""Small trainings: three digits and the small trunk, with the head that a training may start from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import featcache
from tests.conftest import ARCH, Nano, single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)

TRUNK_SETTINGS = {"arch": ARCH, "precision": "fp32"}
Finetune = Callable[..., featcache.Finetuned]


@pytest.fixture
def places(folder: Path, nano: Nano, tmp_path: Path) -> dict[str, str]:
    """The data set and the cache, as every function takes them."""
    return {"data": str(folder), "cache": str(tmp_path / "cache")}


@pytest.fixture
def trained_head(places: dict[str, str], nano: Nano) -> featcache.Fit:
    """A linear head on the frozen trunk, which the library's own forward would give, too."""
    settings = featcache.Settings(engine="eager", workers=1)
    featcache.extract(settings=settings, weights=str(nano.weights), **TRUNK_SETTINGS, **places)
    return featcache.fit_head(lr=0.1, epochs=3, batch_size=8, check_seconds=None, **places)


@pytest.fixture
def finetune(places: dict[str, str], nano: Nano) -> Finetune:
    """Fine-tune the small trunk for three epochs of four batches; with these settings in place of ours."""

    def call(**settings: Any) -> featcache.Finetuned:
        small = {"epochs": 3, "batch_size": 8, "workers": 1, "device": "cpu"}
        start = str(settings.get("start", ""))
        trunk = {} if start.startswith("head") else {"weights": str(nano.weights), **TRUNK_SETTINGS}
        return featcache.finetune(**{**small, **trunk, **places, **settings})

    return call
