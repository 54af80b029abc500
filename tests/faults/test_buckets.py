"""What networks and object stores do to a cache in a bucket: each fault has one outcome, docs/guides/object-storage.md.

The faults are injected by a proxy before a real server, which throws away requests and answers, tears connections, and
says what such servers say; and what is asked of the cache is a real write and a real reading.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from featcache.errors import FeatcacheError, MachineError
from featcache.files.objects import bucket, connection
from featcache.files.objects.object_path import ObjectPath
from featcache.store import FeatureStore, cache_folder, find_stores
from tests.builders import DIM, digests, extracted, listing, new_store
from tests.faults.conftest import FULL
from tests.object_server import KEY_ID, SECRET, Fault, Proxy, environment, make_bucket, proxy_before, use_endpoint

NAMES = digests([f"row {number}" for number in range(6)])
ROWS = np.arange(6 * DIM, dtype=np.float32).reshape(6, DIM)


@pytest.fixture
def proxy(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, through which this process reaches a new bucket; it is not patient."""
    with proxy_before(object_store) as between:
        use_endpoint(between.address, monkeypatch.setenv)
        monkeypatch.setattr(connection, "RETRY_SECONDS", 1.0)
        monkeypatch.setattr(bucket, "_BACKOFF_SECONDS", 0.01)
        yield between


@pytest.fixture
def cache(proxy: Proxy) -> ObjectPath:
    """A cache in the bucket, with a store of four rows that were committed before anything goes wrong."""
    place = cache_folder(f"s3://{make_bucket(proxy.upstream)}/features")
    store = new_store(place)
    with store.writer(shard_rows=2) as writer:
        for start in (0, 2):
            writer.append(NAMES[start : start + 2], ROWS[start : start + 2])
        writer.commit(extracted(listing([0, 1, 2, 0]), NAMES[:4]))
    assert isinstance(place, ObjectPath)
    return place


def open_anew(cache: ObjectPath) -> FeatureStore:
    """Return the store as another process opens it."""
    bucket._BUCKETS.clear()
    (store,) = find_stores(cache, new_store(cache).stat_log)
    return store


def add_rows(cache: ObjectPath) -> None:
    """Commit two more rows."""
    with open_anew(cache).writer(shard_rows=2) as writer:
        writer.append(NAMES[4:], ROWS[4:])
        writer.commit(extracted(listing([0, 1, 2, 0, 1, 2]), NAMES))


def assert_holds(cache: ObjectPath, rows: int) -> None:
    """Fail unless the store holds exactly these rows, each shard stands in the log once, and nothing is damaged."""
    store = open_anew(cache)
    assert store.rows == rows
    assert store.load(NAMES[:rows]).tobytes() == ROWS[:rows].tobytes()
    assert store.verify() == []
    assert len(store.shards) == rows // 2


SHARD, LOG = r"/shards/", r"/commits\.jsonl/"
PUTS = [("lost", SHARD), ("unanswered", LOG), ("twice", LOG), ("503 SlowDown", "writer.json")]
READINGS = [("torn", SHARD), ("torn", "list-type"), ("lost", LOG), ("503 SlowDown", "trunk.json")]
if FULL:
    kinds = ("lost", "unanswered", "twice", "503 SlowDown", "500 InternalError")
    PUTS = [(kind, place) for kind in kinds for place in (SHARD, LOG, r"\.h5$", "writer.json")]
    kinds = ("lost", "torn", "503 SlowDown", "500 InternalError")
    READINGS = [(kind, place) for kind in kinds for place in (SHARD, LOG, "list-type", "trunk.json")]


@pytest.mark.parametrize(("kind", "place"), PUTS)
def test_a_put_that_goes_wrong_once_goes_right(cache: ObjectPath, proxy: Proxy, kind: str, place: str) -> None:
    """Lost, arrived without an answer, answered twice, or refused for a moment: the rows are committed, each once."""
    fault = Fault("PUT", place, kind)
    proxy.faults.append(fault)
    add_rows(cache)
    assert fault.times == 0
    assert_holds(cache, 6)


@pytest.mark.parametrize(("kind", "place"), READINGS)
def test_a_reading_that_goes_wrong_once_goes_right(cache: ObjectPath, proxy: Proxy, kind: str, place: str) -> None:
    """A request that is lost, an answer that is torn, a server that is busy: what is read is whole, and right."""
    fault = Fault("GET", place, kind)
    proxy.faults.append(fault)
    assert_holds(cache, 4)
    assert fault.times == 0


