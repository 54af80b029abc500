"""What this process may take of the machine: cores, the domains that they form, and memory."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

# Where a control group's limit, use, and pages that it would give back stand, by the version of control groups.
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")
NODES = Path("/sys/devices/system/node")  # of Linux: a folder for each group of cores with its own memory


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def domains() -> list[tuple[int, ...]]:
    """The cores that this process may use, by the memory that is near to them; one domain where nobody says."""
    if not hasattr(os, "sched_getaffinity"):
        return [tuple(range(cores()))]
    ours = os.sched_getaffinity(0)
    try:
        listed = [(node / "cpulist").read_text() for node in sorted(NODES.glob("node[0-9]*"))]
        found = [tuple(sorted(ours & _cpus(text))) for text in listed]
    except (OSError, ValueError):
        found = []
    return [domain for domain in found if domain] or [tuple(sorted(ours))]


def _cpus(text: str) -> set[int]:
    """The numbers of a list such as 0-3,8-11."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return {number for part in ends for number in range(int(part[0]), int(part[-1]) + 1)}


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes, by the machine, the control groups that this process is in, and its own limits; None where the system
    does not say. `root`: where the system's own files stand.
    """
    return min((*_of_machine(root), *_of_groups(root), *_of_process(root)), default=None)


def _of_machine(root: Path) -> Iterator[int]:
    yield from _kilobytes(root / "proc/meminfo", "MemAvailable")


def _of_groups(root: Path) -> Iterator[int]:
    """What is left of every group around this process: the innermost one need not be the narrowest."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, names = (root / "sys/fs/cgroup/memory", _FIRST) if controllers else (root / "sys/fs/cgroup", _SECOND)
        inner = base / path.lstrip("/")  # inside a container this may be a name of the host's: then base is its group
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base):
                yield from _of_group(folder, names)


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
    """Bytes that a line `name: 12 kB` says."""
    return [1024 * int(line.split()[1]) for line in _lines(path) if line.startswith(f"{name}:")]


def _number(path: Path) -> int | None:
    """What the file says; None where it says "max", or is not there."""
    found = _lines(path)
    return int(found[0]) if found and found[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
