"""Tar and Parquet files in a bucket: read by ranges, and embedded as the same files on this machine are."""

from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import DataError, Settings
from featcache.containers import MemberReader, split_member_path
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.evaluation import predict_on_split
from featcache.files.objects.bucket import open_bucket
from featcache.files.objects.object_path import parse_object_url
from featcache.report.page import build_page, save_html
from tests.conftest import ARCH, Nano, single_thread
from tests.extraction.test_data_in_a_bucket import upload
from tests.object_server import Proxy, proxy_before, use_endpoint
from tests.packed import as_parquet, as_webdataset, files_of, write_tar

SETTINGS = Settings(device="cpu", workers=1, batch_size=8)
ROWS = [("train", 28), ("val", 11), ("test", 12)]

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def trunk(nano: Nano, tmp_path: Path) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}


def bytes_asked(proxy: Proxy, name: str) -> int:
    """Return how many requests a file had."""
    return sum(line.startswith("GET") and name in line for line in proxy.requests)


def test_tar_and_parquet_of_a_bucket_are_the_rows_of_the_folder(folder, tmp_path, trunk, object_store, monkeypatch):
    """What the folder has is not embedded again; a page has every thumbnail, a second extract reads no image."""
    assert sum(part.embedded for part in featcache.extract(data=str(folder), settings=SETTINGS, **trunk)) == 51
    shards, tables = as_webdataset(folder, tmp_path / "shards"), as_parquet(folder, tmp_path / "tables")
    objects = {f"shards/{name}": data for name, data in files_of(shards).items()}
    objects |= {f"tables/{name}": data for name, data in files_of(tables).items()}
    url = upload(object_store, objects, monkeypatch)
    monkeypatch.setattr("featcache.files.stat_log.is_racy", lambda *_: False)
    expected = featcache.load("val", data=str(folder), cache=trunk["cache"])
    for name in ("shards", "tables"):
        with proxy_before(object_store) as proxy:
            use_endpoint(proxy.address, monkeypatch.setenv)
            parts = featcache.extract(data=f"{url}/{name}", settings=SETTINGS, **trunk)
            assert [(part.split, part.rows, part.embedded) for part in parts] == [(*row, 0) for row in ROWS]
            where = {"data": f"{url}/{name}", "cache": trunk["cache"]}
            loaded = featcache.load("val", **where)
            assert sorted(loaded.x.tolist()) == sorted(expected.x.tolist())
            assert all(path.startswith(("val-0.tar#", "data/val-00000-of-00001.parquet#")) for path in loaded.paths)
            read = len(proxy.requests)
            featcache.extract(data=f"{url}/{name}", settings=SETTINGS, **trunk)
            assert len(proxy.requests) - read < 20  # a listing, and of each file a few ranges
            if name == "tables":  # whose rows are read in order, whatever the page's is
                featcache.fit_head(0.05, epochs=2, check_seconds=None, device="cpu", **where)
                page = build_page(predict_on_split(DatasetRequest(**where), None, split="val"))
                shown = save_html(page, tmp_path / "p.html")
                assert (shown.wanted, shown.unread) == (11, 0)


def test_a_file_a_pattern_and_an_image_are_named_by_url(folder, tmp_path, trunk, object_store, monkeypatch):
    """One tar is a data set, a pattern several; predict takes a whole tar and an image in it, and says which is not."""
    files = files_of(as_webdataset(folder, tmp_path / "shards"))
    url = upload(object_store, files, monkeypatch)
    parts = featcache.extract(data=f"{url}/{{train,val}}-0.tar", settings=SETTINGS, **trunk)
    assert [(part.split, part.embedded) for part in parts] == [("train", 28), ("val", 11)]
    (part,) = featcache.extract(data=f"{url}/test-0.tar", settings=SETTINGS, **trunk)
    assert (part.data_set, part.split, part.embedded) == ("test-0.tar", "test", 12)
    parts = featcache.extract(data=f"{url}/*-0.tar", name="all", settings=SETTINGS, **trunk)
    assert [(part.split, part.embedded) for part in parts] == [("train", 0), ("val", 0), ("test", 0)]
    where = {"data": f"{url}/*-0.tar", "name": "all", "cache": trunk["cache"]}
    featcache.fit_head(0.05, epochs=2, check_seconds=None, device="cpu", **where)
    named = [f"{url}/test-0.tar", f"{url}/test-0.tar#00003.png", f"{url}/test-0.tar#nothing.png"]
    predicted = featcache.predict("best", named, **where)
    assert len(predicted.paths) == 12 + 2
    np.testing.assert_array_equal(predicted.probabilities[3], predicted.probabilities[12])
    assert [reason for reason in predicted.failed if reason] == ["the tar file has no such member"]


