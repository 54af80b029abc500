"""The same pictures in a folder and in containers: one embedding each, and as many listings as there are sources."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import DataError, Settings
from tests.conftest import ARCH, Nano, single_thread
from tests.packed import as_lmdb, as_parquet, as_saved, as_webdataset, files_of, write_parquet, write_saved, write_tar

SETTINGS = Settings(device="cpu", workers=2, batch_size=8)
PATIENT = Settings(device="cpu", workers=1, batch_size=8, max_bad=0.9)
PACKINGS: dict[str, Callable[[Path, Path], Path]] = {
    "tar": as_webdataset,
    "parquet": as_parquet,
    "saved": as_saved,
    "lmdb": as_lmdb,
}

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def trunk(nano: Nano, tmp_path: Path) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}


@pytest.mark.parametrize("kind", PACKINGS)
def test_a_picture_in_a_container_and_in_a_folder_is_one_embedding(folder, tmp_path, trunk, kind):
    """What the folder gave is not embedded again for the container, whose rows name it and a key; and the reverse."""
    packed = PACKINGS[kind](folder, tmp_path / "packed")
    first = featcache.extract(data=str(packed), settings=SETTINGS, **trunk)
    assert [(part.split, part.rows, part.embedded) for part in first] == [
        ("train", 28, 28), ("val", 11, 11), ("test", 12, 12),
    ]  # fmt: skip
    assert sum(part.embedded for part in featcache.extract(data=str(folder), settings=SETTINGS, **trunk)) == 0
    again = featcache.extract(data=str(packed), settings=SETTINGS, **trunk)
    assert [(part.embedded, part.reused) for part in again] == [(0, 28), (0, 11), (0, 12)]
    for split in ("train", "val", "test"):
        of_folder = featcache.load(split, data=str(folder), cache=trunk["cache"])
        of_container = featcache.load(split, data=str(packed), cache=trunk["cache"])
        np.testing.assert_array_equal(of_folder.x, of_container.x)
        np.testing.assert_array_equal(of_folder.y, of_container.y)
        assert of_folder.classes == of_container.classes
        assert all("#" in path for path in of_container.paths)


def test_nothing_is_read_where_a_container_has_not_changed(folder, tmp_path, trunk, monkeypatch):
    """The second extract looks at the container's stat, and reads none of its images."""
    packed = as_webdataset(folder, tmp_path / "packed")
    for shard in packed.iterdir():
        os.utime(shard, ns=(10**18, 10**18))
    featcache.extract(data=str(packed), settings=SETTINGS, **trunk)
    monkeypatch.setattr("featcache.extraction.run.read_images", None)
    featcache.extract(data=str(packed), settings=SETTINGS, **trunk)


def test_a_container_that_was_written_anew_is_read_anew(folder, tmp_path, trunk):
    """Only what it has not held before is embedded."""
    train = files_of(folder / "train")
    path = write_tar(tmp_path / "a.tar", train)
    assert featcache.extract(data=str(path), settings=SETTINGS, **trunk)[0].embedded == 28
    write_tar(path, train | files_of(folder / "val"))
    assert featcache.extract(data=str(path), settings=SETTINGS, **trunk)[0].embedded == 11


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged_tar(folder: Path, target: Path) -> str:
    files = files_of(folder / "train")
    bad = sorted(files)[3]
    return str(write_tar(target / "a.tar", {**files, bad: damaged(files[bad])}))


def damaged_parquet(folder: Path, target: Path) -> str:
    rows = damaged_rows(folder)
    return str(write_parquet(target / "a.parquet", rows))


def damaged_saved(folder: Path, target: Path) -> str:
    return str(write_saved(target / "saved", damaged_rows(folder)))


def damaged_rows(folder: Path) -> list[dict[str, object]]:
    files = files_of(folder / "train")
    rows = [{"image": {"bytes": data, "path": None}, "label": name.split("/")[0]} for name, data in files.items()]
    rows[3]["image"] = {"bytes": damaged(rows[3]["image"]["bytes"]), "path": None}
    rows[4]["image"] = {"bytes": None, "path": "/etc/passwd"}
    return rows


@pytest.mark.parametrize(("pack", "bad"), [(damaged_tar, 1), (damaged_parquet, 2), (damaged_saved, 2)])
def test_a_damaged_image_in_a_container_is_a_row_all_the_same(folder, tmp_path, trunk, pack, bad):
    """It is named with its reason, its neighbours are embedded, and it is not tried again."""
    path = pack(folder, tmp_path)
    (first,) = featcache.extract(data=path, settings=PATIENT, **trunk)
    assert (first.embedded, first.failed) == (28 - bad, bad)
    (again,) = featcache.extract(data=path, settings=PATIENT, **trunk)
    assert (again.embedded, again.failures) == (0, first.failures)
    assert "#" in first.failures[0][0]
    assert "damaged or cut off" in first.failures[0][1]
    if bad == 2:
        assert "a path to a file elsewhere is not followed" in first.failures[1][1]


def test_a_container_that_is_gone_is_told_and_what_is_embedded_stays(folder, tmp_path, trunk):
    """Extract names the file; load, which needs no image, goes on."""
    path = write_tar(tmp_path / "a.tar", files_of(folder / "train"))
    featcache.extract(data=str(path), settings=SETTINGS, **trunk)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tar: it does not exist"):
        featcache.extract(data=str(path), settings=SETTINGS, **trunk)
    assert featcache.load("train", data=str(path), cache=trunk["cache"]).x.shape[0] == 28


def test_a_folder_of_shards_may_move(folder, tmp_path, trunk):
    """What moved with all its images keeps its name and its embeddings."""
    packed = as_webdataset(folder, tmp_path / "old" / "packed")
    featcache.extract(data=str(packed), settings=SETTINGS, **trunk)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = featcache.extract(data=str(tmp_path / "new" / "packed"), settings=SETTINGS, **trunk)
    assert [part.moved_from for part in moved] == [str(packed)] * 3
    assert sum(part.embedded for part in moved) == 0
