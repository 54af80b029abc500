"""What the operating system refuses while a file is written, as an error that says the way out."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from featcache.errors import MachineError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses while a file is written into an error that says the way out.

    Args:
        path: What is written, for the message.

    Raises:
        MachineError: the system refused something in the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            way_out = "make room (or name another --cache) and run the same command again; what is committed is safe"
        else:
            way_out = "what was committed before is safe; fix the cause and run the same command again"
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}; {way_out}") from error
