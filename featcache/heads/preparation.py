"""What a training needs besides its rows, fetched while something else is waited for: torch, and compiled loops.

To import torch and numba takes two seconds, every time; to compile the loops some ten, once after an installation.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import featcache

KERNELS = Path(__file__).parent / "training/kernels"
LOOPS = ("steps.train_steps", "steps.score_rows")  # as numba's files beside the modules are called
COMPILE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import featcache
sys.path.append(sys.path.pop(0))
os.nice(19)
from featcache.heads.training import compile_loops
compile_loops()
"""


class TrainingPreparation:
    """Imports what trains, and loads or compiles its loops, in a thread of its own, from when it is made."""

    def __init__(self) -> None:
        """Begin; where no further thread may be started, all is left to `wait`."""
        self._is_compiling, self._is_done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        try:
            threading.Thread(target=self._prepare, name="preparation of a training", daemon=True).start()
        except RuntimeError:
            self._prepare()

    def wait(self, on_compile: Callable[[], None] = lambda: None) -> None:
        """Return when all is prepared.

        Args:
            on_compile: Called where the loops are still being compiled.

        Raises:
            BaseException: what the preparation raised.
        """
        while not self._is_done.wait(0.05):
            if self._is_compiling.is_set():
                on_compile()
                self._is_done.wait()
        if self._error is not None:
            raise self._error

    def _prepare(self) -> None:
        """Do it, and keep the error for whoever waits."""
        try:
            from featcache.heads.training import compile_loops

            compile_loops(self._is_compiling.set)
        except BaseException as error:  # the caller's to raise
            self._error = error
        finally:
            self._is_done.set()


def are_compiled(kernels: Path = KERNELS) -> bool:
    """Return whether the loops of a training have been compiled by this Python since their files changed.

    Where numba keeps them elsewhere, because nobody may write beside the modules, the answer is no.

    Args:
        kernels: The folder of the loops' modules.
    """
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    changed = max(module.stat().st_mtime for module in kernels.glob("*.py"))
    newest = [
        max((index.stat().st_mtime for index in (kernels / "__pycache__").glob(f"{name}-*.{version}.nbi")), default=0.0)
        for name in LOOPS
    ]
    return min(newest) > changed


class BackgroundCompilation:
    """A process that compiles the loops of a training where that is still to be done, while something else is done.

    It gives way to all others, lives some ten seconds, and says nothing: whoever trains first compiles what is lacking.
    While one is at it no other is started: it holds a lock on one of the modules. As a context it outlives what is
    done within, unless that failed or was interrupted.
    """

    def __init__(self) -> None:
        self._was_asked, self._pid = False, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._pid:  # ours until it is waited for, whether it has ended or not
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def start(self) -> None:
        """Start it where it is needed, and do not wait for it; only the first call does anything."""
        if self._was_asked:
            return
        self._was_asked = True
        if os.name != "posix" or are_compiled():
            return
        import fcntl

        package = str(Path(featcache.__file__).parent.parent)
        with contextlib.suppress(OSError), (KERNELS / "steps.py").open("rb") as module:
            fcntl.flock(module, fcntl.LOCK_EX | fcntl.LOCK_NB)
            actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
            held = (os.POSIX_SPAWN_DUP2, module.fileno(), module.fileno() + 1)  # the lock is the child's from now on
            self._pid = os.posix_spawn(
                sys.executable, [sys.executable, "-c", COMPILE, package], os.environ, file_actions=[*actions, held],
                setpgroup=0,
            )  # fmt: skip
