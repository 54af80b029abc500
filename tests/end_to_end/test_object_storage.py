"""A cache in a bucket of a real server on loopback: what is typed, what comes back, and what is never written there."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError, UsageError
from featcache.extraction import job
from featcache.files import StatLog, hold_store
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.object_path import ObjectPath
from featcache.store import cache_folder, find_stores
from tests.cluster.thread_cluster import ThreadCluster
from tests.conftest import ARCH, Nano, write_images
from tests.object_server import KEY_ID, SECRET, environment, wait_until

COUNTS = {"train": {"0": 12, "1": 10}, "val": {"0": 4, "1": 4}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "digits", COUNTS)


def extract(images: Path, cache: str | Path, nano: Nano, split: str | None = None) -> list[featcache.Summary]:
    settings = featcache.Settings(device="cpu", workers=1, batch_size=4, shard_rows=4)
    flags: dict[str, Any] = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    return featcache.extract(split, data=str(images), cache=cache, settings=settings, **flags)


def assert_same(images: Path, left: str | Path, right: str | Path) -> None:
    """Fail unless both caches load the same bits."""
    for split in COUNTS:
        one, other = (featcache.load(split, data=str(images), cache=cache) for cache in (left, right))
        assert one.x.tobytes() == other.x.tobytes()
        assert dataclasses.replace(one, x=other.x, y=other.y).source == other.source
        np.testing.assert_array_equal(one.y, other.y)


def objects_of(cache: str | Path) -> dict[str, bytes]:
    """Return every object of a cache in a bucket, by its name below it."""
    place = cache_folder(cache)
    assert isinstance(place, ObjectPath)
    bucket = open_bucket(place)
    return {key.removeprefix(f"{place.key}/"): bucket.get(key)[0] for key, _ in bucket.walk(place.key)}


def forget_what_was_read(cache: str) -> None:
    """Let the next reading be that of another process."""
    place = cache_folder(cache)
    assert isinstance(place, ObjectPath)
    bucket = open_bucket(place)
    bucket.log_objects.clear()
    bucket.log_ends.clear()
    bucket._kept.clear()


def test_a_bucket_gives_the_bits_of_a_folder(bucket_url: str, images: Path, nano: Nano, tmp_path: Path) -> None:
    """Extract, heads, report, predict, verify and gc work; what is loaded has the bits that a local cache loads."""
    local = tmp_path / "cache"
    for cache in (local, bucket_url):
        assert sum(summary.embedded for summary in extract(images, cache, nano)) == 30
        assert sum(summary.embedded for summary in extract(images, cache, nano)) == 0
    forget_what_was_read(bucket_url)
    assert_same(images, local, bucket_url)

    fits = [featcache.fit_head(data=str(images), cache=cache, lr=0.1, epochs=3) for cache in (local, bucket_url)]
    assert fits[0].best.head.weight.tobytes() == fits[1].best.head.weight.tobytes()
    reports = [featcache.evaluate(data=str(images), cache=cache) for cache in (local, bucket_url)]
    assert reports[0].accuracy == reports[1].accuracy
    image = next(images.rglob("*.png"))
    predictions = [featcache.predict("best", [image], data=str(images), cache=cache) for cache in (local, bucket_url)]
    np.testing.assert_array_equal(predictions[0].probabilities, predictions[1].probabilities)

    assert featcache.verify(cache=bucket_url) == []
    (summary,) = featcache.gc(cache=bucket_url, apply=True)
    assert summary.rewritten > 1
    forget_what_was_read(bucket_url)
    assert_same(images, local, bucket_url)
    assert featcache.info(cache=bucket_url)["stores"][0]["heads"] == 1


def test_a_cache_copies_to_a_bucket_and_back(bucket_url: str, images: Path, nano: Nano, tmp_path: Path) -> None:
    """What never changes has the same bytes, logs say the same; a second copy finds all there, and a third adds."""
    first, back = tmp_path / "first", tmp_path / "back"
    extract(images, first, nano, "train")
    featcache.fit_head(data=str(images), cache=first, lr=0.1, epochs=2)
    featcache.copy_cache(first, bucket_url)
    featcache.copy_cache(bucket_url, back)
    names = ("*.h5", "head.*", "history.csv", "trunk.json", "*.jsonl")
    for name in names:
        paths = sorted(path.relative_to(first) for path in first.rglob(name))
        assert paths == sorted(path.relative_to(back) for path in back.rglob(name))
        assert paths
        assert all((first / path).read_bytes() == (back / path).read_bytes() for path in paths)
    assert featcache.verify(cache=back) == []

    assert featcache.copy_cache(first, bucket_url).files == 0
    extract(images, first, nano, "val")
    added = featcache.copy_cache(first, bucket_url)
    assert (added.files, added.lines) == (3, 3)  # two shards and a listing
    assert_same(images, first, bucket_url)
    extract(images, back, nano, "val")
    for cache in (back, first):  # whose logs go on alike, and then each with its own time
        featcache.gc(cache=cache, apply=True)
    featcache.copy_cache(back, bucket_url)
    assert_same(images, back, bucket_url)
    with pytest.raises(CacheError, match="it is no copy of"):
        featcache.copy_cache(first, bucket_url)


def test_a_copy_that_went_on_by_itself_is_not_written_over(images: Path, nano: Nano, tmp_path: Path) -> None:
    """It would lose what its rows were made by: trunk.json would be that of the cache, which never had these rows."""
    first, second = tmp_path / "first", tmp_path / "second"
    extract(images, first, nano, "val")
    featcache.copy_cache(first, second)
    extract(images, second, nano, "train")
    before = {path: path.read_bytes() for path in second.rglob("trunk.json")}
    with pytest.raises(CacheError, match="the copy has gone on by itself"):
        featcache.copy_cache(first, second)
    assert before == {path: path.read_bytes() for path in second.rglob("trunk.json")}
    featcache.copy_cache(second, first)
    assert_same(images, second, first)


@pytest.mark.parametrize("cache", ["cache", "memory://bucket/cache"])
def test_a_copy_is_no_part_of_its_cache(cache: str) -> None:
    """A cache within the cache would be copied with it the next time, and counted by whoever lists it."""
    with pytest.raises(UsageError, match="the copy would be a part of the cache"):
        featcache.copy_cache(cache, f"{cache}/stores/copy")


def test_copies_on_the_local_disk_are_read_and_checked(
    bucket_url: str, images: Path, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --local-cache a shard is fetched once; a copy that was damaged is fetched again and never believed."""
    extract(images, bucket_url, nano, "train")
    copies = tmp_path / "copies"
    options = {"data": str(images), "cache": bucket_url, "local_cache": copies}
    forget_what_was_read(bucket_url)
    expected = featcache.load("train", **options).x
    assert len(list(copies.glob("objects/*/*"))) == 7  # six shards and a listing
    fetched: list[str] = []
    get_range = Bucket.get_range
    monkeypatch.setattr(
        Bucket, "get_range", lambda self, key, *rest: fetched.append(key) or get_range(self, key, *rest)
    )
    forget_what_was_read(bucket_url)
    assert featcache.load("train", **options).x.tobytes() == expected.tobytes()
    assert fetched == []

    for damaged in copies.glob("objects/*/*"):
        damaged.chmod(0o644)
        damaged.write_bytes(b"\0" * damaged.stat().st_size)
    forget_what_was_read(bucket_url)
    assert featcache.load("train", **options).x.tobytes() == expected.tobytes()
    assert fetched
    monkeypatch.undo()
    for path in copies.rglob("*"):
        assert not path.is_file() or KEY_ID.encode() not in path.read_bytes()


