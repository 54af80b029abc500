"""Heads that a cluster trains are those that one process trains."""

import pytest

import featcache
from featcache.cluster import ClusterOptions
from featcache.heads import cluster_training
from featcache.heads.cluster_training import group_heads
from featcache.heads.config import HeadConfig
from tests.cluster.thread_cluster import ThreadCluster
from tests.conftest import ARCH, single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
GRID = "lr=0.01,0.03,0.1 weight_decay=0,1e-3 seed=0,1"


@pytest.fixture
def cached(folder, nano, tmp_path):
    where = {"data": str(folder), "cache": tmp_path / "cache"}
    featcache.extract(
        **where, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=featcache.Settings(device="cpu")
    )
    return where


@pytest.mark.parametrize("losses", [[], [(0, "train", 1), (2, "load", 1)]], ids=["", "with losses"])
def test_a_grid_has_the_same_weights(cached, monkeypatch, losses):
    """Twelve heads in groups on three workers, some of which are lost, are to the bit the twelve that one trains."""
    options = {**cached, "grid": GRID, "epochs": 3, "device": "cpu", "check_seconds": None}
    alone = featcache.fit_head(**options)
    monkeypatch.setattr(cluster_training, "open_cluster", lambda _: ThreadCluster(3, losses))
    together = featcache.fit_head(**options, cluster=ClusterOptions(address="auto"))
    assert [head.name for head in together.heads] == [head.name for head in alone.heads]
    for one, other in zip(alone.heads, together.heads, strict=True):
        assert one.head.weight.tobytes() == other.head.weight.tobytes()
        assert one.head.bias.tobytes() == other.head.bias.tobytes()
        assert one.head.train == other.head.train


def test_a_search_spreads_its_trials(cached, monkeypatch):
    """Eight trials a worker are asked for at a time; the best head is what fit-head trains with its settings."""
    cluster = ThreadCluster(2)
    monkeypatch.setattr(cluster_training, "open_cluster", lambda _: cluster)
    options = {**cached, "epochs": 2, "device": "cpu", "check_seconds": None}
    found = featcache.search(20, **options, cluster=ClusterOptions(address="auto"))
    assert (found.trials, found.new, found.pruned) == (20, 20, 0)
    assert [worker.calls.count("train") > 0 for worker in cluster.workers] == [True, True]
    best = found.fit.best.head
    settings = {name: value for name, value in best.config.changed.items() if name not in ("epochs", "lr")}
    (alone,) = featcache.fit_head(best.config.lr, **options, **settings).heads
    assert alone.head.weight.tobytes() == best.weight.tobytes()
    again = featcache.search(20, **options, cluster=ClusterOptions(address="auto"))  # which starts no cluster
    assert again.new == 0


def test_a_single_head_starts_no_cluster(cached):
    """There is nothing to spread: it is trained here, and a note says so."""
    fit = featcache.fit_head(
        0.05, **cached, epochs=2, device="cpu", check_seconds=None, cluster=ClusterOptions(address="auto")
    )
    assert any("--ray has no effect" in note for note in fit.notes)


def test_groups_are_of_one_pass_each():
    """Heads that see other batches are in other groups; every head is in one."""
    configs = [HeadConfig(lr=lr, seed=seed) for lr in (0.01, 0.02, 0.03, 0.04, 0.05) for seed in (0, 1)]
    groups = group_heads(configs, 4)
    assert sorted(index for group in groups for index in group) == list(range(10))
    assert all(len({configs[index].seed for index in group}) == 1 for group in groups)
    assert max(map(len, groups)) <= 3
