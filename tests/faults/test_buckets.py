"""What networks and object stores do to a cache in a bucket: each fault has one outcome, docs/guides/object-storage.md.

The faults are injected by a proxy before a real server, which throws away requests and answers, tears connections, and
says what such servers say; and what is asked of the cache is a real write and a real reading.
"""

import contextlib
import random
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import FeatcacheError, MachineError
from featcache.files.objects import bucket, connection
from featcache.files.objects.object_path import ObjectPath
from featcache.store import CommitLog, FeatureStore, cache_folder, find_stores
from tests.builders import DIM, digests, extracted, listing, new_store
from tests.conftest import Nano, write_images
from tests.faults.conftest import FULL
from tests.faults.world import World
from tests.faults.zygote import Zygote
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


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_random_kills_of_a_real_extract(object_store: str, nano: Nano, tmp_path: Path, monkeypatch, kills: int) -> None:
    """SIGKILL at random moments, then one run to the end: nothing committed is lost, no shard stands in the log twice,
    and gc leaves no object that the log does not name. Nobody waits for the lease of a dead process.
    """
    write_images(tmp_path / "digits", {"train": {str(digit): 6 for digit in range(10)}})
    local = World.undisturbed(tmp_path / "digits", tmp_path / "cache", nano.weights, shard_rows=4)
    use_endpoint(object_store, monkeypatch.setenv)
    place, truth, moments = (
        cache_folder(f"s3://{make_bucket(object_store)}/features"),
        local.committed(),
        random.Random(3),
    )
    world, before, killed = local.at(place), {}, 0
    with Zygote() as zygote:
        while killed < kills:
            run = zygote.start(world, batch_size=4)
            until, more = time.monotonic() + 60, moments.randint(1, 4)
            while count_objects(place) < len(before) // 4 + more and not run.ended() and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.05))
            with contextlib.suppress(ProcessLookupError):
                run.kill()
            killed += run.wait() == -signal.SIGKILL
            now = world.committed()
            assert before.items() <= now.items() <= truth.items()
            assert world.verify() == []
            before = {} if len(now) == len(truth) else now
            if not before:  # it came to its end: begin again
                world = local.at(cache_folder(f"s3://{make_bucket(object_store)}/features"))
                place = world.cache
        assert zygote.run(world, batch_size=4) == 0
    assert world.committed() == truth
    assert world.load("train").x.tobytes() == local.truth["train"].x.tobytes()
    featcache.gc(cache=place, apply=True)
    (store,) = find_stores(place, new_store(place).stat_log)[:1]
    added = [line for line in CommitLog(store.root).replay().lines if b'"add"' in line]
    assert len(set(added)) == len(added)
    assert {path.name for path in store.shard_folder.iterdir()} == {shard.name for shard in store.shards}


def count_objects(cache: Path) -> int:
    """Return how many shards a cache in a bucket has, committed or not."""
    return len(list(cache.glob("stores/*/shards/*.h5")))


def test_the_patience_is_what_the_guide_says() -> None:
    """A minute, and sixty seconds of a lease."""
    from featcache.files.objects import lease

    text = (Path(__file__).parents[2] / "docs/guides/object-storage.md").read_text()
    assert timedelta(seconds=connection.RETRY_SECONDS) == timedelta(minutes=1)
    assert "for up to a minute" in text
    assert f"taken over {lease.LEASE_SECONDS:g} seconds after" in text
    assert environment("x")["AWS_ENDPOINT_URL"] == "x"
