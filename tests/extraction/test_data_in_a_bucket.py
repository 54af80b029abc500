"""Images that are objects in a bucket: listed, read once, and embedded as the same files in a folder are."""

import urllib.request
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import DataError, Settings
from featcache.dataset import DatasetRequest
from featcache.evaluation import predict_on_split
from featcache.files.objects import list_remote, read_remote
from featcache.report.page import build_page, save_html
from tests.conftest import ARCH, Nano, single_thread
from tests.object_server import KEY_ID, SECRET, Proxy, make_bucket, proxy_before, use_endpoint
from tests.packed import files_of

SETTINGS = Settings(device="cpu", workers=2, batch_size=8)

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def trunk(nano: Nano, tmp_path: Path) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}


def upload(endpoint: str, objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> str:
    """Put objects into a new bucket below `photos/`, and return its URL."""
    from obstore.store import S3Store

    bucket = make_bucket(endpoint)
    use_endpoint(endpoint, monkeypatch.setenv)
    store = S3Store(bucket, client_options={"allow_http": True})
    for name, data in objects.items():
        store.put(f"photos/{name}", data)
    return f"s3://{bucket}/photos"


def gets(proxy: Proxy) -> list[str]:
    """Return what was asked for of the images."""
    return [line for line in proxy.requests if line.startswith("GET") and ".png" in line]


def test_each_image_is_read_once_and_is_the_embedding_of_the_file(folder, tmp_path, trunk, object_store, monkeypatch):
    """Listing asks for names alone, extract for each object once; the second extract for none. No key is written."""
    url = upload(object_store, files_of(folder), monkeypatch)
    with proxy_before(object_store) as proxy:
        use_endpoint(proxy.address, monkeypatch.setenv)
        first = featcache.extract(data=url, settings=SETTINGS, **trunk)
        assert [(part.split, part.embedded, part.failed) for part in first] == [
            ("train", 28, 0), ("val", 11, 0), ("test", 12, 0),
        ]  # fmt: skip
        assert len(gets(proxy)) == len({*gets(proxy)}) == 51
        monkeypatch.setattr("featcache.files.stat_log.is_racy", lambda *_: False)
        again = featcache.extract(data=url, settings=SETTINGS, **trunk)
        assert [(part.embedded, part.reused) for part in again] == [(0, 28), (0, 11), (0, 12)]
        read = len(gets(proxy))
        featcache.extract(data=url, settings=SETTINGS, **trunk)
        assert len(gets(proxy)) == read
        where = {"data": url, "cache": trunk["cache"]}
        featcache.fit_head(0.05, epochs=2, check_seconds=None, device="cpu", **where)
        shown = save_html(build_page(predict_on_split(DatasetRequest(**where), None, split="val")), tmp_path / "p.html")
        assert (shown.wanted, shown.unread) == (11, 0)
    assert sum(part.embedded for part in featcache.extract(data=str(folder), settings=SETTINGS, **trunk)) == 0
    of_bucket, of_folder = (featcache.load("val", data=data, cache=trunk["cache"]) for data in (url, str(folder)))
    np.testing.assert_array_equal(of_bucket.x, of_folder.x)
    assert of_bucket.paths == of_folder.paths
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in data for data in written for secret in (KEY_ID, SECRET))


def test_odd_keys_are_read_and_listed_as_they_are(object_store, monkeypatch):
    """Blanks, `#`, `%`, plus signs and letters beyond ASCII: the key of the list is the key that is read."""
    names = ["a b.png", "a#1.png", "100%.png", "a+b.png", "é/ü.png", "a%20b.png", "a\u00a0b.png", "a\\b.png"]
    url = upload(object_store, {name: name.encode() for name in names}, monkeypatch)
    listed = dict(list_remote(url))
    assert sorted(listed) == sorted(names)
    for name in names:
        assert read_remote(f"{url}/{name}", 100) == (name.encode(), listed[name])
    with pytest.raises(OSError, match="7 bytes: larger"):
        read_remote(f"{url}/a b.png", 6)


def test_a_key_that_the_library_refuses_is_named(object_store, monkeypatch):
    """A part of it is empty: nothing below the prefix can be listed, so the sentence says which object it is."""
    url = upload(object_store, {"a/c.png": b""}, monkeypatch)
    with pytest.raises(featcache.MachineError, match=r"the key 'photos/a/\.\./x' has a part that is empty.*rename"):
        list(list_remote(f"{url}/a/../x"))
    place = f"{object_store}/{url.removeprefix('s3://')}/a%09b.png"
    urllib.request.urlopen(urllib.request.Request(place, data=b"", method="PUT"), timeout=30).close()
    with pytest.raises(featcache.MachineError, match=r"the key 'photos/a\\tb\.png' has .* a control character: rename"):
        list(list_remote(url))


def test_what_is_not_there_is_told(object_store, monkeypatch, trunk):
    """No such bucket, nothing below a prefix, and no image there: one sentence each."""
    url = upload(object_store, {"text/notes.txt": b""}, monkeypatch)
    for data, reason in (
        (f"{url}/text", "no image below this name in the bucket"),
        (f"{url}/nothing", "there is nothing in the bucket below this name"),
    ):
        with pytest.raises(DataError, match=reason):
            featcache.extract(data=data, settings=SETTINGS, **trunk)
    with pytest.raises(featcache.MachineError, match="there is no such bucket"):
        featcache.extract(data="s3://no-such-bucket-at-all/photos", settings=SETTINGS, **trunk)
