"""A cache of drives: Drive&Act's classes, people, clips, and pictures that say what they are."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featcache.files import StatLog
from featcache.listing.listing import Listing
from featcache.store import Extracted, FeatureStore, create
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec
from tests.report.test_terminal import DRIVE_ACT

PICTURES = 12  # different ones of each class
DIM = 24
CLIP = 40  # frames


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
    arch = architecture("vit_nano_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="ab" * 32, transform=arch.transform)
    store = create(cache, spec, asked="nano.pth", known=StatLog(cache))
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
            digests = np.frombuffer(
                b"".join(hashlib.sha256(f"{split}{row}".encode()).digest() for row in range(count)), np.uint8
            ).reshape(count, 32)
            writer.append(digests, x.astype(np.float32))
            listing = Listing(
                data_set="drives", variant="all", split=split, root=str(root), classes=classes,
                labels=y.astype(np.int64),
                paths=tuple(
                    f"{split}/class{one:02d}/img_{row % PICTURES:06d}.png" for row, one in enumerate(y.tolist())
                ),
                clips=tuple(f"{split}-run{number // 40}-{number}" for number in clip.tolist()),
                subjects=tuple(f"vp{place * 20 + one + 1}" for one in person.tolist()),
            )  # fmt: skip
            writer.commit(Extracted(listing, digests, ("",) * count))
    FeatureStore.open(store.root, StatLog(cache))
    return Drives(root, cache)
