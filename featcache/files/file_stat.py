"""Whether a file is still the one that was read: four numbers of its stat, and when they can be trusted."""

import os
import stat
import time

FileStat = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode

_TICKS, _WHOLE_SECONDS = 20_000_000, 2_000_000_000  # ns: a file so young may change again without its stat showing it
_CLOCKS_APART = 1_000_000  # ns; sleep does not follow the clock that file times come from


def read_file_stat(path: str) -> FileStat | None:
    """Return the stat of a regular file, links followed; None where there is none.

    Args:
        path: Where the file may be, absolute or relative to the working folder.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return to_file_stat(status) if stat.S_ISREG(status.st_mode) else None


def to_file_stat(status: os.stat_result) -> FileStat:
    """Return the four numbers that say whether a file is still the one that was read: bytes, nanoseconds twice, inode.

    Args:
        status: As `os.stat` or `os.fstat` gives it.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_racy(status: FileStat, read_at: int) -> bool:
    """Whether the file is so young that another change could leave its stat as it is.

    Kernel clocks tick every 1 to 10 ms; file systems that keep whole seconds show it by their zeros.

    Args:
        status: The file's stat before it was read.
        read_at: `now_ns` before it was read.
    """
    return _racy_for(status, read_at) > 0


def wait_while_racy(status: FileStat, looked_at: int, longest: float) -> None:
    """Sleep until another change of the file would show in its stat; not at all where that takes too long.

    Args:
        status: The file's stat.
        looked_at: `now_ns` when, or before, its stat was taken.
        longest: Seconds; more than this is not waited for: a file that is dated in the future stays racy.
    """
    if 0 < (wait := _racy_for(status, looked_at)) <= longest * 1e9:
        time.sleep((wait + _CLOCKS_APART) / 1e9)


def _racy_for(status: FileStat, at: int) -> int:
    """Return for how many nanoseconds from a moment on a change could leave the stat as it is; 0 or less: for none."""
    _, mtime, ctime, _ = status
    has_whole_seconds = mtime % 1_000_000_000 == 0 and ctime % 1_000_000_000 == 0
    return max(mtime, ctime) + (_WHOLE_SECONDS if has_whole_seconds else _TICKS) - at


def now_ns() -> int:
    """Return the time that `StatLog.remember` compares with file times, nanoseconds since 1970."""
    return time.time_ns()
