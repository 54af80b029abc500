"""Rows are added only where the rows that are there come out the same."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import CacheError, Settings
from featcache.extraction import drift
from featcache.extraction.drift_bounds import DriftComparison
from featcache.files import StatLog
from featcache.store import FeatureStore
from featcache.store.trunk_record import TrunkRecord, read_trunk, write_trunk
from featcache.trunks.trunk import Trunk
from tests.conftest import ARCH, Nano, single_thread, write_images

Extract = Callable[..., featcache.Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "digits", {"train": {"0": 5, "1": 4}, "val": {"0": 2, "1": 1}})


@pytest.fixture
def extract(nano: Nano, images: Path, tmp_path: Path) -> Extract:
    def call(split: str, *, batch_size: int = 4, **options) -> featcache.Summary:
        settings = Settings(device="cpu", workers=1, batch_size=batch_size)
        given = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": tmp_path / "cache"}
        return featcache.extract(split, data=str(images), settings=settings, **{**given, **options})[0]

    return call


def made(tmp_path: Path) -> list[dict]:
    return [dict(entry) for entry in read_trunk(next((tmp_path / "cache" / "stores").iterdir())).provenance]


def test_the_first_making_is_not_compared_and_the_second_is(extract, tmp_path):
    """Another batch size is another making: held against the store once, noted, and not again."""
    assert extract("train").drift is None
    found = extract("val", batch_size=3).drift
    assert found is not None
    assert found.compared == 8
    assert found.is_within_bound("float32")
    assert [(entry["batch_size"], entry.get("drift")) for entry in made(tmp_path)] == [(4, None), (3, found.to_json())]
    store = FeatureStore.open(next((tmp_path / "cache" / "stores").iterdir()), StatLog(tmp_path))
    assert [part.made for part in store.shards] == [0, 1]
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1  # the batch is no part of the identity


def test_a_making_that_was_proven_is_not_proven_again(extract, images, tmp_path, monkeypatch):
    """Neither the one that made the first rows, nor one that was compared before."""
    extract("train")
    extract("val", batch_size=3)
    monkeypatch.setattr(drift, "compare_drift", lambda *_, **__: pytest.fail("compared again"))
    for batch_size in (3, 4):
        write_images(images, {"test": {str(batch_size): 2}})
        assert extract("test", batch_size=batch_size).drift is None
    assert len(made(tmp_path)) == 2


@pytest.mark.parametrize(
    ("moved", "stands"), [(1e-5, True), (3e-2, False), (float("nan"), False)], ids=["a little", "too far", "nan"]
)
def test_beyond_the_bound_the_extract_stops(extract, tmp_path, monkeypatch, moved, stands):
    """Exit class 3, both environments named, nothing added; below it, the drift is recorded."""
    extract("train")
    real = Trunk.embed
    noise = np.random.default_rng(2).standard_normal(64).astype(np.float32)
    monkeypatch.setattr(Trunk, "embed", lambda self, pixels: real(self, pixels) + np.float32(moved) * noise)
    monkeypatch.setattr("featcache.extraction.layer.find_storable", lambda rows, _: np.ones(len(rows), dtype=bool))
    if stands:
        assert 0 < extract("val", batch_size=3).drift.cosine < 1e-6
        return
    with pytest.raises(CacheError, match="come out differently here") as told:
        extract("val", batch_size=3)
    assert told.value.exit_code == 3
    assert "batches of 4" in str(told.value)
    assert "batches of 3" in str(told.value)
    assert len(made(tmp_path)) == 1
    assert sum(store["rows"] for store in featcache.info(data="x", cache=tmp_path / "cache")["stores"]) == 9


def test_where_the_old_images_are_gone_it_says_so(extract, images, tmp_path):
    """Nothing could be compared: the rows are added, it is noted, and the next extract tries again."""
    extract("train")
    shutil.move(images / "train", tmp_path / "gone")
    found = extract("val", batch_size=3).drift
    assert found == DriftComparison(0)
    assert made(tmp_path)[1]["drift"]["compared"] == 0
    shutil.move(tmp_path / "gone", images / "train")
    write_images(images, {"test": {"3": 1}})
    assert extract("test", batch_size=3).drift.compared == 8
    assert made(tmp_path)[1]["drift"]["compared"] == 8


def test_an_image_that_was_edited_is_not_compared(extract, images):
    """Only files that are still what they were say anything of the trunk."""
    extract("train")
    for path in sorted((images / "train").rglob("*.png"))[1:]:
        path.write_bytes(path.read_bytes() + b"edited")
    assert extract("val", batch_size=3).drift.compared == 1


def test_rows_that_nobody_noted_are_compared_too(extract, tmp_path):
    """A store whose trunk.json lost its notes: the next making is held against it."""
    extract("train")
    root = next((tmp_path / "cache" / "stores").iterdir())
    trunk = read_trunk(root)
    write_trunk(root, TrunkRecord(trunk.spec, trunk.weights_name))
    assert extract("val").drift.compared == 8


def test_distances_are_exact_where_nothing_moved():
    """0 for equal rows, those of zeros included; nan where a row is not finite; small angles without cancellation."""
    rows = np.array([[1, 2, 3], [0, 0, 0]], dtype=np.float32)
    assert [found.tolist() for found in drift.embedding_distances(rows, rows)] == [[0, 0], [0, 0]]
    cosine, _ = drift.embedding_distances(np.array([[1, 0]], np.float32), np.array([[1, 1e-6]], np.float32))
    assert cosine[0] == pytest.approx(5e-13, rel=1e-3)
    assert np.isnan(drift.embedding_distances(rows, rows * np.float32("nan"))[0][0])
    assert not DriftComparison(1, cosine=float("nan")).is_within_bound("float32")


def test_in_bfloat16_the_mean_tells_the_same_trunk_from_another():
    """A single image may move by several times as much as all of them on average."""
    far = DriftComparison(8, cosine=9e-4, mean_cosine=1.4e-4, norm=5e-3)
    assert far.is_within_bound("bfloat16")
    assert not replace(far, mean_cosine=1.6e-4).is_within_bound("bfloat16")
    assert replace(far, mean_cosine=2.9e-4, compared=7).is_within_bound("bfloat16")
    assert not replace(far, mean_cosine=3.1e-4, compared=7).is_within_bound("bfloat16")
    assert not replace(far, cosine=1.1e-3).is_within_bound("bfloat16")
    assert not replace(far, norm=1.1e-2).is_within_bound("bfloat16")