def test_one_image_costs_its_own_bytes(object_store, monkeypatch):
    """Of a tar of 3 MB an image is one range of as many bytes as it has, once the headers are known."""
    data = np.random.default_rng(0).bytes(10_000)
    members = {f"a/{number:05d}.jpg": data for number in range(300)}
    tar = write_tar(Path("t.tar").absolute(), members)
    monkeypatch.chdir(tar.parent)
    url = upload(object_store, {"t.tar": tar.read_bytes()}, monkeypatch)
    tar.unlink()
    with proxy_before(object_store) as proxy, MemberReader() as reader:
        use_endpoint(proxy.address, monkeypatch.setenv)
        assert reader.read(split_member_path(f"{url}/t.tar#a/00100.jpg"), 1 << 20) == data
        after_headers = bytes_asked(proxy, "t.tar")
        assert reader.read(split_member_path(f"{url}/t.tar#a/00200.jpg"), 1 << 20) == data
        assert bytes_asked(proxy, "t.tar") - after_headers == 1


def test_a_tar_that_is_replaced_is_read_anew(folder, tmp_path, trunk, object_store, monkeypatch):
    """Under the same name stands another version: its rows are listed, and what is new in it is embedded."""
    files = files_of(folder / "val")
    first = dict(list(files.items())[:6])
    monkeypatch.setattr("featcache.files.stat_log.is_racy", lambda *_: False)
    url = upload(object_store, {"a.tar": write_tar(tmp_path / "a.tar", first).read_bytes()}, monkeypatch)
    (part,) = featcache.extract(data=f"{url}/a.tar", settings=SETTINGS, **trunk)
    assert (part.rows, part.embedded) == (6, 6)
    place = parse_object_url(f"{url}/a.tar")
    assert place is not None
    open_bucket(place).overwrite(place.key, write_tar(tmp_path / "b.tar", files).read_bytes())
    (part,) = featcache.extract(data=f"{url}/a.tar", settings=SETTINGS, **trunk)
    assert (part.rows, part.embedded) == (11, 5)


def test_what_cannot_be_read_there_is_told(object_store, monkeypatch, trunk, tmp_path):
    """A tar that is cut off, one that is not there, one that is compressed, an LMDB file: one sentence each."""
    whole = write_tar(tmp_path / "a.tar", {"ants/1.jpg": b"x" * 5000}).read_bytes()
    objects = {"cut.tar": whole[:3000], "data.mdb": b"x" * 100, "t.parquet": b"PAR1 no", "a.tar.gz": b""}
    url = upload(object_store, objects, monkeypatch)
    refusals: list[tuple[str, type[Exception], str]] = [
        ("cut.tar", DataError, "cut off behind"),
        ("no.tar", DataError, r"no\.tar: it is not there; name a file"),
        ("no-*.tar", DataError, "no container of images is there"),
        ("t.parquet", DataError, "no Parquet file, or damaged or cut off"),
        ("a.tar.gz", DataError, "a compressed tar file has to be read from its start"),
        ("data.mdb", UsageError, "mapped into memory, which works on this machine alone; copy it here"),
    ]
    for name, kind, reason in refusals:
        with pytest.raises(kind, match=reason):
            featcache.extract(data=f"{url}/{name}", settings=SETTINGS, **trunk)
    with pytest.raises(featcache.MachineError, match="there is no such bucket"):
        featcache.extract(data="s3://no-such-bucket-at-all/photos.tar", settings=SETTINGS, **trunk)
