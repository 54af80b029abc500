"""Data sets of one name, and stores of them, without images and without a trunk."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.files.stat_log import StatLog
from featcache.listing.sources import list_data_settings, resolve_source
from featcache.recipe.recipe import Recipe, check_recipe
from featcache.store.index import digest_column
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from tests.builders import new_store

STAGE_TWO: dict[str, Callable[..., object]] = {
    "load": lambda **where: featcache.load("train", **where),
    "stream": lambda **where: featcache.stream("train", **where),
    "fit_head": lambda **where: featcache.fit_head(0.1, epochs=1, check_seconds=None, **where),
    "fit": lambda **where: featcache.fit("ridge", {"alpha": 1.0}, **where),
    "evaluate": lambda **where: featcache.evaluate(**where),
    "evaluate_pair": lambda **where: featcache.evaluate_pair(None, "lr", **where),
    "compare": lambda **where: featcache.compare(**where),
    "predict": lambda **where: featcache.predict("best", ["/nowhere/x.png"], **where),
    "near_duplicates": lambda **where: featcache.near_duplicates(0.9, **where),
}


def photos(root: Path, content: str = "", classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Files that stand for images: `content` makes them others; their names are the same everywhere."""
    for split in ("train", "val", "test"):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.png").write_bytes(f"{content} {split} {name} {number}".encode())
                os.utime(folder / f"{number}.png", ns=(10**18, 10**18))
    return root


def recipe_of(root: Path, **sections: object) -> Recipe:
    return check_recipe({"name": "photos", "data": {"root": str(root)}, **sections}, where="a test")


def record(cache: Path, recipe: Recipe, *, sha256: str = "ab" * 32, asked: str = "nano.pth", **spec) -> FeatureStore:
    """Extract a recipe's data set as `featcache extract` does, but for the trunk."""
    store = new_store(cache, asked=asked, weights_sha256=sha256, **spec)
    laid = resolve_source(recipe)
    for split in laid.splits():
        listing = laid.listing(split)
        listing = replace(listing, settings=list_data_settings(recipe, videos=listing.videos))
        digests = digest_column([hashlib.sha256(Path(file).read_bytes()).digest() for file in listing.files()])
        with store.writer() as writer:
            x = np.array([np.frombuffer(digest.tobytes()[:16], np.uint8) for digest in digests], np.float32)
            writer.append(digests, x)
            writer.commit(ExtractedListing(listing, digests, ("",) * len(listing)))
    return FeatureStore.open(store.root, StatLog(cache))


def write_recipe(path: Path, root: Path, trunk: str = "", data: str = "") -> str:
    path.write_text(f'name = "photos"\n[data]\nroot = "{root}"\n{data}\n[trunk]\n{trunk}\n')
    return str(path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
