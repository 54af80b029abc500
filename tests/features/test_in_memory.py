"""Features: what stage two works on, without torch and without the images."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import CacheError, UsageError
from featcache.features.in_memory import Features, changes_since_extract
from featcache.files import StatLog
from featcache.recipe import resolve_recipe
from featcache.store import FeatureStore
from featcache.store.listings import ExtractedListing
from tests.builders import features, listing, new_store, reopen

ROWS = 7


def put(
    store: FeatureStore, split: str = "train", failed: tuple[int, ...] = (), root: str = "/data/digits"
) -> np.ndarray:
    """Seven rows, each with its own label, clip and subject; rows 5 and 2 show the same image. Gives x of every row."""
    digests = np.random.default_rng(1).integers(1, 256, (ROWS, 32), dtype=np.uint8)
    digests[5] = digests[2]
    x = np.random.default_rng(2).standard_normal((ROWS, 4)).astype(np.float32)
    x[5] = x[2]
    rows = listing(
        np.arange(ROWS) % 3, split=split, data_set="digits", root=root, classes=("a", "b", "c"),
        clips=tuple(f"clip {row}" for row in range(ROWS)), subjects=tuple(f"vp{row}" for row in range(ROWS)),
    )  # fmt: skip
    good = [row for row in range(ROWS) if row not in failed]
    with store.writer(shard_rows=2) as writer:
        order = np.random.default_rng(3).permutation(good)
        for row in order:
            writer.append(digests[[row]], x[[row]])
        reasons = tuple("damaged" if row in failed else "" for row in range(ROWS))
        writer.commit(ExtractedListing(rows, np.where(np.isin(np.arange(ROWS), failed)[:, None], 0, digests), reasons))
    return x


def load(cache: Path, split: str = "train", **options) -> Features:
    return featcache.load(split, data="/data/digits", cache=cache, **options)


@pytest.mark.parametrize("failed", [(), (0,), (6,), (2, 3), tuple(range(ROWS))])
def test_every_column_is_in_listing_order_without_the_failed_rows(tmp_path, failed):
    """x, y, paths, clips and subjects of the same image stand in the same row; failed rows are in none of them."""
    x = put(new_store(tmp_path), failed=failed)
    found = load(tmp_path)
    good = [row for row in range(ROWS) if row not in failed]
    assert found.x.astype(np.float32).tobytes() == x[good].tobytes()
    assert found.x.dtype == np.float32
    assert found.y.tolist() == [row % 3 for row in good]
    assert found.paths == tuple(f"train/{row}.png" for row in good)
    assert found.clips == tuple(f"clip {row}" for row in good)
    assert found.subjects == tuple(f"vp{row}" for row in good)
    assert (found.failed, found.classes, found.split) == (len(failed), ("a", "b", "c"), "train")


def test_several_stores_are_an_error_that_names_them_and_filters_choose(tmp_path):
    """Nothing is picked silently; store, weights and precision each pick one."""
    fp32, bf16 = new_store(tmp_path), new_store(tmp_path, compute="bfloat16")
    other = new_store(tmp_path, weights_sha256="cd" * 32, asked="other.pth")
    for store in (fp32, bf16, other):
        put(store)
    with pytest.raises(CacheError, match="3 stores hold digits/all/train") as told:
        load(tmp_path)
    assert all(store.name in str(told.value) for store in (fp32, bf16, other))
    assert load(tmp_path, precision="bf16").source["store"] == bf16.name
    assert load(tmp_path, weights="other.pth").source["store"] == other.name
    assert load(tmp_path, store=fp32.name).source["trunk"] == fp32.trunk.spec.fingerprint()


def test_a_split_that_is_not_there_says_what_to_run(tmp_path):
    """Neither an empty cache nor another split, another name or a misspelt recipe gives rows."""
    put(new_store(tmp_path))
    with pytest.raises(CacheError, match="featcache extract --split test"):
        load(tmp_path, "test")
    with pytest.raises(CacheError, match="is in this cache as digits, and not under that name"):
        load(tmp_path, name="faces")
    with pytest.raises(CacheError, match="no embeddings"):
        load(tmp_path / "none")
    with pytest.raises(UsageError, match="no recipe"):
        featcache.load("train", pipeline="no such recipe", cache=tmp_path)


def test_a_damaged_shard_gives_no_features(tmp_path):
    """An error that names it, and not most of the rows."""
    put(new_store(tmp_path))
    path = sorted(tmp_path.rglob("shards/*.h5"))[1]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4] + b"\x01\x02\x03\x04")
    with pytest.raises(CacheError, match=path.name):
        load(tmp_path)


def test_loading_needs_neither_torch_nor_h5py_s_file_nor_the_images(tmp_path):
    """A cache that was copied to another machine is loaded there, where no image is, without torch."""
    put(new_store(tmp_path / "cache"))
    shutil.copytree(tmp_path / "cache", tmp_path / "copied")
    code = (
        "import sys, featcache; f = featcache.load('train', data='/data/digits', cache=sys.argv[1]);"
        "print(len(f.y), 'torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "copied"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(ROWS), "False", "False"]


def test_loading_twice_checks_the_hashes_once(tmp_path):
    """What was hashed is remembered in stat.log, so that the second load reads the rows alone."""
    put(new_store(tmp_path))
    import time

    time.sleep(0.03)  # a file younger than the clock's grain is not trusted
    load(tmp_path)
    shards = [str(path) for path in tmp_path.rglob("shards/*.h5")]
    assert shards
    assert None not in StatLog(tmp_path).look_up(shards)


@pytest.mark.parametrize("column", ["x", "paths", "clips", "subjects"])
def test_columns_of_different_length_are_refused(column):
    """Two rows of one and three of another never become Features."""
    columns = dict.fromkeys(("paths", "clips", "subjects"), ("",) * 2) | {"x": np.zeros((2, 4), np.float32)}
    long = {**columns, column: np.zeros((3, 4), np.float32) if column == "x" else ("",) * 3}
    Features(y=np.zeros(2, np.int64), classes=("a",), **columns)
    with pytest.raises(ValueError, match=f"{column} has 3 rows, y has 2"):
        Features(y=np.zeros(2, np.int64), classes=("a",), **long)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused(label):
    """An index that no class has is an error at the door."""
    with pytest.raises(ValueError, match="outside"):
        features(np.zeros((1, 4)), [label], "abc")


def test_a_folder_that_changed_since_is_said(folder, tmp_path):
    """New, removed and re-labelled files and a vanished split give a sentence; an unchanged or absent folder none."""
    from tests.builders import list_split

    recipe = resolve_recipe(data=str(folder))
    store = new_store(tmp_path / "cache")
    with store.writer() as writer:
        for split in ("train", "val"):
            listing = list_split(recipe, split)
            writer.append(np.zeros((1, 32), np.uint8), np.zeros((1, 4), np.float32))
            writer.commit(ExtractedListing(listing, np.zeros((len(listing), 32), np.uint8), ("",) * len(listing)))
    store = reopen(store)
    assert changes_since_extract(store, recipe, ["train"]) == []
    (folder / "train" / "0" / "0000.png").rename(folder / "train" / "1" / "moved.png")
    assert "1 new files, 1 gone" in changes_since_extract(store, recipe, ["train"])[0]
    assert changes_since_extract(store, recipe, ["val"]) == []
    shutil.rmtree(folder / "val")
    assert "no longer" in changes_since_extract(store, recipe, ["val", "train"])[0]
    folder.rename(tmp_path / "elsewhere")
    assert changes_since_extract(store, recipe, ["train"]) == []