def test_a_part_of_a_shard_is_read_by_its_ranges(bucket_url: str, images: Path, nano: Nano) -> None:
    """Once a shard's hash is remembered, a few of its rows cost requests for these, and not for the whole shard."""
    extract(images, bucket_url, nano, "train")
    featcache.load("train", data=str(images), cache=bucket_url)
    folder = cache_folder(bucket_url)
    StatLog(folder).flush()
    (store,) = find_stores(folder, StatLog(folder))
    names = store.listing(next(iter(store.listings))).digests
    every = store.load(names)
    forget_what_was_read(bucket_url)
    order = np.random.default_rng(0).permutation(len(names))[:7]
    assert store.load(names[order]).tobytes() == every[order].tobytes()


def test_no_credentials_are_written_or_shown(bucket_url: str, run, images: Path, nano: Nano, object_store: str) -> None:
    """Neither in an object, nor on either output, of a run that works and of one that is refused."""
    flags = ("--data", images, "--cache", bucket_url, *nano.flags, "--workers", "1")
    shown = [run("extract", *flags, **environment(object_store)), run("verify", "--cache", bucket_url)]
    shown.append(run("info", "--cache", f"{bucket_url}2", **environment(object_store)))
    texts = [text.encode() for ran in shown for text in (ran.out, ran.err)]
    assert shown[0].code == 0, shown[0].err
    contents = list(objects_of(bucket_url).values())
    assert contents
    for secret in (KEY_ID, SECRET):
        assert not any(secret.encode() in text for text in (*texts, *contents))


