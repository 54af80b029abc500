"""What each file was when it was read: path, stat, digest, outcome. A memory, never the truth.

"Is this file the one that I know?" is answered by (size, mtime_ns, ctime_ns, inode), as git does. A mismatch costs
one more reading, nothing else; so does a line that is torn or damaged, or the loss of the whole file.
"""

import contextlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from pathlib import Path

from featcache.errors import MachineError
from featcache.files import publishing
from featcache.files.append_log import read_blocks
from featcache.files.documents import RememberedFile, checked
from featcache.files.sealed import intact, seal_line, unseal_line

Stat = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode

STAT_LOG_NAME = "stat.log"
_STAT = b',"stat":['
_USUAL = re.compile(  # a file that gave an image; its name was compared as bytes already
    rb'\{"path":"[^\n]*","stat":\[(\d+),(-?\d+),(-?\d+),(\d+)\],"digest":"([0-9a-f]{64})","reason":"","sum":"[0-9a-f]{16}"\}'
)


@dataclass(frozen=True, slots=True)
class Known:
    """One file as it was read."""

    stat: Stat
    digest: bytes  # sha256 of its bytes; b"" where it could not be read
    reason: str = ""  # why it gives no image; "" where it does
    transform: str = ""  # under which transform it gives none: the start of its sha256


class StatLog:
    """The memory of one cache; `remember` collects, `flush` writes."""

    def __init__(self, cache: Path) -> None:
        self.path = cache / STAT_LOG_NAME
        self._known: dict[bytes, bytes | Known] | None = None  # a line is unsealed when its file is asked for
        self._older: dict[bytes, list[bytes | Known]] = {}  # what the newest replaced: it may prove damaged
        self._pending: list[bytes] = []
        self._reading = threading.Lock()

    def find(self, path: str, status: Stat) -> Known | None:
        """What is known of the file at this absolute path, if it is still the one that was read."""
        known = self._find(path)
        return known if known is not None and known.stat == status else None

    def look_up(self, paths: Sequence[str]) -> list[Known | None]:
        """`find` for many files, each asked for its stat; None where it is new, has changed, or cannot be asked."""
        found = map(self._find, paths)
        return [
            known if known is not None and known.stat == stat_of(path) else None
            for path, known in zip(paths, found, strict=True)
        ]

    def sound(self, paths: Iterable[str]) -> dict[str, tuple[Stat, bytes]]:
        """Stat and digest of those of these files that are remembered as they are now, and that could be read."""
        different = list(dict.fromkeys(paths))
        found = zip(different, self.look_up(different), strict=True)
        return {path: (known.stat, known.digest) for path, known in found if known is not None and not known.reason}

    def remember(
        self, path: str, status: Stat, digest: bytes, reason: str = "", *, read_at: int, transform: str = ""
    ) -> None:
        """Note what was read at `read_at` (time.time_ns before the reading); a racy stat is not noted.

        A file that changed within the clock's grain of being read may change again without its stat showing it.
        """
        if racy(status, read_at):
            return
        known = Known(status, digest, reason, transform if reason else "")
        if self._find(path) == known:
            return
        self._read()[_key(path)] = known
        line = {"path": path, "stat": status, "digest": digest.hex(), "reason": reason}
        line |= {"transform": known.transform} if known.transform else {}
        self._pending.append(seal_line(line))

    def flush(self) -> None:
        """Append what was remembered. Not fsynced: what is lost is read again."""
        if not self._pending:
            return
        publishing.make_folder(self.path.parent)
        start = b"" if publishing.ends_whole(self.path) else b"\n"  # a torn line must not swallow the next one
        publishing.append_bytes(self.path, start + b"".join(self._pending), sync=False)
        self._pending.clear()

    def try_flush(self) -> None:
        """`flush` for readers: a cache that cannot be written to can still be read."""
        with contextlib.suppress(MachineError):
            self.flush()

    def _find(self, path: str) -> Known | None:
        lines, key = self._read(), _key(path)
        while isinstance(found := lines.get(key), bytes):
            known = _unseal(found)
            if known is not None:
                lines[key] = known
            elif older := self._older.get(key):
                lines[key] = older.pop()
            else:
                del lines[key]
        return found

    def _read(self) -> dict[bytes, bytes | Known]:
        """The newest line of every path, by how it begins."""
        with self._reading:
            if self._known is None:
                known: dict[bytes, bytes | Known] = {}
                try:
                    for lines in read_blocks(self.path):
                        for line in lines:
                            key = line.partition(_STAT)[0]
                            if key in known:
                                self._older.setdefault(key, []).append(known[key])
                            known[key] = line
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise MachineError(
                        f"{self.path}: what is remembered of files cannot be read: {error.strerror}; remove it: "
                        f"it only spares work"
                    ) from None
                self._known = known
        return self._known


def _key(path: str) -> bytes:
    """How a line about this file begins: up to its stat, which no name can contain unescaped."""
    return b'{"path":' + encode_basestring_ascii(path).encode()


def _unseal(line: bytes) -> Known | None:
    """What a line says; None where it is torn, damaged, or a newer version's."""
    if (usual := _USUAL.fullmatch(line)) is not None and intact(line):  # nearly every line, in half the time
        size, mtime, ctime, inode, digest = usual.groups()
        return Known((int(size), int(mtime), int(ctime), int(inode)), bytes.fromhex(digest.decode()))
    entry = unseal_line(line)
    if entry is None:
        return None
    try:
        said = checked(RememberedFile, entry)
    except ValueError:
        return None
    if not (said.reason or said.digest):  # an image has a digest
        return None
    return Known(said.stat, bytes.fromhex(said.digest), said.reason, said.transform)


def stat_of(path: str) -> Stat | None:
    """The identity of a regular file, links followed; None where there is none to be had."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return identity(found) if stat.S_ISREG(found.st_mode) else None


def identity(found: os.stat_result) -> Stat:
    """The four numbers that say whether a file is still the one that was read."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def racy(status: Stat, read_at: int) -> bool:
    """Whether the file is so young that another change could leave its stat as it is.

    Kernel clocks tick every 1 to 10 ms; file systems that keep whole seconds show it by their zeros.
    """
    _, mtime, ctime, _ = status
    whole_seconds = mtime % 1_000_000_000 == 0 and ctime % 1_000_000_000 == 0
    grain = 2_000_000_000 if whole_seconds else 20_000_000
    return max(mtime, ctime) + grain > read_at


def now() -> int:
    """The clock that `remember` compares with file times, nanoseconds."""
    return time.time_ns()
