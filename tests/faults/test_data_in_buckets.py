"""What networks and object stores do to images in a bucket: each fault has one outcome, docs/guides/object-storage.md.

The proxy of `test_buckets` stands between a server and this process, and between it and the loader's processes. The
cache is in a folder; whatever happens, what it holds is right, and the next run reads the rest.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import featcache
from featcache import DataError, MachineError, Settings, Summary
from featcache.files.objects import bucket, connection
from tests.conftest import ARCH, Nano, single_thread, write_images
from tests.extraction.test_data_in_a_bucket import upload
from tests.faults.conftest import FULL
from tests.object_server import KEY_ID, SECRET, Fault, Proxy, proxy_before, use_endpoint
from tests.packed import files_of, write_tar

COUNTS = {"train": {"0": 4, "1": 4}}

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def proxy(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server; this process is not patient, the loader's processes are."""
    with proxy_before(object_store) as between:
        use_endpoint(between.address, monkeypatch.setenv)
        monkeypatch.setattr(connection, "RETRY_SECONDS", 1.0)
        monkeypatch.setattr(bucket, "_BACKOFF_SECONDS", 0.01)
        yield between


@pytest.fixture(params=["objects", "tar"])
def data(request, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Eight images in a bucket: as objects of their own, or in a tar file."""
    files = files_of(write_images(tmp_path / "digits", COUNTS))
    if request.param == "tar":
        files = {"digits.tar": write_tar(tmp_path / "digits.tar", files).read_bytes()}
    url = upload(proxy.upstream, files, monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    return url if request.param == "objects" else f"{url}/digits.tar"


def extract(data: str, nano: Nano, tmp_path: Path, **settings: float) -> Summary:
    """Embed the images, and return what became of them."""
    flags = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}
    (part,) = featcache.extract(data=data, settings=Settings(device="cpu", workers=1, **settings), **flags)
    return part


IMAGE, LIST = r"photos/(train|digits)", "list-type"
PASSING = [("torn", IMAGE), ("503 SlowDown", IMAGE), ("lost", IMAGE), ("500 InternalError", IMAGE)]


@pytest.mark.parametrize(("kind", "place"), PASSING if FULL else PASSING[:2])
def test_what_goes_wrong_once_goes_right(
    data: str, proxy: Proxy, nano: Nano, tmp_path: Path, kind: str, place: str
) -> None:
    """A torn answer, a busy server, a lost request: asked again, and every image is embedded, once."""
    fault = Fault("GET", place, kind)
    proxy.faults.append(fault)
    part = extract(data, nano, tmp_path)
    assert (part.embedded, part.failed, fault.times) == (8, 0, 0)


@pytest.mark.parametrize("kind", ["torn", "503 SlowDown"])
def test_a_listing_that_goes_wrong_once_goes_right(
    proxy: Proxy, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The list is asked for again, and is whole."""
    url = upload(proxy.upstream, files_of(write_images(tmp_path / "digits", COUNTS)), monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    fault = Fault("GET", LIST, kind)
    proxy.faults.append(fault)
    assert (extract(url, nano, tmp_path).embedded, fault.times) == (8, 0)


REFUSALS = [
    ("403 InvalidAccessKeyId", "it does not know these credentials"),
    ("404 NoSuchBucket", "there is no such bucket"),
    ("503 SlowDown", "it asks to slow down, for longer than we retry"),
    ("403 AccessDenied", "these credentials may not do this"),
]


@pytest.mark.parametrize(("kind", "words"), REFUSALS if FULL else REFUSALS[:2])
def test_a_listing_that_is_refused_ends_the_run(
    proxy: Proxy, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    """Exit 5, which of these it is, and none of the keys; the listing that was extracted before is still there."""
    url = upload(proxy.upstream, files_of(write_images(tmp_path / "digits", COUNTS)), monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    extract(url, nano, tmp_path)
    bucket._BUCKETS.clear()
    proxy.faults.append(Fault("GET", LIST, kind, times=1000))
    with pytest.raises(MachineError, match=re.escape(words)) as refused:
        extract(url, nano, tmp_path)
    assert not any(secret in str(refused.value) for secret in (KEY_ID, SECRET))
    assert len(featcache.load("train", data=url, cache=tmp_path / "cache").y) == 8


@pytest.mark.parametrize("kind", ["403 AccessDenied", "503 SlowDown"] if FULL else ["403 AccessDenied"])
def test_an_image_that_is_refused_is_named_and_read_the_next_time(
    proxy: Proxy, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The others are kept; too many of them end the run with exit 4, and their names. The next run reads the rest."""
    url = upload(proxy.upstream, files_of(write_images(tmp_path / "digits", COUNTS)), monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    proxy.faults.append(Fault("GET", r"train/0/", kind, times=1000))
    words = r"\n  train/0/\S+: cannot be read: the object store refuses: .*\((AccessDenied|SlowDown)\)\n"
    with pytest.raises(DataError, match=words) as refused:
        extract(url, nano, tmp_path, max_bad=0.1)
    assert not any(secret in str(refused.value) for secret in (KEY_ID, SECRET))
    part = extract(url, nano, tmp_path, max_bad=0.5)
    assert (part.embedded + part.reused, part.failed) == (4, 4)
    proxy.faults.clear()
    part = extract(url, nano, tmp_path)
    assert (part.embedded, part.reused, part.failed) == (4, 4, 0)


def test_an_image_that_is_gone_between_the_list_and_its_reading_is_named(
    proxy: Proxy, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no embedding, and the reason is kept; all others have theirs."""
    url = upload(proxy.upstream, files_of(write_images(tmp_path / "digits", COUNTS)), monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    proxy.faults.append(Fault("GET", r"train/1/0*2\.png", "404 NoSuchKey", times=1000))
    part = extract(url, nano, tmp_path, max_bad=0.5)
    assert (part.embedded, part.failed) == (7, 1)
    ((path, reason),) = part.failures
    assert path.startswith("train/1/")
    assert reason == "cannot be read: No such file or directory"


def test_a_list_that_lags_is_made_up_for_by_the_next_run(
    proxy: Proxy, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in no list yet is no row; once it is, it is embedded, and nothing else is read again."""
    url = upload(proxy.upstream, files_of(write_images(tmp_path / "digits", COUNTS)), monkeypatch)
    use_endpoint(proxy.address, monkeypatch.setenv)
    monkeypatch.setattr("featcache.files.stat_log.is_racy", lambda *_: False)

    def lag(request: str, body: bytes) -> bytes:
        return re.sub(rb"<Contents><Key>[^<]*train/1/[^<]*</Key>.*?</Contents>", b"", body) if LIST in request else body

    proxy.change_answer = lag
    assert extract(url, nano, tmp_path).rows == 4
    proxy.change_answer = lambda _request, body: body
    part = extract(url, nano, tmp_path)
    assert (part.rows, part.embedded, part.reused) == (8, 4, 4)
