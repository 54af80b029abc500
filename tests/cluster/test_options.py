"""Which workers a cluster is given, and what `--ray` refuses."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache import Settings
from featcache.cluster import ClusterOptions, NodeResources, WorkerShare, open_cluster, share_nodes
from featcache.errors import MachineError, UsageError

GPU_NODE, CPU_NODE = NodeResources(32, 4), NodeResources(16, 0)


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([CPU_NODE] * 3, {}, WorkerShare(3, 16, 0)),
        ([CPU_NODE, NodeResources(8, 0)], {}, WorkerShare(3, 8, 0)),
        ([CPU_NODE, NodeResources(0, 0)], {}, WorkerShare(1, 16, 0)),  # a head node that computes nothing
        ([GPU_NODE] * 2, {}, WorkerShare(8, 8, 1)),
        ([GPU_NODE, CPU_NODE], {}, WorkerShare(4, 8, 1)),
        ([GPU_NODE] * 2, {"gpus": 0.5}, WorkerShare(16, 4, 0.5)),
        ([GPU_NODE], {"gpus": 0.4}, WorkerShare(8, 4, 0.4)),  # two on each: no worker has parts of two
        ([GPU_NODE], {"gpus": 2.0}, WorkerShare(2, 16, 2)),
        ([GPU_NODE], {"gpus": 0}, WorkerShare(1, 32, 0)),
        ([GPU_NODE], {"gpus": 0, "cpus": 4}, WorkerShare(8, 4, 0)),
        ([NodeResources(2, 0)], {"workers": 4}, WorkerShare(4, 0.5, 0)),
        ([CPU_NODE] * 3, {"workers": 2}, WorkerShare(2, 16, 0)),
    ],
)
def test_workers_share_what_the_nodes_have(nodes, options, expected):
    """One worker a GPU, or the share that was asked for; without GPUs one a node; cores are divided evenly."""
    assert share_nodes(nodes, ClusterOptions(address="auto", **options)) == expected


@given(
    st.lists(st.builds(NodeResources, st.integers(1, 64).map(float), st.integers(0, 8).map(float)), min_size=1),
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0, 2.0]),
)
def test_no_worker_is_promised_what_no_node_has(nodes, gpus):
    """However unlike the nodes are, all the workers fit at once."""
    try:
        share = share_nodes(nodes, ClusterOptions(address="auto", gpus=gpus))
    except MachineError:
        return
    fitting = 0
    for node in nodes:
        by_cores = int(node.cpus / share.cpus + 1e-9)
        slots = int(node.gpus) * int(1 / share.gpus) if 0 < share.gpus <= 1 else int(node.gpus / (share.gpus or 1))
        fitting += min(by_cores, slots) if share.gpus else by_cores
    assert 1 <= share.workers <= fitting


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": 8.0}, "no node of the cluster has room for --ray-gpus 8: it has 1 nodes, with at most 4 GPUs"),
        ({"workers": 9}, "no room for --ray-workers 9: with 8 cores and 1 GPUs each, 4 fit"),
        ({"cpus": 64}, "no room for one worker: with 64 cores and 1 GPUs each, 0 fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(options, message):
    """The sentence has what was asked for, and what the cluster has."""
    with pytest.raises(MachineError, match=message):
        share_nodes([GPU_NODE], ClusterOptions(address="auto", **options))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ray": "somewhere"}, "--ray somewhere: expected auto"),
        ({"ray": "10.0.0.1:65536"}, "--ray 10.0.0.1:65536: expected auto"),
        ({"ray": "ray://10.0.0.1:10001"}, "an address of Ray Client"),
        ({"ray": "auto", "ray_gpus": -1.0}, "--ray-gpus: found -1"),
        ({"ray": "auto", "ray_gpus": float("inf")}, "--ray-gpus: found inf"),
        ({"ray": "auto", "ray_gpus": 1.5}, "--ray-gpus: found 1.5, expected a share from 0 to 1, or a whole number"),
        ({"ray": "auto", "ray_cpus": 0.0}, "--ray-cpus: found 0"),
        ({"ray": "auto", "ray_workers": 0}, "--ray-workers: found 0"),
        ({"ray_gpus": 0.5}, "--ray-gpus has no effect without --ray"),
        ({"ray": "auto", "device": "cuda"}, "--device has no effect with --ray"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    """A wrong address or share, or one that would have no effect, is a sentence before anything starts."""
    with pytest.raises(UsageError, match=message):
        Settings(**settings)


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    """Where Ray is not installed, the error has the command of pip."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MachineError, match=r"--ray needs Ray, which is not installed .*pip install 'featcache\[ray\]'"):
        open_cluster(ClusterOptions(address="auto"))


def test_ray_is_not_imported_without_the_flag():
    """All that extract and fit-head import leaves Ray alone."""
    program = (
        "import sys, featcache.extraction.job, featcache.heads.fit_linear, featcache.cluster.ray_cluster; "
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
