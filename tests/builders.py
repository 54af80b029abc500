"""What tests build over and over: trunk specs, listings, stores, splits of features, heads, annotation files."""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

import featcache
from featcache.features.in_memory import Features
from featcache.files.stat_log import StatLog
from featcache.heads.config import HeadConfig
from featcache.heads.fit_linear import Fit
from featcache.heads.linear import EpochRow, LinearHead, Scores
from featcache.listing.listing import Listing
from featcache.listing.sources import resolve_source
from featcache.metrics.groups import Doubles, GroupCounts
from featcache.recipe.recipe import Recipe
from featcache.store.catalog import create_store
from featcache.store.index import pack_digests
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

DIM = 6
CLASSES = ("ant", "bee", "cat")
ODD_CLASSES = ("ant", 'a "bee", or two', "caf\udce9")  # the last as os.fsdecode gives a name that is no UTF-8
SOURCE = {"data_set": "toy", "variant": "all", "root": "/data/toy", "trunk": "ab", "listing": "cd"}
DRIVE_ACT = (
    "closing_bottle", "closing_door_inside", "closing_door_outside", "closing_laptop", "drinking", "eating",
    "entering_car", "exiting_car", "fastening_seat_belt", "fetching_an_object", "interacting_with_phone",
    "looking_or_moving_around (e.g. searching)", "opening_backpack", "opening_bottle", "opening_door_inside",
    "opening_door_outside", "opening_laptop", "placing_an_object", "preparing_food",
    "pressing_automation_button", "putting_laptop_into_backpack", "putting_on_jacket",
    "putting_on_sunglasses", "reading_magazine", "reading_newspaper", "sitting_still",
    "taking_laptop_from_backpack", "taking_off_jacket", "taking_off_sunglasses", "talking_on_phone",
    "unfastening_seat_belt", "using_multimedia_display", "working_on_laptop", "writing",
)  # fmt: skip
HOSTILE = (
    "a\nb", "[bold]loud[/bold]", "[/]", "\x1b[31mred\x1b[0m", "\x9b31m", "\u202etxt", "\u200bnothing",
    "caf\udce9", "漢字クラス" * 9, "🐜🐝", "x" * 300, "\t=cmd", ":smile:", "é" * 40,
)  # fmt: skip
DRIVE_ACT_HEADER = "participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id"
OBJECT_HEADER = "participant_id,file_id,annotation_id,frame_start,frame_end,activity,object,location,chunk_id"

Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # x (rows, dim) and the labels y (rows,)


# Splits and groups


def find_recipe_splits(recipe: Recipe) -> list[str]:
    """Return the splits that a recipe's data set has, and those that the recipe asks for."""
    return resolve_source(recipe).splits()


def list_split(recipe: Recipe, split: str, assigned: Mapping[str, str] | None = None) -> Listing:
    """Return the rows of one split, as the recipe lays them out; `assigned` is as for `resolve_source`."""
    return resolve_source(recipe, assigned or {}).listing(split)


def dense_groups(unit: str, hits: Doubles, support: Doubles, count: npt.NDArray[np.int64]) -> GroupCounts:
    """Return the groups of dense counts, both (kinds, heads, classes)."""
    kinds, heads, _ = hits.shape
    return GroupCounts(unit, heads, csr_array(hits.reshape(kinds, -1)), csr_array(support.reshape(kinds, -1)), count)


# Trunks and stores


def trunk_spec(**changes: Any) -> TrunkSpec:
    """Return the spec of the small trunk, with these fields changed."""
    arch = architecture("vit_nano_16")
    fields = {"arch": arch.name, "weights_sha256": "ab" * 32, "transform": arch.transform}
    return TrunkSpec(**{**fields, **changes})


def new_store(cache: Path, *, asked: str = "nano.pth", **changes: Any) -> FeatureStore:
    """Return the empty store of `trunk_spec(**changes)`, or the one that the cache has already."""
    return create_store(cache, trunk_spec(**changes), weights_name=asked, stat_log=StatLog(cache))


def reopen(store: FeatureStore) -> FeatureStore:
    """Return the store as the next process opens it, with all that was written since."""
    return FeatureStore.open(store.root, StatLog(store.cache))


def digests(contents: Iterable[bytes | str]) -> npt.NDArray[np.uint8]:
    """Return the SHA-256 of each content, (rows, 32)."""
    as_bytes = (content.encode() if isinstance(content, str) else content for content in contents)
    return pack_digests([hashlib.sha256(content).digest() for content in as_bytes])


