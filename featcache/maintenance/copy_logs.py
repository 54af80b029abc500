"""The lines of a log that is copied."""

from pathlib import Path

from featcache.errors import CacheError
from featcache.files import AppendLog


def read_lines(log: Path) -> list[bytes]:
    """Return the lines of a log that hold, without their newlines; none of one that is not there.

    Args:
        log: Its path.

    Raises:
        CacheError: a line is damaged, or the log cannot be read.
    """
    try:
        content = AppendLog(log).read(lambda _: "")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"{log}: cannot be read: {error.strerror}") from None
    for number, problem in content.damaged:
        raise CacheError(f"{log}: line {number} {problem}; `featcache repair` takes it out")
    return list(content.lines)