REFUSALS = [
    ("503 SlowDown", "it asks to slow down, for longer than we retry"),
    ("403 InvalidAccessKeyId", "it does not know these credentials"),
    ("403 SignatureDoesNotMatch", "the secret key is not that of the key's id"),
    ("403 AccessDenied", "these credentials may not do this"),
    ("400 ExpiredToken", "the credentials have expired"),
    ("404 NoSuchBucket", "there is no such bucket"),
    ("lost", "refuses: "),
]


@pytest.mark.parametrize(("kind", "words"), REFUSALS if FULL else REFUSALS[:3])
def test_what_does_not_pass_ends_the_run(cache: ObjectPath, proxy: Proxy, kind: str, words: str) -> None:
    """Exit 5, which of these it is, and none of the keys; what was committed stays, and the next run goes on."""
    proxy.faults.append(Fault("PUT", SHARD, kind, times=1000))
    with pytest.raises(MachineError, match=re.escape(words)) as refused:
        add_rows(cache)
    assert not any(secret in str(refused.value) for secret in (KEY_ID, SECRET))
    proxy.faults.clear()
    assert_holds(cache, 4)
    add_rows(cache)
    assert_holds(cache, 6)


@pytest.mark.parametrize("kind", ["403 InvalidAccessKeyId", "lost"])
def test_an_outage_is_no_damage(cache: ObjectPath, proxy: Proxy, kind: str) -> None:
    """Where nothing can be read, verifying raises; it names no file as missing or damaged, which repair would move."""
    store = open_anew(cache)
    proxy.faults.append(Fault("GET", "", kind, times=1000))
    proxy.faults.append(Fault("HEAD", "", kind, times=1000))
    with pytest.raises(MachineError):
        store.verify()


def test_a_listing_that_lags_hides_no_commit(cache: ObjectPath, proxy: Proxy) -> None:
    """A reader, and the next writer, know of every line, also where the newest are in no listing yet."""
    add_rows(cache)

    def lag(request: str, body: bytes) -> bytes:
        return re.sub(rb"<Contents><Key>[^<]*commits\.jsonl/0*[5-9]</Key>.*?</Contents>", b"", body)

    proxy.change_answer = lag
    assert_holds(cache, 6)
    with open_anew(cache).writer() as writer:
        assert writer.store.rows == 6


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_conditions_is_refused(proxy: Proxy, header: str) -> None:
    """At once and with the reason; nothing is left behind."""
    proxy.without_headers = (header, header.lower())
    name = make_bucket(proxy.upstream)
    with pytest.raises(MachineError, match=f"ignores the condition `{header}.*local folder"):
        new_store(cache_folder(f"s3://{name}/features"))
    proxy.without_headers = ()
    bucket._BUCKETS.clear()
    assert not cache_folder(f"s3://{name}/features").is_dir()


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MachineError that says so; not a cache that is empty."""
    use_endpoint("http://127.0.0.1:9", monkeypatch.setenv)
    monkeypatch.setattr(connection, "RETRY_SECONDS", 0.1)
    with pytest.raises(MachineError, match="nobody listens at its address"):
        cache_folder("s3://bucket/features").is_dir()


def test_an_object_that_is_replaced_while_it_is_read_is_refused(cache: ObjectPath) -> None:
    """Ranges are asked for by their version: never is one half old and the other new."""
    from featcache.files.objects.object_reader import open_object

    (shard, *_) = (next(cache.glob("stores/*")) / "shards").iterdir()
    reader = open_object(shard)
    first = reader.read_ranges([0], [10])
    assert len(first[0]) == 10
    bucket.open_bucket(shard).overwrite(shard.key, b"another" * 100)
    with pytest.raises((FeatcacheError, FileExistsError)):
        reader.read_ranges([10], [10])


def test_the_patience_is_what_the_guide_says() -> None:
    """A minute, and sixty seconds of a lease."""
    from featcache.files.objects import lease

    text = (Path(__file__).parents[2] / "docs/guides/object-storage.md").read_text()
    assert timedelta(seconds=connection.RETRY_SECONDS) == timedelta(minutes=1)
    assert "for up to a minute" in text
    assert f"taken over {lease.LEASE_SECONDS:g} seconds after" in text
    assert environment("x")["AWS_ENDPOINT_URL"] == "x"
