"""Contenders of a benchmark, each in a process of its own: none meets what another has changed in its process.

A trunk that is loaded changes what glibc does with freed memory (docs/decisions/125), which makes other loops faster
or slower; and what one contender keeps in memory is not another's.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

Loop = Callable[[], object]
TRIES = 2  # timed runs of each setting, after one that warms up


class Contender:
    """A process that has made its loops, kept the fastest, and runs it each time it is called."""

    def __init__(self, name: str, make: Callable[[], Mapping[str, Loop]]) -> None:
        """Start the process, and wait until it knows which of its loops is the fastest.

        Args:
            name: Of the contender.
            make: Returns its loops by their settings; it is called in the process, so it must be a module's function,
                or a partial of one.

        Raises:
            ImportError: a library that it needs is not installed.
        """
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()
        outcome, text = self.pipe.recv()
        if outcome == "missing":
            raise ImportError(text)
        self.settings = text
        print(f"{name}: {text or 'as it chooses'}", file=sys.stderr, flush=True)

    def __call__(self) -> object:
        """Run the loop once, in its process."""
        self.pipe.send(True)
        return self.pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.join()


def fastest(loops: Mapping[str, Loop]) -> str:
    """Return the settings of the fastest of several loops: after one run that warms up, the best of a few each.

    Args:
        loops: By their settings; one alone is not timed.
    """
    seconds: dict[str, float] = {}
    for name, loop in loops.items():
        loop()
        seconds[name] = min(_seconds(loop) for _ in range(TRIES)) if len(loops) > 1 else 0.0
    return min(seconds, key=lambda name: seconds[name])


def _seconds(loop: Loop) -> float:
    began = time.perf_counter()
    loop()
    return time.perf_counter() - began


def _serve(pipe: Connection, make: Callable[[], Mapping[str, Loop]]) -> None:
    try:
        loops = make()
    except ImportError as error:
        pipe.send(("missing", str(error)))
        return
    best = fastest(loops)
    loop = loops[best]
    del loops
    pipe.send(("ready", best))
    while pipe.recv():
        loop()
        pipe.send(None)