def test_workers_of_a_cluster_publish_into_a_bucket(
    bucket_url: str, images: Path, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three workers, of which one is lost, and a driver that commits: the bits of one process, each shard once."""
    extract(images, tmp_path / "alone", nano)
    cluster = ThreadCluster(3, [(1, "next", 1)])
    monkeypatch.setattr(job, "open_cluster", lambda _: cluster)
    settings = featcache.Settings(workers=1, batch_size=4, shard_rows=4, ray="auto")
    flags: dict[str, Any] = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    featcache.extract(data=str(images), cache=bucket_url, settings=settings, **flags)
    for worker in cluster.workers:
        worker.thread.shutdown()
    forget_what_was_read(bucket_url)
    assert_same(images, tmp_path / "alone", bucket_url)
    featcache.gc(cache=bucket_url, apply=True)
    folder = cache_folder(bucket_url)
    (store,) = find_stores(folder, StatLog(folder))
    assert {path.name for path in store.shard_folder.iterdir()} == {shard.name for shard in store.shards}


_HOLD = """
import sys, time
from featcache.files import hold_store, AppendLog, seal_line
from featcache.store import cache_folder
from featcache.files.objects import lease
lease.LEASE_SECONDS = 2.0
root = cache_folder(sys.argv[1]) / "stores" / "one"
with hold_store(root):
    print("held", flush=True)
    sys.stdin.readline()
    AppendLog(root / "commits.jsonl").append(seal_line({"listing": {}}))
"""


def test_a_process_that_was_stopped_and_continued_commits_nothing(bucket_url: str, object_store: str) -> None:
    """Its lease is taken over after its stated time; when it goes on, its commit is refused, and it says by whom."""
    command = [sys.executable, "-c", _HOLD, bucket_url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, **environment(object_store)}, **pipes) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"held\n"
        sleeper.send_signal(signal.SIGSTOP)
        root = cache_folder(bucket_url) / "stores" / "one"
        with pytest.raises(CacheError, match=rf"pid {sleeper.pid} on .*since .*gone 2 s after"), hold_store(root):
            pytest.fail("it still counts")
        with hold_store(root, wait=30.0):
            assert json.loads(objects_of(bucket_url)["stores/one/writer.json"])["pid"] == os.getpid()
            sleeper.send_signal(signal.SIGCONT)
            _, errors = sleeper.communicate(b"\n", timeout=60)
            assert sleeper.returncode == 1
            assert f"another process has taken over writing here (pid {os.getpid()}" in errors.decode()
    names = [name for name in objects_of(bucket_url) if "commits.jsonl" in name]
    assert len(names) == 2  # of the two that took the lease, and no line
    wait_until(lambda: "stores/one/writer.json" not in objects_of(bucket_url))
