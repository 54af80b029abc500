"""What this process may take of the machine: cores, and memory."""

import os
import resource
from pathlib import Path

_GROUPS = (  # limit and use, of the second and the first version of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes, by the machine, its control group and the process's own limits; None where the system does not say."""
    found = [bytes_ for bytes_ in (_of_machine(), *map(_of_group, _GROUPS), _of_process()) if bytes_ is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None


def _of_group(paths: tuple[str, str]) -> int | None:
    try:
        limit, used = (Path(path).read_text().strip() for path in paths)
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _of_process() -> int | None:
    limits = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    set_ = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(set_, default=None)
