"""Ray as the engine of a cluster. The only module that imports it."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from featcache.cluster.options import ClusterOptions, NodeResources, WorkerShare, share_nodes
from featcache.cluster.workers import LostWorkerError
from featcache.errors import MachineError
from featcache.machine import cores

_KNOCK_SECONDS = 20.0
_OBJECT_STORE = 128 << 20  # bytes, of a cluster that we start: nothing of ours goes through it


class RayCluster:
    """A cluster of Ray that this process is connected to."""

    def __init__(self, ray: Any, options: ClusterOptions) -> None:
        """Look at the nodes; see `open_cluster`."""
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        have = [NodeResources(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
        self.share: WorkerShare = share_nodes(have, options)

    def start(self, kind: type, settings: Any) -> Any:
        """Begin to start an actor, where the cluster has room for it."""
        actor = self._ray.remote(kind).options(
            num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        return actor.remote(settings)

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Begin to call a method of an actor."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """Return those calls that have ended, once one has, or after so many seconds."""
        first, _ = self._ray.wait(list(calls), num_returns=1, timeout=seconds)
        if not first:
            return []
        ended, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return list(ended)

    def result(self, call: Any) -> Any:
        """Return what a call that has ended gave.

        Raises:
            LostWorkerError: the actor has died, or its node has.
            MachineError: Ray cannot run our code there: another version of Python, or no featcache.
        """
        errors = self._ray.exceptions
        losses = errors.RayActorError, errors.ObjectLostError, errors.WorkerCrashedError, errors.OwnerDiedError
        try:
            return self._ray.get(call)
        except losses as error:
            if isinstance(error, errors.ActorDiedError) and "ModuleNotFoundError" in str(error):
                raise MachineError(f"a node of the cluster cannot import featcache: {_last_line(error)}") from None
            raise LostWorkerError(_first_line(error)) from None
        except errors.RayError as error:
            raise MachineError(f"Ray: {_last_line(error)}") from None

    def end(self, worker: Any) -> None:
        """End an actor, whatever it is doing."""
        with contextlib.suppress(Exception):  # it may be gone, or the cluster
            self._ray.kill(worker)

    def close(self) -> None:
        """Leave the cluster; one that we started ends."""
        self._ray.shutdown()


def open_cluster(options: ClusterOptions) -> RayCluster:
    """Return a cluster of Ray that this process is connected to; "local" starts one on this machine.

    Args:
        options: Which one, and what workers get of it.

    Raises:
        MachineError: Ray is not installed, no cluster is there, or it has no room.
    """
    ray = _import_ray()
    is_local = options.address == "local"
    starting: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE, "num_cpus": cores()}
    with _kept_sigterm():
        try:
            _knock(options.address)
            ray.init(
                address=options.address, namespace=f"featcache-{os.getpid()}", log_to_driver=False,
                logging_level=logging.ERROR, **(starting if is_local else {}),
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            way_out = (
                "start one with `ray start --head`, or use --ray local" if options.address == "auto" else
                f"`ray status --address {options.address}` shows whether it runs"
            )  # fmt: skip
            raise MachineError(f"--ray {options.address}: no cluster of Ray: {_first_line(error)}; {way_out}") from None
    try:
        return RayCluster(ray, options)
    except BaseException:
        ray.shutdown()
        raise


def _knock(address: str) -> None:
    """Connect to the head node and leave again: Ray itself tries for minutes where nobody listens.

    Raises:
        OSError: nobody does.
    """
    if address not in ("auto", "local"):
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _import_ray() -> Any:
    """Return the module; what it would send home, or print at every start, is switched off where nobody has set it.

    Raises:
        MachineError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MachineError(f"--ray needs Ray, which is not installed ({error}): pip install 'featcache[ray]'") from None
    return ray


@contextlib.contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Give SIGTERM back what it had: ray.init takes it, and would end this process before anything is published."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    """Return the first line of what Ray, or the system, says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


def _last_line(error: BaseException) -> str:
    """Return the last line of what Ray says, which of a remote traceback is the error."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
