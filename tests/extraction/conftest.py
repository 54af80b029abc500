"""A small folder of images, and extract and load for it."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import featcache
from featcache import Settings, Summary, machine
from tests.conftest import ARCH, Nano, write_images

Extract = Callable[..., Summary]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Fourteen images of three digits in one split."""
    return write_images(tmp_path / "digits", {"train": {"0": 6, "1": 5, "2": 3}})


@pytest.fixture
def extract(nano: Nano, tmp_path: Path) -> Extract:
    """Extract one split into tmp_path/cache on the CPU, one worker, batches of 4; options are settings, too."""

    def call(root: Path, split: str = "train", *, progress=lambda _: None, **options) -> Summary:
        names = {field.name for field in dataclasses.fields(Settings)}
        running = {name: options.pop(name) for name in names & options.keys()}
        settings = Settings(**{"device": "cpu", "workers": 1, "batch_size": 4, **running})
        given = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", **options}
        given["cache"] = tmp_path / given.get("cache", "cache")
        return featcache.extract(split, data=str(root), settings=settings, progress=progress, **given)[0]

    return call


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., featcache.Features]:
    def call(root: Path, split: str = "train", **options) -> featcache.Features:
        return featcache.load(split, data=str(root), **{"cache": tmp_path / "cache", **options})

    return call


@pytest.fixture
def two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two of this machine's cores, each described as a domain of its own, as the system would."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip("one core")
    for number, core in enumerate(usable[:2]):
        (tmp_path / f"nodes/node{number}").mkdir(parents=True)
        (tmp_path / f"nodes/node{number}/cpulist").write_text(f"{core}\n")
    monkeypatch.setattr(machine, "NODES", tmp_path / "nodes")
    return tmp_path / "nodes"
