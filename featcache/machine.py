"""What this process may take of the machine: cores, the domains that they form, memory, and BLAS's threads."""

import math
import os
import platform
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# Where a control group's limit, use, and pages that it would give back stand, by the version of control groups.
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")
NODES = Path("/sys/devices/system/node")  # of Linux: a folder for each group of cores with its own memory
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # as malloc.h of glibc numbers them
_KEPT_BYTES = 1 << 30
_BLAS_LIMIT = threading.RLock()  # there is one for all of the process: of two that overlap, one would stay


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process can keep busy: those it may run on, and that its control groups pay for.

    Args:
        root: Where the system's own files stand.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, core_quota(root) or allowed)


def core_quota(root: Path = Path("/")) -> int | None:
    """Return the cores that the control groups around this process pay for, rounded up; None where none sets a limit.

    A group's processes may compute for so many microseconds in each period, on all cores together, and then all wait
    for the next. Rounded up: with a quota of 1.5, two threads are a quarter faster than one (docs/decisions/090).

    Args:
        root: Where the system's own files stand.
    """
    limits = [
        _quota_of_second(folder) if second else _quota_of_first(folder) for folder, second in _groups(root, "cpu")
    ]
    return min((max(1, math.ceil(limit)) for limit in limits if limit is not None), default=None)


def _quota_of_first(folder: Path) -> float | None:
    time, period = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))  # -1: no limit
    return time / period if time and period else None


def _quota_of_second(folder: Path) -> float | None:
    words = " ".join(_lines(folder / "cpu.max")).split()  # "150000 100000", or "max 100000"
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])


def numa_domains() -> list[tuple[int, ...]]:
    """Return the cores that this process may use, by the memory that is near to them.

    One domain where the system does not say, and where a quota does not pay for all of them.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [tuple(range(cores()))]
    ours = os.sched_getaffinity(0)
    if cores() < len(ours):
        return [tuple(sorted(ours))]
    try:
        listed = [(node / "cpulist").read_text() for node in sorted(NODES.glob("node[0-9]*"))]
        domains = [tuple(sorted(ours & _cpus(text))) for text in listed]
    except (OSError, ValueError):
        domains = []
    return [domain for domain in domains if domain] or [tuple(sorted(ours))]


def _cpus(text: str) -> set[int]:
    """Return the numbers of a list such as 0-3,8-11."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return {number for part in ends for number in range(int(part[0]), int(part[-1]) + 1)}


def total_memory() -> int:
    """Return how many bytes of memory this machine has."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take; None where the system does not say.

    By the machine, the control groups that this process is in, and its own limits.

    Args:
        root: Where the system's own files stand.
    """
    return min((*_of_machine(root), *_of_groups(root), *_of_process(root)), default=None)


def memory_within_limits(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process's own limits (`ulimit -v`, `ulimit -d`) leave it; None without limits."""
    return min(_of_process(root), default=None)


def run_in_threads(do: Callable[[_Item], _Answer], items: Sequence[_Item], *, most: int = 8) -> list[_Answer]:
    """Return what `do` returns for every item, in as many threads as there are cores, and at most `most`.

    For reading, hashing and arithmetic on arrays, which let go of the interpreter. The first error is raised; what had
    not begun by then is left out.

    Args:
        do: Called with an item, in any thread.
        items: The answers are in their order.
        most: Of threads.
    """
    threads = min(len(items), most, cores())
    if threads < 2:
        return [do(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="featcache") as pool:
        jobs = [pool.submit(do, item) for item in items]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def single_blas_thread(libraries: "ThreadpoolController | None" = None) -> Iterator[None]:
    """Have BLAS multiply on the thread that asks it to; whoever else asks for that waits.

    How a product is shared out among threads decides its last bits.

    Args:
        libraries: Whose threads are limited; None: those that were loaded when this was first called, NumPy's among
            them. To look for them takes a millisecond or two.
    """
    with _BLAS_LIMIT, (libraries or _loaded_libraries()).limit(limits=1, user_api="blas"):
        yield


@cache
def _loaded_libraries() -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def limit_threads(root: Path = Path("/")) -> None:
    """Give torch, BLAS and OpenMP as many threads as a quota pays for, unless OMP_NUM_THREADS says how many.

    They read it when they are imported. Without a quota nothing is done.
    """
    if core_quota(root) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores(root)))


def keep_large_blocks() -> None:
    """Have glibc keep the large blocks of memory that this process frees, up to 1 GiB, for its next ones.

    By default it gives a block of more than 32 MiB back at once, and the next one is mapped and cleared page by page: a
    fifth of a forward (docs/decisions/125). Other allocators are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)  # those of other threads give a block of this size back all the same


def _of_machine(root: Path) -> Iterator[int]:
    yield from _kilobytes(root / "proc/meminfo", "MemAvailable")


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what is left of every group around this process: the innermost one need not be the narrowest."""
    for folder, second in _groups(root, "memory"):
        yield from _of_group(folder, _SECOND if second else _FIRST)


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the control groups around this process, and whether they are of the second version.

    Of each hierarchy from the innermost outwards.
    """
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon or not number.isdecimal():
            continue
        if not controllers:
            bases = [top, top / "unified"]  # the second version, alone or beside the first
        elif controller in controllers.split(","):
            bases = list({top / controller, top / controllers})  # cpu,cpuacct, and mostly a link to it
        else:
            continue
        for base in bases:
            inner = base / path.lstrip("/")  # in a container this may be a name of the host's: then base is its group
            folders = (folder for folder in (inner, *inner.parents) if folder.is_relative_to(base))
            yield from ((folder, not controllers) for folder in folders)


def _of_group(folder: Path, names: tuple[str, str, str]) -> Iterator[int]:
    limit, used = (_number(folder / name) for name in names[:2])
    if limit is not None and used is not None:
        cached = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(f"{names[2]} ")]
        yield max(0, limit - used + sum(cached))


def _of_process(root: Path) -> Iterator[int]:
    for which, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(which)[0]
        if limit != resource.RLIM_INFINITY:
            yield max(0, limit - sum(_kilobytes(root / "proc/self/status", name)))


def _kilobytes(path: Path, name: str) -> list[int]:
    """Return the bytes that a line `name: 12 kB` says; empty where there is no such line."""
    return [1024 * int(line.split()[1]) for line in _lines(path) if line.startswith(f"{name}:")]


def _number(path: Path) -> int | None:
    """Return the number that a file says; None where it says "max", or is not there."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
