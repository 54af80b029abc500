"""Which cluster, what each worker gets of it, and how many workers that makes."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from featcache.errors import MachineError, UsageError

MAX_WORKERS = 10_000
_ADDRESS = re.compile(r"auto|local|(?:[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What `--ray` and the options beside it say."""

    address: str  # "auto", "local", or HOST:PORT of the head node
    gpus: float | None = None  # of each worker; None: one where the cluster has any
    cpus: float | None = None  # cores of each worker; None: an equal share of its node's
    workers: int | None = None  # None: as many as the cluster has room for

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise UsageError(
                f"--ray {self.address}: this is an address of Ray Client, whose driver is outside the cluster; "
                f"expected HOST:PORT of the head node, auto or local. Run the command on a node of the cluster, with "
                f"--ray auto"
            ).correct("--ray", "auto")
        if (match := _ADDRESS.fullmatch(self.address)) is None or int(match["port"] or 0) > _LAST_PORT:
            raise UsageError(
                f"--ray {self.address}: expected auto (the cluster that this machine is a node of), local (this "
                f"machine alone), or HOST:PORT of the head node, such as 10.0.0.1:6379"
            ).correct("--ray", "auto")
        if self.gpus is not None and not (0 <= self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())):
            raise UsageError(f"--ray-gpus: found {self.gpus:g}, expected a share from 0 to 1, or a whole number")
        if self.cpus is not None and not 0 < self.cpus <= 1024:
            raise UsageError(f"--ray-cpus: found {self.cpus:g}, expected more than 0 and at most 1,024 cores")
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise UsageError(f"--ray-workers: found {self.workers}, expected from 1 to {MAX_WORKERS:,}")


def chosen_cluster(
    address: str | None, *, gpus: float | None, cpus: float | None, workers: int | None
) -> ClusterOptions | None:
    """Return what `--ray` and the options beside it say; None without any of them.

    Args:
        address: `--ray`.
        gpus: `--ray-gpus`.
        cpus: `--ray-cpus`.
        workers: `--ray-workers`.

    Raises:
        UsageError: no such address or share, or a share without an address.
    """
    if address is not None:
        return ClusterOptions(address=address, gpus=gpus, cpus=cpus, workers=workers)
    for name, value in {"gpus": gpus, "cpus": cpus, "workers": workers}.items():
        if value is not None:
            raise UsageError(f"--ray-{name} has no effect without --ray").correct("--ray", "auto")
    return None


@dataclass(frozen=True, slots=True)
class NodeResources:
    """What one node of a cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """How many workers there are, and what each gets."""

    workers: int
    cpus: float
    gpus: float

    @property
    def processes(self) -> int:
        """How many processes of a worker read and decode, where none was asked for."""
        return max(1, math.floor(self.cpus))


def share_nodes(nodes: Sequence[NodeResources], options: ClusterOptions) -> WorkerShare:
    """Return how many workers a cluster is given, and what each gets of its node.

    By default one a GPU; in a cluster without GPUs, one a node.

    Args:
        nodes: What each node has.
        options: What was asked for.

    Raises:
        MachineError: it has no room for one worker, or not for as many as were asked for.
    """
    gpus = options.gpus if options.gpus is not None else float(any(node.gpus >= 1 for node in nodes))
    usable = [node for node in nodes if node.cpus > 0 and (not gpus or _gpu_slots(node, gpus))]
    if not usable:
        most = max((node.gpus for node in nodes), default=0.0)
        needed = f"--ray-gpus {gpus:g}" if gpus else "a worker"
        raise MachineError(
            f"--ray {options.address}: no node of the cluster has room for {needed}: it has {len(nodes)} nodes, with "
            f"at most {most:g} GPUs and {max((node.cpus for node in nodes), default=0.0):g} cores each"
        )
    cpus = options.cpus or _share_of_cores(usable, gpus, options.workers)
    fitting = sum(_slots(node, gpus, cpus) for node in usable)
    if not fitting or (options.workers or 0) > fitting:
        wanted = f"--ray-workers {options.workers}" if options.workers else "one worker"
        with_gpus = f" and {gpus:g} GPUs" if gpus else ""
        raise MachineError(
            f"--ray {options.address}: the cluster has no room for {wanted}: with {cpus:g} cores{with_gpus} each, "
            f"{fitting} fit; ask for less with --ray-workers, --ray-cpus or --ray-gpus"
        )
    return WorkerShare(options.workers or fitting, cpus, gpus)


def _share_of_cores(nodes: Sequence[NodeResources], gpus: float, workers: int | None) -> float:
    """Return the cores of each worker: what the node with the fewest a worker gives it; whole ones, from one on."""
    a_node = math.ceil(workers / len(nodes)) if workers else 1
    share = min(node.cpus / (max(1, _gpu_slots(node, gpus)) if gpus else a_node) for node in nodes)
    return math.floor(share) if share >= 1 else math.floor(share * 10_000) / 10_000


def _slots(node: NodeResources, gpus: float, cpus: float) -> int:
    """Return how many workers a node has room for."""
    by_cores = math.floor(node.cpus / cpus + 1e-9)
    return min(by_cores, _gpu_slots(node, gpus)) if gpus else by_cores


def _gpu_slots(node: NodeResources, gpus: float) -> int:
    """Return how many workers a node's GPUs have room for: a share of one is a share of a single GPU."""
    return math.floor(node.gpus) * math.floor(1 / gpus + 1e-9) if gpus <= 1 else math.floor(node.gpus / gpus)
