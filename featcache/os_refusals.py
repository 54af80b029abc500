"""What the operating system refuses, as one sentence with a way out.

It refuses at any moment: while a module is imported, a thread started, a file opened. There may be no memory left, so
nothing is imported here that is not there already.
"""

import errno
import threading
from collections.abc import Iterator

from featcache.errors import MachineError
from featcache.machine import cores, memory_within_limits

MEMORY = (
    "not enough memory: the system refused what this command asked for; end other programs, or raise the limit "
    "(ulimit -v, ulimit -d, the container's or the job's memory)"
)
PROCESSES = (
    "no further thread or process: the system refused to start one; raise the limit (ulimit -u, the container's pids) "
    "or the memory's (ulimit -v), or use fewer (--workers, --jobs, OMP_NUM_THREADS)"
)
FILES = (
    "too many open files: the system refused to open another; raise the limit (ulimit -n), or use fewer workers "
    "(--workers, --jobs)"
)
ROOM = "make room (or raise the limit: ulimit -f, the quota), and run the same command again"

# Without which the numerical libraries may hang, or end the process, instead of failing. On two cores 350 MB were
# enough; the share of a core is an estimate (docs/decisions/091).
_LEAST_MEMORY, _LEAST_MEMORY_OF_THREAD = 400 * 2**20, 40 * 2**20

_MEMORY, _FILES = {errno.ENOMEM}, {errno.EMFILE, errno.ENFILE}
_PROCESSES, _ROOM = {errno.EAGAIN}, {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MISTAKES = {errno.EBADF, errno.EINVAL, errno.ENOTTY, errno.EFAULT, errno.ESPIPE}  # of the program, not the system's

# What C libraries say where they have no errno to hand on: the dynamic linker, Python's threads, torch, HDF5, LLVM.
_WORDS = {
    MEMORY: (
        "failed to map segment", "cannot allocate", "can't allocate", "not enough memory", "out of memory", "bad_alloc",
        "bad allocation", "unable to allocate", "failed to allocate", "memory allocation", "cannot map zero-fill pages",
        "cannot change memory protections", "cannot apply additional memory protection", "cannot create tls",
        "cannot create cache for search path", "cannot extend global scope", "cannot create scope", "errno = 12",
        "unexpectedly terminated",
    ),
    PROCESSES: ("can't start new thread", "pthread_create", "resource temporarily unavailable", "errno = 11"),
    FILES: ("too many open files", "errno = 24", "errno = 23"),
}  # fmt: skip


def refusal(error: BaseException) -> MachineError | None:
    """The error as the user is told of it, where the system's refusal is behind it; None where it is not.

    Behind it: itself, or what it was raised from, or during. A module whose library could not be mapped fails in many
    ways after that.
    """
    chain = list(_chain(error))
    found = next((text for behind in chain if (text := _exhausted(behind))), None)
    found = found or next((text for behind in chain if (text := _denied(behind))), None)
    return None if found is None else MachineError(found)


def exhaustion(error: BaseException) -> MachineError | None:
    """The same, but for what has run out alone: memory, processes, open files.

    For errors that have a sentence already: "a.png cannot be read: too many open files" is not about a.png.
    """
    found = next((text for behind in _chain(error) if (text := _exhausted(behind))), None)
    return None if found is None else MachineError(found)


def require_memory() -> None:
    """Refuse limits of this process that its libraries would not survive.

    Raises:
        MachineError: they leave too little.
    """
    free, needed = memory_within_limits(), _LEAST_MEMORY + cores() * _LEAST_MEMORY_OF_THREAD
    if free is not None and free < needed:
        raise MachineError(
            f"not enough memory: the limits of this process (ulimit -v, ulimit -d) leave it {free >> 20} MB, expected "
            f"at least {needed >> 20} MB; raise the limit"
        )


def can_start_threads() -> bool:
    """Whether the system lets this process have a few more threads, at once."""
    done = threading.Event()
    try:
        for _ in range(4):
            threading.Thread(target=done.wait, daemon=True).start()
    except (RuntimeError, MemoryError):
        return False
    finally:
        done.set()
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those behind it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        behind = waiting.pop()
        if behind is None or id(behind) in seen:
            continue
        seen.add(id(behind))
        yield behind
        waiting += [behind.__context__, behind.__cause__]
        if isinstance(behind, BaseExceptionGroup):
            waiting += behind.exceptions


def _exhausted(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, OSError):
        for codes, text in ((_MEMORY, MEMORY), (_PROCESSES, PROCESSES), (_FILES, FILES)):
            if error.errno in codes:
                return text
    if isinstance(error, (OSError, ImportError, RuntimeError, SystemError)):
        said = str(error).lower()
        if isinstance(error, SystemError) and "without" in said and memory_within_limits() is not None:
            return MEMORY  # "error return without exception set": there was no room for the exception
        for text, words in _WORDS.items():
            if any(word in said for word in words):
                return text
    return None


def _denied(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or error.errno is None or error.errno in _MISTAKES:
        return None
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    way_out = ROOM if error.errno in _ROOM else "mend that, and run the same command again"
    return f"{where}the system refused it: {error.strerror}; {way_out}; what was committed before is safe"
