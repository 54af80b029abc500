"""What each file was when it was read: path, stat, digest, outcome. A memory, never the truth.

"Is this file the one that I know?" is answered by (size, mtime_ns, ctime_ns, inode), as git does. A mismatch costs
one more reading, nothing else; so does a line that is torn or damaged, or the loss of the whole file.

The log stays on disk. Where few files are looked up, the lines of their folder are read; where many are, all lines are
indexed, and the line of a file is read again when it is looked up.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from io import BytesIO, RawIOBase
from itertools import islice
from json.encoder import encode_basestring_ascii
from pathlib import Path

import numpy as np

from featcache.errors import MachineError
from featcache.files import publishing
from featcache.files.append_log import MAX_LINE_BYTES, AppendLog
from featcache.files.documents import RememberedFile, validate
from featcache.files.file_stat import FileStat, is_racy, read_file_stat
from featcache.files.known_files import KnownFile, KnownFiles, LineIndex, hash_texts
from featcache.files.objects import ObjectPath
from featcache.files.sealed import is_intact, seal_line, unseal_line

STAT_LOG_NAME = "stat.log"
_TOGETHER = 1 << 16  # files that are looked up together, and lines that are held of one folder
_WINDOW = 1 << 16  # bytes of the log that are read together where lines of it are looked at again
_FOLDERS = 2  # in which files are looked up one by one before the whole log is indexed
_STAT = b',"stat":['
_USUAL = re.compile(  # a file that gave an image; its name was compared as bytes already
    rb'\{"path":"[^\n]*","stat":\[(\d+),(-?\d+),(-?\d+),(\d+)\],"digest":"([0-9a-f]{64})","reason":"","sum":"[0-9a-f]{16}"\}'
)


class StatLog:
    """What one cache remembers of files; `remember` collects, `flush` writes."""

    def __init__(self, cache: Path) -> None:
        """Name the log of a cache; nothing is read yet.

        Args:
            cache: The cache's folder.
        """
        self.path = _memory_folder(cache) / STAT_LOG_NAME
        self._log = AppendLog(self.path, is_memory=True)
        self._recent: dict[bytes, KnownFile] = {}  # what this process has remembered and not found again in the log
        self._folders: dict[bytes, dict[bytes, list[bytes]]] = {}  # the lines about a folder's files, the newest last
        self._index: LineIndex | None = None  # of all lines, once many files are looked up …
        self._indexed = 0  # … up to this byte
        self._pending: list[bytes] = []
        self._reading = threading.RLock()

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

    def look_up(
        self,
        paths: Iterable[str],
        file_of: Callable[[str], str] | None = None,
        stats: Iterable[Sequence[int]] | None = None,
    ) -> KnownFiles:
        """Return what is known of many files; None where a file is new, has changed, or is not there.

        Args:
            paths: Their absolute paths; the result is in this order. Few of them are held at a time.
            file_of: Of images inside other files, returns the file that one is in: its stat is the image's.
            stats: What stands for the stat of each, in the same order, where they are no files of this machine.

        Raises:
            MachineError: as `find`.
        """
        parts, coming = [KnownFiles(0)], iter(paths)
        listed = None if stats is None else iter(stats)
        while some := list(islice(coming, _TOGETHER)):
            parts.append(self._look_up(some, file_of, None if listed is None else list(islice(listed, len(some)))))
        return KnownFiles.join(parts)

    def _look_up(
        self, paths: Sequence[str], file_of: Callable[[str], str] | None, stats: Sequence[Sequence[int]] | None
    ) -> KnownFiles:
        """Return what is known of some files."""
        keys = list(map(_key, paths))
        files = {row: self._recent[key] for row, key in enumerate(keys) if key in self._recent} if self._recent else {}
        places = self._index_all().newest(hash_texts(keys, len(keys)))
        rows = np.argsort(places, kind="stable")
        rows = rows[places[rows] >= 0]
        for row, line in zip(rows.tolist(), self._lines_at(places[rows].tolist()), strict=False):
            known = _unseal(line) if line.startswith(keys[row] + _STAT) else None
            if (known := known or self._find_indexed(keys[row])) is not None:
                files.setdefault(row, known)
        known_files = KnownFiles(len(paths))
        read = cache(read_file_stat) if file_of else read_file_stat  # many images are in one file
        place = file_of or str
        same = [
            row
            for row, known in files.items()
            if known.stat == (read(place(paths[row])) if stats is None else tuple(stats[row]))
        ]
        known_files.note(same, [files[row] for row in same])
        return known_files

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
        self._recent[_key(path)] = known
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
        if len(self._recent) > _TOGETHER and self._index is not None:
            self._read_on()  # they are found in the log again
            self._recent.clear()

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
        key = _key(path)
        if (known := self._recent.get(key)) is not None:
            return known
        folder = key[: key.rindex(b"/") + 1] if b"/" in key else key
        with self._reading:
            if self._index is None and (folder in self._folders or len(self._folders) < _FOLDERS):
                lines = self._lines_of(folder).get(key, [])
                return next(filter(None, map(_unseal, reversed(lines))), None)
        return self._find_indexed(key)

    def _find_indexed(self, key: bytes) -> KnownFile | None:
        """Return the newest sound line that begins so."""
        for place in self._index_all().all_of(hash(key)):
            for line in self._lines_at([place]):
                if line.startswith(key + _STAT) and (known := _unseal(line)) is not None:
                    return known
        return None

    def _lines_of(self, folder: bytes) -> dict[bytes, list[bytes]]:
        """Return the lines about the files of one folder, by how they begin; of a large folder none, but the index."""
        if folder not in self._folders:
            lines_of: dict[bytes, list[bytes]] = {}
            for _, lines in self._blocks(0):
                for line in lines:
                    if line.startswith(folder):
                        lines_of.setdefault(line.partition(_STAT)[0], []).append(line)
            self._folders[folder] = lines_of
        return self._folders[folder]

    def _index_all(self) -> LineIndex:
        """Return the index of the log's lines."""
        with self._reading:
            return self._index if self._index is not None else self._read_on()

    def _read_on(self) -> LineIndex:
        """Index the lines that were added since the last time, and return the index."""
        with self._reading:
            self._folders.clear()
            index = self._index if self._index is not None else LineIndex()
            for place, lines in self._blocks(self._indexed):
                starts = place + np.cumsum([0, *(len(line) + 1 for line in lines)])
                index.add(hash_texts((line.partition(_STAT)[0] for line in lines), len(lines)), starts[:-1])
                self._indexed = int(starts[-2])  # the last line may not be whole yet
            self._index = index
        return index

    def _blocks(self, start: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the lines from a byte on, many at a time, with the place of the first; none where there is no log."""
        try:
            yield from self._log.iter_blocks(start)
        except FileNotFoundError:
            return
        except OSError as error:
            raise MachineError(
                f"{self.path}: the memory of files cannot be read: {error.strerror}; remove it: only time is lost"
            ) from None

    def _lines_at(self, places: Sequence[int]) -> Iterator[bytes]:
        """Yield the lines that begin at these bytes of the log, ascending, as they are now; none where it is gone."""
        try:
            file = self._log.open_to_read(anew=False)  # the places are of what was read before
        except OSError:
            return
        block, first = b"", 0
        with file:
            for place in places:
                end = block.find(b"\n", place - first)
                if end < 0:
                    block, first = _read_at(file, _WINDOW, place), place
                    end = block.find(b"\n")
                if end < 0 and len(block) == _WINDOW:
                    block = _read_at(file, MAX_LINE_BYTES, place)
                    end = block.find(b"\n")
                yield block[place - first : end if end >= 0 else len(block)]


def _memory_folder(cache: Path) -> Path:
    """Return where a cache remembers files: in itself; of a bucket, beside the local copies where these are kept."""
    if not isinstance(cache, ObjectPath):
        return cache
    from featcache.files.objects import memory_folder

    return memory_folder(cache) or cache


def _key(path: str) -> bytes:
    """Return how a line about this file begins: up to its stat, which no name can contain unescaped."""
    return b'{"path":' + encode_basestring_ascii(path).encode()


def _read_at(file: RawIOBase | BytesIO, size: int, place: int) -> bytes:
    """Return bytes of an open log from a place on."""
    file.seek(place)
    return file.read(size) or b""


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
