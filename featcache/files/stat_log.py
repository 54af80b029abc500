"""What each file was when it was read: path, stat, digest, outcome. A memory, never the truth.

"Is this file the one that I know?" is answered by (size, mtime_ns, ctime_ns, inode), as git does. A mismatch costs
one more reading, nothing else; so does a line that is torn or damaged, or the loss of the whole file.
"""

import contextlib
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from pathlib import Path

from featcache.errors import MachineError
from featcache.files import publishing
from featcache.files.append_log import AppendLog
from featcache.files.documents import RememberedFile, validate
from featcache.files.file_stat import FileStat, is_racy, read_file_stat
from featcache.files.objects import ObjectPath
from featcache.files.sealed import is_intact, seal_line, unseal_line

STAT_LOG_NAME = "stat.log"
_STAT = b',"stat":['
_USUAL = re.compile(  # a file that gave an image; its name was compared as bytes already
    rb'\{"path":"[^\n]*","stat":\[(\d+),(-?\d+),(-?\d+),(\d+)\],"digest":"([0-9a-f]{64})","reason":"","sum":"[0-9a-f]{16}"\}'
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One file as it was read."""

    stat: FileStat
    digest: bytes  # sha256 of its bytes, 32 bytes; b"" where it could not be read
    reason: str = ""  # why it gives no image; "" where it does
    transform: str = ""  # under which transform it gives none: the start of its sha256


class StatLog:
    """What one cache remembers of files; `remember` collects, `flush` writes."""

    def __init__(self, cache: Path) -> None:
        """Name the log of a cache; nothing is read yet.

        Args:
            cache: The cache's folder.
        """
        self.path = _memory_folder(cache) / STAT_LOG_NAME
        self._log = AppendLog(self.path, is_memory=True)
        self._newest: dict[bytes, bytes | KnownFile] | None = None  # a line is unsealed when its file is asked for
        self._older: dict[bytes, list[bytes | KnownFile]] = {}  # what the newest replaced: it may prove damaged
        self._pending: list[bytes] = []
        self._reading = threading.Lock()

    def find(self, path: str, status: FileStat) -> KnownFile | None:
        """Return what is known of a file, if it is still the one that was read; else None.

        Args:
            path: Its absolute path.
            status: Its stat now.

        Raises:
            MachineError: stat.log is there and cannot be read.
        """
        known = self._find(path)
        return known if known is not None and known.stat == status else None

    def look_up(self, paths: Sequence[str]) -> list[KnownFile | None]:
        """Return what is known of many files; None where a file is new, has changed, or is not there.

        Args:
            paths: Their absolute paths; the result is in this order.

        Raises:
            MachineError: as `find`.
        """
        return [
            known if known is not None and known.stat == read_file_stat(path) else None
            for path, known in zip(paths, map(self._find, paths), strict=True)
        ]

    def find_readable(self, paths: Iterable[str]) -> dict[str, tuple[FileStat, bytes]]:
        """Return stat and digest, by path, of those files that are remembered as they are now and could be read.

        Args:
            paths: Absolute paths; repeated ones count once.

        Raises:
            MachineError: as `find`.
        """
        distinct = list(dict.fromkeys(paths))
        pairs = zip(distinct, self.look_up(distinct), strict=True)
        return {path: (known.stat, known.digest) for path, known in pairs if known is not None and not known.reason}

    def remember(
        self, path: str, status: FileStat, digest: bytes, reason: str = "", *, read_at: int, transform: str = ""
    ) -> None:
        """Note what was read of a file, unless its stat is racy.

        A file that changed within the clock's grain of being read may change again without its stat showing it.

        Args:
            path: Its absolute path.
            status: Its stat before it was read.
            digest: The sha256 of its bytes, 32 bytes; b"" where it could not be read.
            reason: Why it gives no image; "" where it does.
            read_at: `now_ns` before it was read.
            transform: Under which transform it gives none.

        Raises:
            MachineError: as `find`.
        """
        if is_racy(status, read_at):
            return
        known = KnownFile(status, digest, reason, transform if reason else "")
        if self._find(path) == known:
            return
        self._read()[_key(path)] = known
        line = {"path": path, "stat": status, "digest": digest.hex(), "reason": reason}
        line |= {"transform": known.transform} if known.transform else {}
        self._pending.append(seal_line(line))

    def flush(self) -> None:
        """Append what was remembered. Not fsynced: what is lost is read again.

        Raises:
            MachineError: the disk refuses.
        """
        if not self._pending:
            return
        publishing.make_folder(self.path.parent)
        self._log.append(*self._pending)
        self._pending.clear()

    def try_flush(self) -> None:
        """Append what was remembered if that is possible: a cache that cannot be written to can still be read."""
        with contextlib.suppress(MachineError):
            self.flush()

    def count_damaged(self) -> tuple[int, int]:
        """Return how many lines there are, and how many of them are damaged.

        Raises:
            OSError: there is no memory yet, or it cannot be read.
        """
        lines = [line for line in self._log.iter_lines() if line.size]
        return len(lines), sum(line.data is None or unseal_line(line.data) is None for line in lines)

    def _find(self, path: str) -> KnownFile | None:
        """Return the newest sound line about a file, whatever its stat is now."""
        lines, key = self._read(), _key(path)
        while isinstance(newest := lines.get(key), bytes):
            known = _unseal(newest)
            if known is not None:
                lines[key] = known
            elif older := self._older.get(key):
                lines[key] = older.pop()
            else:
                del lines[key]
        return newest

    def _read(self) -> dict[bytes, bytes | KnownFile]:
        """Return the newest line of every path, by how it begins."""
        with self._reading:
            if self._newest is None:
                newest: dict[bytes, bytes | KnownFile] = {}
                try:
                    for lines in self._log.iter_blocks():
                        for line in lines:
                            key = line.partition(_STAT)[0]
                            if key in newest:
                                self._older.setdefault(key, []).append(newest[key])
                            newest[key] = line
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise MachineError(
                        f"{self.path}: the memory of files cannot be read: {error.strerror}; remove it: only time "
                        f"is lost"
                    ) from None
                self._newest = newest
        return self._newest


def _memory_folder(cache: Path) -> Path:
    """Return where a cache remembers files: in itself; of a bucket, beside the local copies where these are kept."""
    if not isinstance(cache, ObjectPath):
        return cache
    from featcache.files.objects import memory_folder

    return memory_folder(cache) or cache


def _key(path: str) -> bytes:
    """Return how a line about this file begins: up to its stat, which no name can contain unescaped."""
    return b'{"path":' + encode_basestring_ascii(path).encode()


def _unseal(line: bytes) -> KnownFile | None:
    """Return what a line says; None where it is torn, damaged, or a newer version's."""
    if (usual := _USUAL.fullmatch(line)) is not None and is_intact(line):  # nearly every line, in half the time
        size, mtime, ctime, inode, digest = usual.groups()
        return KnownFile((int(size), int(mtime), int(ctime), int(inode)), bytes.fromhex(digest.decode()))
    entry = unseal_line(line)
    if entry is None:
        return None
    try:
        remembered = validate(RememberedFile, entry)
    except ValueError:
        return None
    if not (remembered.reason or remembered.digest):  # an image has a digest
        return None
    return KnownFile(remembered.stat, bytes.fromhex(remembered.digest), remembered.reason, remembered.transform)
