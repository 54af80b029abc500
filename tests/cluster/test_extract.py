"""An extract by several workers gives what one process gives, whatever becomes of the workers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import Settings
from featcache.errors import CacheError, DataError, MachineError
from featcache.extraction import Progress, job
from featcache.files import StatLog
from featcache.store import FeatureStore, find_stores
from featcache.store.trunk_record import write_trunk
from featcache.store.writer import StoreWriter
from tests.cluster.thread_cluster import ThreadCluster
from tests.conftest import ARCH, Nano, single_thread, write_images
from tests.extraction.runs import spoil
from tests.extraction.test_videos import fold_of, write_films

one_thread = pytest.fixture(autouse=True)(single_thread)
ROWS = 42
Extract = Callable[..., list[featcache.Summary]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("cluster") / "digits", {"train": {"0": 20, "1": 22}, "val": {"0": 6}})


@pytest.fixture
def extract(nano: Nano, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extract:
    """Extract into tmp_path/<cache>: on a cluster where one is given, else in this process."""

    def call(cache: str, cluster: ThreadCluster | None = None, *, root: Path = images, progress=lambda _: None, **more):
        running = {name: more.pop(name) for name in ("max_bad", "shard_rows") if name in more}
        ray = {} if cluster is None else {"ray": "auto"}
        monkeypatch.setattr(job, "open_cluster", lambda _: cluster)
        place = cache if "://" in cache else tmp_path / cache
        settings = Settings(workers=1, batch_size=4, device="auto" if ray else "cpu", **ray, **running)
        data = None if root is None else str(root)
        return featcache.extract(
            data=data, cache=place, arch=ARCH, weights=str(nano.weights), precision="fp32",
            settings=settings, progress=progress, **more,
        )  # fmt: skip

    return call


def load(tmp_path: Path, cache: str, root: Path, split: str = "train") -> np.ndarray:
    return featcache.load(split, data=str(root), cache=tmp_path / cache).x


def open_store(tmp_path: Path, cache: str) -> FeatureStore:
    (root,) = (tmp_path / cache / "stores").iterdir()
    return FeatureStore.open(root, StatLog(tmp_path / cache))


def committed(store: FeatureStore) -> list[str]:
    lines = [json.loads(line) for line in (store.root / "commits.jsonl").read_text().splitlines()]
    return [line["add"]["name"] for line in lines if "add" in line]


def test_three_workers_give_the_bytes_of_one_process(extract, images, tmp_path):
    """Every row is embedded once, each worker has a part, all of it is in the log once, and `load` is the same."""
    extract("alone")
    cluster = ThreadCluster(3)
    train, val = extract("cluster", cluster, shard_rows=8)
    assert (train.embedded, train.rows, val.embedded) == (ROWS, ROWS, 6)
    assert "on 3 workers of the cluster" in train.engine
    assert "averages over 3 workers" in train.held_back
    assert [worker.calls.count("begin") > 0 for worker in cluster.workers] == [True] * 3
    store = open_store(tmp_path, "cluster")
    assert store.rows == ROWS + 6
    assert len(set(committed(store))) == len(committed(store)) == len(store.shards)
    assert {path.name for path in store.shard_folder.iterdir()} == {shard.name for shard in store.shards}
    for split in ("train", "val"):
        assert load(tmp_path, "cluster", images, split).tobytes() == load(tmp_path, "alone", images, split).tobytes()
    assert featcache.verify(cache=tmp_path / "cluster") == []
    assert cluster.is_closed


def test_a_second_run_starts_no_worker(extract, tmp_path):
    """Where nothing is lacking, no cluster is looked for."""
    extract("cluster", ThreadCluster(2))
    (train, _) = extract("cluster", None)
    assert (train.embedded, train.reused) == (0, ROWS)


@pytest.mark.parametrize("loss", [(0, "load", 1), (1, "next", 2)], ids=str)
def test_a_lost_worker_costs_nothing_in_the_end(extract, images, tmp_path, loss):
    """Another takes its place in the same run; what it published and did not say is in no log, and gc removes it."""
    extract("alone")
    cluster = ThreadCluster(3, [loss])
    train, _ = extract("cluster", cluster, shard_rows=5)
    assert train.embedded == ROWS
    assert load(tmp_path, "cluster", images).tobytes() == load(tmp_path, "alone", images).tobytes()
    store = open_store(tmp_path, "cluster")
    assert len(set(committed(store))) == len(committed(store))
    for worker in cluster.workers:
        worker.thread.shutdown()  # the lost one goes on, as one whose network is cut off does
    featcache.gc(cache=tmp_path / "cluster", apply=True)
    store = open_store(tmp_path, "cluster")
    assert {path.name for path in store.shard_folder.iterdir()} == {shard.name for shard in store.shards}
    assert featcache.verify(cache=tmp_path / "cluster") == []


def test_workers_that_are_lost_one_after_the_other_end_the_run(extract):
    """A machine that kills every worker is said, not tried for ever."""
    with pytest.raises(MachineError, match="4 workers of the cluster were lost one after the other"):
        extract("cluster", ThreadCluster(2, [(number, "load", 1) for number in range(9)]))


def test_a_partition_that_kills_its_workers_is_named(extract):
    """Three workers lost over the same images end the run, with one of them named."""
    with pytest.raises(MachineError, match=r"3 workers .* while they embedded the same 42 images, .*digits/train/0"):
        extract("cluster", ThreadCluster(1, [(number, "next", 1) for number in range(9)]))


def test_ctrl_c_commits_what_the_workers_embedded(extract, tmp_path):
    """The workers publish what they have, and it is in the log before the command ends; the next run does the rest."""

    def interrupt(now: Progress) -> None:
        if now.embedded >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract("cluster", ThreadCluster(2), progress=interrupt)
    held = open_store(tmp_path, "cluster").rows
    assert held >= 4
    train, _ = extract("cluster", ThreadCluster(2))
    assert train.embedded + held >= ROWS
    assert train.reused >= min(held, ROWS)


def test_ctrl_c_commits_no_shard_twice(extract, tmp_path, monkeypatch):
    """It comes when the line of a shard is written, and before anybody knows: the line is not written again."""
    adopt = StoreWriter.adopt

    def interrupt(*arguments, **keywords):
        monkeypatch.setattr(StoreWriter, "adopt", adopt)
        adopt(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "adopt", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract("cluster", ThreadCluster(2))
    log = (open_store(tmp_path, "cluster").root / "commits.jsonl").read_bytes().splitlines()
    assert len(log) == len(set(log)) > 0


def test_too_many_bad_images_of_all_workers_together_end_the_run(extract, tmp_path):
    """--max-bad is of the split, not of a worker's part; what was embedded is kept."""
    root = write_images(tmp_path / "bad", {"train": {"0": 20, "1": 20}})
    spoil(root, 3)
    (train,) = extract("cluster", ThreadCluster(3), root=root, max_bad=0.2)
    assert (train.embedded, train.failed) == (40, 3)
    with pytest.raises(DataError, match="3 of 43 images of split 'train' cannot be used"):
        extract("other", ThreadCluster(3), root=root, max_bad=0.02)


