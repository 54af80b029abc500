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


def translate_refusal(error: BaseException) -> MachineError | None:
    """Return the error that the user is shown where the operating system refused something; None where it did not.

    It did where the error says so, or one that it was raised from, or during: a module whose library could not be
    mapped fails in many ways after that.

    Args:
        error: What stopped the command.
    """
    chain = list(_chain(error))
    sentence = next((text for cause in chain if (text := _describe_exhausted(cause))), None)
    sentence = sentence or next((text for cause in chain if (text := _describe_denied(cause))), None)
    return None if sentence is None else MachineError(sentence)


def translate_exhaustion(error: BaseException) -> MachineError | None:
    """Return what `translate_refusal` does, but only where something has run out: memory, processes, open files.

    For errors that have a sentence already: "a.png cannot be read: too many open files" is not about a.png.

    Args:
        error: What stopped the command.
    """
    sentence = next((text for cause in _chain(error) if (text := _describe_exhausted(cause))), None)
    return None if sentence is None else MachineError(sentence)


def require_memory() -> None:
    """Raise a MachineError unless the limits of this process leave its libraries the memory that they need.

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
    """Yield the error, and those that it was raised from or during."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__context__, cause.__cause__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions


def _describe_exhausted(error: BaseException) -> str | None:
    """Return the sentence for what has run out; None where nothing has."""
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, OSError):
        for codes, text in ((_MEMORY, MEMORY), (_PROCESSES, PROCESSES), (_FILES, FILES)):
            if error.errno in codes:
                return text
    if isinstance(error, (OSError, ImportError, RuntimeError, SystemError)):
        message = str(error).lower()
        if isinstance(error, SystemError) and "without" in message and memory_within_limits() is not None:
            return MEMORY  # "error return without exception set": there was no room for the exception
        for text, words in _WORDS.items():
            if any(word in message for word in words):
                return text
    return None


def _describe_denied(error: BaseException) -> str | None:
    """Return the sentence for what the system denied; None where it denied nothing."""
    if not isinstance(error, OSError) or error.errno is None or error.errno in _MISTAKES:
        return None
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    way_out = ROOM if error.errno in _ROOM else "fix that, and run the same command again"
    return f"{where}the system refused it: {error.strerror}; {way_out}; what was committed before is safe"
