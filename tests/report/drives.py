"""A cache of drives: Drive&Act's classes, people, clips, and pictures that say what they are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import featcache
from featcache.files.stat_log import StatLog
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from tests.builders import DRIVE_ACT, digests, extracted, listing, new_store, reopen

PICTURES = 12  # different ones of each class
DIM = 24
CLIP = 40  # frames
RECIPE = """
name = "drives"
[data]
layout = "drive-act"
root = "nowhere"
view = "kinect_color"
fold = 0
"""


@dataclass(frozen=True)
class Drives:
    """Where they lie."""

    root: Path
    cache: Path


def colour(label: int, number: int) -> tuple[int, int, int]:
    """The one colour of a picture: its class in red, its number in green."""
    return 7 * label + 8, 20 * number + 8, 120


def write_pictures(root: Path, classes: tuple[str, ...], size: tuple[int, int] = (96, 54)) -> None:
    for label in range(len(classes)):
        (root / f"class{label:02d}").mkdir(parents=True, exist_ok=True)
        for number in range(PICTURES):
            Image.new("RGB", size, colour(label, number)).save(root / f"class{label:02d}" / f"img_{number:06d}.png")


def write_drives(folder: Path, classes: tuple[str, ...] = DRIVE_ACT, *, rows: int = 80_000, people: int = 5) -> Drives:
    """Three splits of `rows` in all in test, people of their own in each, a class that test lacks, pictures on disk."""
    root, cache = folder / "drives", folder / "cache"
    write_pictures(root / "test", classes)
    store = new_store(cache)
    random = np.random.default_rng(5)
    centres = random.standard_normal((len(classes), DIM)).astype(np.float32)
    share = np.geomspace(1, 0.02, len(classes))
    share = random.permutation(share) / share.sum()
    with store.writer() as writer:
        for place, (split, count) in enumerate((("train", rows // 8), ("val", rows // 16), ("test", rows))):
            chance = share.copy()
            chance[min(12, len(classes) - 1)] *= split == "train"
            clips = -(-count // CLIP)
            label = np.concatenate(
                [np.flatnonzero(chance), random.choice(len(classes), clips, p=chance / chance.sum())]
            )
            y = np.repeat(label[:clips], CLIP)[:count]
            clip = np.arange(count) // CLIP
            person = random.integers(0, people, clips)[clip]
            effect = 0.55 * random.standard_normal((people, len(classes), DIM))
            x = centres[y] + effect[person, y] + 1.5 * random.standard_normal((count, DIM)) * (0.6 + share[y, None] * 3)
            names = digests(f"{split}{row}" for row in range(count))
            writer.append(names, x.astype(np.float32))
            drives = listing(
                y, split=split, data_set="drives", root=str(root), classes=classes,
                paths=tuple(
                    f"{split}/class{one:02d}/img_{row % PICTURES:06d}.png" for row, one in enumerate(y.tolist())
                ),
                clips=tuple(f"{split}-run{number // 40}-{number}" for number in clip.tolist()),
                subjects=tuple(f"vp{place * 20 + one + 1}" for one in person.tolist()),
            )  # fmt: skip
            writer.commit(extracted(drives, names))
    reopen(store)
    return Drives(root, cache)


def write_folds(folder: Path, rows: int = 3000) -> dict[str, object]:
    """Three folds of Drive&Act's layout in one store, each with a head of its own; returned is where they lie."""
    made = write_drives(folder, rows=rows)
    (folder / "drives.toml").write_text(RECIPE)
    (root,) = (made.cache / "stores").iterdir()
    store = FeatureStore.open(root, StatLog(made.cache))
    with store.writer() as writer:
        for split in ("train", "val", "test"):
            whole = store.listing(("drives", "all", split))
            for fold in range(3):
                chosen = np.flatnonzero(np.arange(len(whole.listing)) // 40 % 4 != fold)
                part = whole.listing.take(chosen)
                cut = type(part)(**{name: getattr(part, name) for name in part.__slots__}
                                 | {"variant": f"fold{fold}-kinect_color-all", "root": "/nowhere"})  # fmt: skip
                reasons = tuple(whole.reasons[row] for row in chosen)
                writer.commit(ExtractedListing(cut, whole.digests[chosen], reasons))
    where = {"pipeline": str(folder / "drives.toml"), "data": "/nowhere", "cache": made.cache}
    for fold in range(3):
        recipe = folder / f"fold{fold}.toml"
        recipe.write_text(RECIPE.replace("fold = 0", f"fold = {fold}"))
        featcache.fit_head(
            0.1, pipeline=str(recipe), data="/nowhere", cache=made.cache, epochs=2, device="cpu", check_seconds=None
        )
    return where