def listing(labels: npt.ArrayLike, *, split: str = "train", **changes: Any) -> Listing:
    """Return a split of /data/toy with these labels; row i is the file `<split>/<i>.png`, of no clip and of nobody."""
    y = np.asarray(labels, np.int64)
    none = ("",) * len(y)
    fields = {
        "data_set": "toy", "variant": "all", "split": split, "root": "/data/toy", "classes": CLASSES, "labels": y,
        "paths": tuple(f"{split}/{row}.png" for row in range(len(y))), "clips": none, "subjects": none,
    }  # fmt: skip
    return Listing(**{**fields, **changes})


def extracted(of: Listing, names: npt.NDArray[np.uint8], *, failed: int = 0) -> ExtractedListing:
    """Return the listing with the digests of its rows, of which the first `failed` have no embedding."""
    return ExtractedListing(of, names, ("damaged",) * failed + ("",) * (len(of) - failed))


def record(
    cache: Path, splits: Mapping[str, Rows], *, classes: tuple[str, ...] = CLASSES, subject: str = "", failed: int = 0,
    weights: str = "ab", asked: str = "nano.pth", part: str = "",
) -> FeatureStore:  # fmt: skip
    """Return a store with these rows, as an extract of /data/toy whose first `failed` images are damaged leaves it."""
    store = new_store(cache, asked=asked, weights_sha256=weights * 32)
    with store.writer() as writer:
        for split, (x, y) in splits.items():
            names = digests(f"{split}{row}".encode() + x[row].tobytes() for row in range(len(y)))
            if len(y):
                writer.append(names[failed:], x[failed:])
            rows = listing(y, split=split, classes=classes, subjects=(subject,) * len(y), part=part)
            writer.commit(extracted(rows, names, failed=failed))
    return reopen(store)


def record_clusters(cache: Path, *splits: str, **options: Any) -> FeatureStore:
    """Return a store with splits of 30 rows in clusters, each split with its own; options as for `record`."""
    return record(cache, {split: cluster_rows(len(split) * 7 + ord(split[0]), 30) for split in splits}, **options)


def record_layer(
    cache: Path, layer: str, dim: int, splits: Sequence[str] = ("train", "val"), *, rows: int = 30,
    absent: Iterable[int] = (), refused: Iterable[int] = (), **changes: Any,
) -> dict[str, npt.NDArray[np.float32]]:  # fmt: skip
    """Put a layer's rows of /data/toy into its store, in an order of its own; return x of each split, (rows, dim).

    Image i has the same digest whatever the layer. The listing does not have the rows `absent`; those `refused` are in
    it without an embedding.
    """
    store, x = new_store(cache, layer=layer, **changes), {}
    good = [row for row in range(rows) if row not in {*absent, *refused}]
    listed = [row for row in range(rows) if row not in {*absent}]
    with store.writer(shard_rows=7) as writer:
        for split in splits:
            rng = np.random.default_rng([len(split), dim, *layer.encode()])
            y = np.arange(rows) % 3
            x[split] = (np.eye(3, dim)[y] + rng.standard_normal((rows, dim)) / 2).astype(np.float32)
            names, order = digests(f"{split}{row}" for row in range(rows)), rng.permutation(good)
            for start in range(0, len(order), 7):  # a shard each
                some = order[start : start + 7]
                writer.append(names[some], x[split][some])
            of = listing(y[listed], split=split, paths=tuple(f"{split}/{row}.png" for row in listed))
            reasons = tuple("its embedding is not finite" if row in {*refused} else "" for row in listed)
            writer.commit(ExtractedListing(of, names[listed], reasons))
    return x


# Rows and features


