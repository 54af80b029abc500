"""Real nodes of Ray, really killed: `make cluster-test`, some fifteen minutes on two cores."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featcache
from tests.cluster.ray_nodes import RayNodes, kill, wait_until
from tests.conftest import SHARED, Nano, write_images
from tests.object_server import environment, make_bucket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3000)]
KILLS = 20
SMALL = ("--batch-size", "8", "--workers", "1", "--shard-rows", "16")


@pytest.fixture(scope="session")
def nodes(object_store: str) -> Iterator[RayNodes]:
    os.environ.update(environment(object_store))  # as nodes have their credentials: from where they run
    folder = Path(tempfile.mkdtemp(prefix="fc", dir="/tmp"))
    cluster = RayNodes(folder)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def begin(*words: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "featcache", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command, **{**pipes, **options})


def say(line: str) -> None:
    """Show a line where pytest runs with -s."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*words: object, **options) -> str:
    process = begin(*words, **options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def store_of(cache: Path) -> Path:
    (store,) = (cache / "stores").iterdir()
    return store


def added(cache: Path) -> list[str]:
    """The shards that the logs of a cache have, in their order; a torn last line is none."""
    lines = [
        line for log in cache.glob("stores/*/commits.jsonl") for line in log.read_bytes().splitlines(keepends=True)
    ]
    entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [entry["add"]["name"] for entry in entries if "add" in entry]


def assert_sound(cache: Path) -> None:
    """No shard is in the log twice, every hash is right, and gc leaves no file that the log does not have."""
    assert len(set(added(cache))) == len(added(cache))
    featcache.gc(cache=cache, apply=True)
    assert featcache.verify(cache=cache) == []
    store = store_of(cache)
    known = {json.loads(line).get("add", {}).get("name") for line in (store / "commits.jsonl").read_text().splitlines()}
    assert {path.name for path in (store / "shards").iterdir()} <= known


def loaded(data: Path, cache: Path | str, split: str) -> tuple[list[str], bytes]:
    features = featcache.load(split, data=str(data), cache=cache)
    return list(features.paths), features.x.tobytes()


def compare_with_one_process(nodes: RayNodes, data: Path, tmp_path: Path, flags: tuple[object, ...]) -> list[dict]:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as a worker of one core has: products round by their threads
    run("extract", "--data", data, "--cache", tmp_path / "alone", *flags, "--device", "cpu", env=one_thread)
    words = ("extract", "--data", data, "--cache", tmp_path / "cluster", *flags, "--ray", nodes.address, "--json")
    documents = json.loads(run(*words))
    for document in documents:
        split = document["split"]
        assert loaded(data, tmp_path / "cluster", split) == loaded(data, tmp_path / "alone", split)
    assert_sound(tmp_path / "cluster")
    return documents


def test_three_nodes_give_the_bytes_of_one_process(nodes, nano: Nano, hymenoptera: Path, tmp_path: Path) -> None:
    """398 photographs on three nodes: the embeddings are to the bit those of a run in one process."""
    documents = compare_with_one_process(nodes, hymenoptera, tmp_path, (*nano.flags, "--batch-size", 8))
    assert sum(document["embedded"] for document in documents) >= 396  # two are copies of others
    assert "on 3 workers of the cluster" in documents[0]["engine"]
    say(documents[0]["held_back"])


def test_three_nodes_fill_a_bucket_with_the_same_bytes(nodes, nano: Nano, hymenoptera: Path, tmp_path: Path) -> None:
    """The cache of an S3-compatible server: workers put shards there, the driver holds the lease and commits them."""
    url = f"s3://{make_bucket(os.environ['AWS_ENDPOINT_URL'])}/features"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    flags = ("--data", hymenoptera, *nano.flags, "--batch-size", 8)
    run("extract", "--cache", tmp_path / "alone", *flags, "--device", "cpu", env=one_thread)
    run("extract", "--cache", url, *flags, "--ray", nodes.address)
    for split in ("train", "val"):
        assert loaded(hymenoptera, url, split) == loaded(hymenoptera, tmp_path / "alone", split)
    featcache.gc(cache=url, apply=True)
    assert featcache.verify(cache=url) == []


def test_a_trained_network_gives_the_same_bytes_too(nodes, hymenoptera: Path, tmp_path: Path) -> None:
    """The same with EfficientNet-Lite0, whose convolutions are oneDNN's."""
    weights = next((SHARED / "weights").glob("*ite0*"), None) if (SHARED / "weights").is_dir() else None
    if weights is None:
        pytest.skip("../shared/data/weights has no Lite0")
    flags = ("--arch", "timm:tf_efficientnet_lite0", "--weights", weights, "--precision", "fp32", "--limit", 60)
    compare_with_one_process(nodes, hymenoptera, tmp_path, (*flags, "--batch-size", 8))


def test_twenty_kills_change_nothing(nodes, nano: Nano, tmp_path: Path) -> None:
    """A worker, a node or the driver is SIGKILLed at twenty random moments; then one run to the end: the same bytes."""
    data = write_images(tmp_path / "images", {"train": {str(digit): 150 for digit in range(10)}})
    words = ("extract", "--data", data, *nano.flags, *SMALL)
    run(*words, "--cache", tmp_path / "alone", "--device", "cpu")
    cache, moments, killed = tmp_path / "cluster", random.Random(20), {"worker": 0, "node": 0, "driver": 0}
    for number in range(KILLS):
        driver = begin(*words, "--cache", cache, "--ray", nodes.address, stdout=subprocess.DEVNULL)
        before, more = len(added(cache)), moments.randint(1, 3)
        while len(added(cache)) < before + more and driver.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        victim = moments.choice(sorted(killed))
        is_running = driver.poll() is None
        if victim == "worker" and (actors := nodes.actors()):
            kill(moments.choice(actors))
        elif victim == "node":
            nodes.kill_node(moments.randrange(3))
        else:
            victim = "driver"
            driver.kill()
        killed[victim] += is_running
        _, err = driver.communicate(timeout=600)
        say(f"{number}: {victim} after {len(added(cache))} shards; the driver ended with {driver.returncode}")
        assert driver.returncode == (-signal.SIGKILL if victim == "driver" and is_running else 0), err
        assert len(set(added(cache))) == len(added(cache))
        if driver.returncode == 0:  # the kill cost nothing; begin again where half is there
            forget_half(cache)
    say(f"killed: {killed}")
    assert min(killed.values()) > 0
    run(*words, "--cache", cache, "--ray", nodes.address)
    assert loaded(data, cache, "train") == loaded(data, tmp_path / "alone", "train")
    assert_sound(cache)


def forget_half(cache: Path) -> None:
    """Drop every other shard of a store from its log, so that a next run has something to do."""
    from featcache.store import CommitLog

    log = CommitLog(store_of(cache))
    for shard in log.read().shards[::2]:
        log.drop(shard.name)


def test_sigterm_commits_what_was_embedded(nodes, nano: Nano, tmp_path: Path) -> None:
    """A batch system's end: exit code 143 well before its SIGKILL, and the rows that the workers had are in the log."""
    data = write_images(tmp_path / "images", {"train": {str(digit): 170 for digit in range(10)}})
    cache = tmp_path / "cache"
    words = ("--data", data, "--cache", cache, *nano.flags, *SMALL, "--ray", nodes.address)
    driver = begin("extract", *words, stdout=subprocess.DEVNULL)
    wait_until(lambda: added(cache) or driver.poll() is not None, 300, "nothing is committed")
    begun = time.monotonic()
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 143, err
    assert time.monotonic() - begun < 25
    assert "interrupted; what was committed is safe" in err
    rows = sum(store["rows"] for store in featcache.info(data=str(data), cache=cache)["stores"])
    say(f"{rows} rows were committed")
    assert rows > 0
    wait_until(lambda: not nodes.actors(), 60, "a worker stays behind")
    assert_sound(cache)


def test_a_grid_on_three_nodes_has_the_same_weights(nodes, nano: Nano, tmp_path: Path) -> None:
    """`fit-head --grid --ray`: every head is to the bit the one that a run without it trains."""
    counts = {"train": {"0": 30, "1": 30}, "val": {"0": 10, "1": 10}}
    data = write_images(tmp_path / "images", counts)
    weights = {}
    for name, more in {"alone": (), "cluster": ("--ray", nodes.address)}.items():
        cache = tmp_path / name
        run("extract", "--data", data, "--cache", cache, *nano.flags, "--device", "cpu")
        grid = ("--grid", "lr=0.01,0.1 weight_decay=0,1e-3 seed=0,1", "--epochs", 3, "--no-check", "--device", "cpu")
        run("fit-head", "--data", data, "--cache", cache, *grid, *more)
        files = sorted(cache.glob("stores/*/heads/**/*.safetensors"))
        weights[name] = [(path.parent.name, path.read_bytes()) for path in files]
    assert len(weights["alone"]) == 8
    assert weights["alone"] == weights["cluster"]


def test_an_address_without_a_cluster_is_said(tmp_path: Path, nano: Nano) -> None:
    """Nobody listens there: one sentence, exit code 5, and the way out."""
    data = write_images(tmp_path / "images", {"train": {"0": 3}})
    driver = begin("extract", "--data", data, "--cache", tmp_path / "c", *nano.flags, "--ray", "127.0.0.1:1")
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 5
    assert "--ray 127.0.0.1:1: no cluster of Ray" in err
    assert "Traceback" not in err


def test_fixed_rows_are_loaded_as_arrays(nodes, nano: Nano, tmp_path: Path) -> None:
    """The library takes the same settings as the command line."""
    data = write_images(tmp_path / "images", {"train": {"0": 6, "1": 6}})
    settings = featcache.Settings(ray=nodes.address, workers=1, batch_size=4)
    arch, weights = nano.flags[1], nano.flags[3]
    (summary,) = featcache.extract(
        data=str(data), cache=tmp_path / "cache", arch=arch, weights=weights, precision="fp32", settings=settings
    )
    assert summary.embedded == 12
    assert np.isfinite(featcache.load("train", data=str(data), cache=tmp_path / "cache").x).all()
