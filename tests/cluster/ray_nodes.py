"""Three nodes of Ray on this machine, and which of their processes a test may kill."""

import os
import signal
import time
from pathlib import Path
from typing import Any

PATIENT = {  # a busy machine of two cores takes its time
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_metrics_collection": "0",
}
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}


class RayNodes:
    """A head node that computes nothing, and three that have one core each."""

    def __init__(self, folder: Path) -> None:
        """Start them.

        Args:
            folder: Of Ray's own files; its path is short, because sockets stand in it.
        """
        os.environ.update(PATIENT, RAY_TMPDIR=str(folder))  # before Ray is imported
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False},
        )
        self.nodes: list[Any] = []
        for _ in range(3):
            self.add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> None:
        """Start one more node."""
        self.nodes.append(self._cluster.add_node(wait=False, **NODE))

    def actors(self) -> list[int]:
        """Return the processes of the workers that are running."""
        return [pid for raylet in map(_raylet, self.nodes) for pid in _children(raylet) if _is_ours(pid)]

    def kill_node(self, number: int) -> None:
        """Kill a node with all its processes, as a power cut does, and start another in its place."""
        node = self.nodes.pop(number)
        for pid in [*_children(_raylet(node)), _raylet(node)]:
            kill(pid)
        self._cluster.remove_node(node, allow_graceful=False)
        self.add()

    def close(self) -> None:
        self._cluster.shutdown()


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(condition: Any, seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _children(pid: int) -> list[int]:
    try:
        found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for children in found for child in children]


def _is_ours(pid: int) -> bool:
    try:
        return b"PartitionWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