def test_layers_are_embedded_in_lockstep(extract, images, tmp_path):
    """Two layers go to their two stores, of one forward."""
    extract("alone", layer=["cls", "mean"])
    extract("cluster", ThreadCluster(2), layer=["cls", "mean"])
    for layer in ("cls", "mean"):
        alone, cluster = (
            featcache.load("train", data=str(images), cache=tmp_path / cache, layer=layer).x
            for cache in ("alone", "cluster")
        )
        assert cluster.tobytes() == alone.tobytes()


def test_views_are_embedded_beside_the_plain_image(extract, images, tmp_path):
    """Views of an image go to their stores; each has the rows that one process gives it."""
    extract("alone", split="val", views=2)
    extract("cluster", ThreadCluster(2), split="val", views=2)
    alone, cluster = (
        {store.name: store for store in find_stores(tmp_path / cache, StatLog(tmp_path / cache))}
        for cache in ("alone", "cluster")
    )
    assert alone.keys() == cluster.keys()
    assert len(alone) == 3
    for name, store in alone.items():
        (extracted,) = map(store.listing, store.listings)
        assert cluster[name].load(extracted.digests).tobytes() == store.load(extracted.digests).tobytes()


def test_frames_of_videos_are_decoded_by_the_workers(extract, tmp_path):
    """Each video by one worker; the frames' embeddings are those of one process, and none is read a second time."""
    name = fold_of(write_films(tmp_path), 0)
    extract("alone", root=None, pipeline=name)
    train, *_ = extract("cluster", ThreadCluster(2), root=None, pipeline=name)
    assert (train.rows, train.embedded) == (32, 28)
    for split in ("train", "val", "test"):
        alone, cluster = (
            featcache.load(split, pipeline=name, cache=tmp_path / cache).x for cache in ("alone", "cluster")
        )
        assert cluster.tobytes() == alone.tobytes()
    again, *_ = extract("cluster", None, root=None, pipeline=name)
    assert again.reused == 32


def test_rows_are_added_only_where_they_come_out_the_same(extract, tmp_path):
    """A store that another environment filled is compared first, by a worker, and the comparison is noted."""
    extract("cluster", split="val")
    store = open_store(tmp_path, "cluster")
    (entry,) = store.trunk.provenance
    write_trunk(store.root, dataclasses.replace(store.trunk, provenance=({**entry, "device": "another"},)))
    (train,) = extract("cluster", ThreadCluster(1), split="train")
    assert train.drift is not None
    assert train.drift.compared == 6
    made = open_store(tmp_path, "cluster").trunk.provenance
    assert [entry.get("drift", {}).get("compared") for entry in made] == [None, 6]
    assert {shard.made for shard in open_store(tmp_path, "cluster").shards} == {0, 1}


def test_a_cache_in_a_bucket_has_the_same_bytes(extract, images, tmp_path, bucket_url):
    """Workers put whole shards into a bucket, one of them is lost, and the driver commits the others' once."""
    extract("alone")
    extract(bucket_url, ThreadCluster(2, [(0, "next", 2)]), shard_rows=8)
    for split in ("train", "val"):
        there = featcache.load(split, data=str(images), cache=bucket_url)
        assert there.x.tobytes() == load(tmp_path, "alone", images, split).tobytes()
    featcache.gc(cache=bucket_url, apply=True)
    assert featcache.verify(cache=bucket_url) == []


class ElsewhereCluster(ThreadCluster):
    """Its nodes have other folders."""

    def start(self, kind, settings):
        return super().start(kind, dataclasses.replace(settings, roots=dict.fromkeys(settings.roots, "/nowhere")))


def test_a_worker_without_the_cache_says_so(extract):
    """A node that does not have the folder is named, with what --cache has to be."""
    with pytest.raises(
        CacheError, match=r"worker 0 .*/nowhere.* every node of the cluster has under the same path, or a"
    ):
        extract("cluster", ElsewhereCluster(1))
