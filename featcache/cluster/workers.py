"""What a cluster is to us: it starts workers, calls their methods, and says which are lost."""

import functools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import featcache.errors
from featcache.cluster.options import WorkerShare
from featcache.errors import FeatcacheError, MachineError

Call = Any  # what an engine calls the result to come of a method of a worker
Handle = Any  # … and the worker


class LostWorkerError(Exception):
    """A worker has died, or its node has, or the network to it."""


class Cluster(Protocol):
    """Where workers run."""

    share: WorkerShare

    def start(self, kind: type, settings: Any) -> Handle:
        """Return a worker that starts where there is room for it, at once or later.

        Args:
            kind: Its class.
            settings: What the constructor gets.
        """

    def call(self, worker: Handle, method: str, *arguments: Any) -> Call:
        """Return what stands for the result of a call that has been begun; the calls of a worker are done in turn.

        Args:
            worker: Which one.
            method: The method's name.
            *arguments: What it gets.
        """

    def wait(self, calls: Sequence[Call], seconds: float) -> list[Call]:
        """Return those calls that have ended, once one has, or after some time.

        Args:
            calls: Those that are waited for.
            seconds: How long.
        """

    def result(self, call: Call) -> Any:
        """Return what a call that has ended gave.

        Args:
            call: Which one.

        Raises:
            LostWorkerError: the worker is lost.
        """

    def end(self, worker: Handle) -> None:
        """End a worker, whatever it is doing.

        Args:
            worker: Which one.
        """

    def close(self) -> None:
        """Leave the cluster."""


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """What a worker returns where it refuses: errors pass as words, not as objects."""

    kind: str  # the class of the error
    message: str
    trace: str = ""  # of what is no refusal of ours

    def error(self, place: str) -> FeatcacheError:
        """Return the error as it is raised here.

        Args:
            place: Which worker failed, in words.
        """
        kind = getattr(featcache.errors, self.kind, MachineError)
        return kind(f"{place}: {self.message}") if not self.trace else FeatcacheError(f"{place}: {self.trace}")


def report_failures(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that returns a `WorkerFailure` where this one raises.

    Args:
        method: What is called.
    """

    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except FeatcacheError as error:
            return WorkerFailure(type(error).__name__, str(error))
        except Exception as error:
            return WorkerFailure(type(error).__name__, str(error), traceback.format_exc())

    return call


@dataclass(slots=True, eq=False)
class PoolWorker:
    """A worker, as the driver knows it."""

    number: int
    handle: Handle