def cluster_rows(seed: int, rows: int = 40, classes: int = 3) -> Rows:
    """Return rows around a centre for each class; the centres are the same for every seed."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    centres = np.random.default_rng(99).standard_normal((classes, DIM))
    return (centres[y] + rng.standard_normal((rows, DIM))).astype(np.float32), y


def features(x: npt.ArrayLike, y: npt.ArrayLike, classes: int | Sequence[str], **changes: Any) -> Features:
    """Return rows without paths, clips and subjects; `classes` are names, or how many to name c0, c1, ..."""
    names = tuple(f"c{label}" for label in range(classes)) if isinstance(classes, int) else tuple(classes)
    labels = np.asarray(y, np.int64)
    none = ("",) * len(labels)
    fields = {"paths": none, "clips": none, "subjects": none}
    return Features(np.asarray(x, np.float32), labels, names, **{**fields, **changes})


def one_row(split: str = "train", **source: str) -> Features:
    """Return a split of one row of zeros that says where it came from."""
    return features(np.zeros((1, 4)), [0], ODD_CLASSES, split=split, source={**SOURCE, **source})


def clusters(seed: int, rows: int = 60, *, classes: int = 3, absent: int | None = None, dim: int = DIM) -> Features:
    """Return Gaussian clusters of equal size around `classes` centres; class `absent` has no row."""
    rng = np.random.default_rng(seed)
    y = rng.choice([label for label in range(classes) if label != absent], rows)
    centres = 1.5 * np.random.default_rng(99).standard_normal((classes, dim))
    x = centres[y] + rng.standard_normal((rows, dim)) + 3
    names = [f"class {label}" for label in range(classes)]
    return features(x, y, names, split="train", source={**SOURCE, "weights": "w"})


def uneven_clusters(
    rows: int = 300, dim: int = 12, classes: int = 5, seed: int = 0, *, present: Sequence[int] | None = None,
    spread: float = 1.5, offset: float = 0.5,
) -> Features:  # fmt: skip
    """Return Gaussian clusters of unequal size around centres that depend on the class alone."""
    rng = np.random.default_rng(seed)
    labels = np.arange(classes) if present is None else np.asarray(present)
    y = labels[np.minimum(rng.geometric(0.4, rows) - 1, len(labels) - 1)]
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    return features(centres[y] + spread * rng.standard_normal((rows, dim)) + offset, y, classes)


def scaled_clusters(rows: int = 300, dim: int = 12, classes: int = 5, seed: int = 0) -> Features:
    """Return uneven clusters in dimensions of unequal scale; class 3 never occurs."""
    rng = np.random.default_rng(seed)
    y = np.minimum(rng.geometric(0.4, rows) - 1, classes - 1)
    y[y == 3] = 0
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    x = (centres[y] + 1.5 * rng.standard_normal((rows, dim)) + 0.5) * np.linspace(0.5, 2, dim)
    return features(x, y, classes)


# Heads


def fit_head(cache: Path, lr: float | Sequence[float] = 0.1, **options: Any) -> Fit:
    """Return what a short training on the cache's /data/toy gives; options as for `featcache.fit_head`."""
    options = {"epochs": 3, "batch_size": 16, "check_seconds": None, "device": "cpu", **options}
    return featcache.fit_head(lr, data="/data/toy", cache=cache, **options)


def random_head(seed: int = 0, val: Scores | None = None, **config: Any) -> LinearHead:
    """Return a head of random weights for three classes and four features, with these settings."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    train = Scores(0.5, 0.25, 1.5)
    return LinearHead(HeadConfig(**config), weight, bias, 7, (EpochRow(1, train, val),), train, val)


def scored_head(lr: float, macro_recall: float | None, *, diverged: bool = False) -> LinearHead:
    """Return a head with this macro recall on val; None: it was made without val."""
    weight = np.full((3, DIM), math.nan if diverged else lr, dtype=np.float32)
    val = None if macro_recall is None else Scores(0.5, macro_recall, 1.0)
    train = Scores(1.0, 1.0, 0.1)
    return LinearHead(HeadConfig(lr=lr), weight, np.zeros(3, np.float32), 1, (), train, val)


# Files that users bring


def write_annotations(
    root: Path,
    *,
    fold: int = 0,
    view: str = "kinect_color",
    level: str = "midlevel",
    header: str = DRIVE_ACT_HEADER,
    **splits: list[str],
) -> Path:
    """Write lines of Drive&Act's annotations, a file for each split, and return `root`."""
    folder = root / "iccv_activities_3s/activities_3s" / view
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        path = folder / f"{level}.chunks_90.split_{fold}.{split}.csv"
        path.write_bytes(("\n".join([header, *lines]) + "\n").encode("utf-8", "surrogateescape"))
    return root


def write_table(folder: Path, *rows: tuple[str, ...], name: str = "labels.csv", files: bool = True) -> Path:
    """Write a CSV and, unless `files` is false, an empty file for each name in its first column; return `folder`."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows(rows)
    for path, *_ in rows[1:] if files else []:
        (folder / name).parent.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).parent.joinpath(path).touch()
    return folder


def decode_image_list(document: dict[str, Any]) -> list[str]:
    """The names of the list, as the page's script decodes them: in UTF-16 units."""
    names, before = [], b""
    for coded in document["images"]:
        units, _, rest = coded.partition(" ")
        before = before[: 2 * int(units)] + rest.encode("utf-16-le")
        names.append(before.decode("utf-16-le"))
    return names
