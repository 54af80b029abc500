"""A data set, a cache, and what must hold of the cache whatever was done to it."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

import featcache
from featcache import Features, Settings, Summary
from featcache.files import StatLog
from featcache.store import FeatureStore, Problem, find_stores, shard
from featcache.store.commits import LOG_NAME
from tests.conftest import ARCH

KEY = ("digits", "all", "train")  # of the listing that a world's train split is


@dataclass(frozen=True)
class World:
    """Images, a cache of them, and the features that an undisturbed run gives."""

    images: Path
    cache: Path
    weights: Path
    truth: dict[str, Features] = field(default_factory=dict)  # by split
    shard_rows: int = 2

    @classmethod
    def undisturbed(cls, images: Path, cache: Path, weights: Path, *, shard_rows: int = 2) -> "World":
        world = cls(images, cache, weights, {}, shard_rows)
        for summary in world.extract(None):
            world.truth[summary.split] = world.load(summary.split)
        return world

    def at(self, cache: Path) -> "World":
        """The same images with another cache."""
        return replace(self, cache=cache)

    @property
    def store(self) -> Path:
        (found,) = (self.cache / "stores").iterdir()
        return found

    @property
    def shards(self) -> list[Path]:
        return sorted((self.store / "shards").glob("*.h5"))

    @property
    def listing_file(self) -> Path:
        (found,) = (self.cache / "listings").rglob("train-*.h5")
        return found

    def extract(self, split: str | None = "train", *, progress=lambda _: None, **options) -> list[Summary]:
        names = Settings.__dataclass_fields__
        running = {name: options.pop(name) for name in list(options) if name in names}
        given = {"arch": ARCH, "weights": str(self.weights), "precision": "fp32", **options}
        settings = Settings(
            **{"device": "cpu", "workers": 1, "batch_size": 2, "shard_rows": self.shard_rows, **running}
        )
        return featcache.extract(
            split, data=str(self.images), cache=self.cache, settings=settings, progress=progress, **given
        )

    def load(self, split: str = "train", **options) -> Features:
        return featcache.load(split, data=str(self.images), cache=self.cache, **options)

    def verify(self) -> list[Problem]:
        return featcache.verify(cache=self.cache) if self.cache.is_dir() else []

    def committed(self) -> dict[bytes, bytes]:
        """Digest -> embedding of every committed row, read with every hash checked."""
        rows: dict[bytes, bytes] = {}
        for store in find_stores(self.cache, StatLog(self.cache / "nothing")):
            digests = np.concatenate([np.empty((0, 32), np.uint8), *(_digests(store, part) for part in store.shards)])
            for digest, row in zip(digests, store.load(digests), strict=True):
                rows[digest.tobytes()] = row.tobytes()
        return rows

    def complete(self) -> None:
        """Run to the end, and hold what `load` returns against the undisturbed run, byte for byte."""
        for split in self.truth:
            self.extract(split)
            self.same(split)
        assert self.verify() == []
        assert not (self.cache / "stores").is_dir() or litter(self.cache / "stores") == []

    def same(self, split: str = "train") -> None:
        found, expected = self.load(split), self.truth[split]
        assert found.x.tobytes() == expected.x.tobytes()
        assert found.y.tobytes() == expected.y.tobytes()
        assert (found.paths, found.classes, found.clips) == (expected.paths, expected.classes, expected.clips)


def _digests(store: FeatureStore, part) -> np.ndarray:
    return shard.read_digests(store.shard_folder, part)


def litter(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.partial"))


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def digests_in_order(store: FeatureStore) -> list[bytes]:
    return [row.tobytes() for part in store.shards for row in shard.read_digests(store.shard_folder, part)]


def paint(path: Path, seed: int, kind: str = "BMP") -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


def row_of(world: World, path: str) -> bytes:
    features = world.load()
    return features.x[features.paths.index(path)].tobytes()


def lines_of(world: World) -> list[bytes]:
    return (world.store / LOG_NAME).read_bytes().splitlines(keepends=True)


def write_lines(world: World, lines: list[bytes]) -> None:
    overwrite(world.store / LOG_NAME, b"".join(lines))
