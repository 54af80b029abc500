"""A log of sealed lines that is only ever added to, and read in bounded memory.

There are three. `commits.jsonl` and `runs.jsonl` are records: one writer at a time holds a lock, mends the end of the
log, and then adds lines, each made durable before it counts. `stat.log` is a memory: it needs no lock and no fsync,
because a line that is lost only costs work.

What a crash leaves of a last line is torn and ignored; every other line that does not hold is damaged, and named. One
line may not be longer than `MAX_LINE_BYTES`: a file without a newline in it, such as zeros that a power cut left, is
never held whole.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

from featcache.files.cache_files import MAX_DOCUMENT_BYTES, MAX_LOG_BYTES, MAX_MEMORY_BYTES, open_cache_file
from featcache.files.objects import ObjectPath
from featcache.files.publishing import append_bytes, ends_with_newline, publish, truncate_file
from featcache.files.safe_read import refuse_larger
from featcache.files.sealed import unseal_line

MAX_LINE_BYTES = MAX_DOCUMENT_BYTES  # bytes of a line
_BLOCK = 1 << 22  # bytes that are read at a time


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line as it stands in the file."""

    data: bytes | None  # without its newline; None where it is longer than any such line
    size: int  # bytes
    whole: bool = True  # whether a newline ends it


@dataclass(frozen=True, slots=True)
class LogContent:
    """A log as far as it holds."""

    lines: tuple[bytes, ...] = ()  # that hold, without their newlines
    damaged: tuple[tuple[int, str], ...] = ()  # the number of each other line, from 1, and what is wrong with it
    torn: int = 0  # bytes of a last line that a crash cut short
    size: int = 0  # bytes of the file without the torn ones


@dataclass(frozen=True, slots=True)
class AppendLog:
    """A log of sealed lines at a path. It need not be there yet: the first line makes it.

    Attributes:
        path: Where the log stands.
        is_memory: Whether nothing rests on its lines. Then they are added without a lock and without fsync; a torn last
            line is ended by the next writer and not cut off, since another process may be about to complete it.
    """

    path: Path
    is_memory: bool = False

    def read(self, take: Callable[[dict[str, Any]], str]) -> LogContent:
        """Give the content of every sealed line, in order, to `take`, and return what became of the lines.

        Args:
            take: Gets the content of a line; returns what is wrong with it, or "".

        Returns:
            The lines that hold, the number of each other line with what is wrong with it, and how many bytes are torn.

        Raises:
            OSError: the log is missing, no regular file, a link, or too large.
        """
        lines: list[bytes] = []
        damaged: list[tuple[int, str]] = []
        torn = size = 0
        for number, line in enumerate(self.iter_lines(), start=1):
            if not line.whole and _is_torn(line):
                torn = line.size
                continue
            size += line.size + line.whole
            problem = _find_problem(line, take)
            if problem or line.data is None:
                damaged.append((number, problem))
            else:
                lines.append(line.data)
        return LogContent(tuple(lines), tuple(damaged), torn, size)

    def iter_lines(self) -> Iterator[LogLine]:
        """Yield every line, checked by nobody; the last one without a newline only where it is not empty.

        Raises:
            OSError: the log is missing, no regular file, a link, or too large.
        """
        held: list[bytes] = []  # of the line that is being read
        size = 0
        with self.open_to_read() as file:
            while block := file.read(_BLOCK):
                *ended, rest = block.split(b"\n")
                for part in ended:
                    yield _join([*held, part], size + len(part))
                    held, size = [], 0
                size += len(rest)
                held = [*held, rest] if size <= MAX_LINE_BYTES else []
        if size:
            yield _join(held, size, whole=False)

    def iter_blocks(self, start: int = 0) -> Iterator[tuple[int, list[bytes]]]:
        """Yield consecutive lines, many at a time, with the place of the first, bytes from the start of the file.

        `iter_lines` for a memory of a million lines, in a third of the time: nobody asks which lines they were. Lines
        that are longer than any such line are left out.

        Args:
            start: Where to begin, at the start of a line.

        Raises:
            OSError: the log is missing, no regular file, a link, or too large.
        """
        at, held, is_cut = start, b"", False  # `held` begins at `at`; whether the line that is read was too long
        with self.open_to_read() as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                joined = held + block
                *lines, held = joined.split(b"\n")
                if is_cut and lines:
                    at, is_cut = at + len(lines.pop(0)) + 1, False
                if len(joined) > MAX_LINE_BYTES:
                    yield from _without_long_lines(at, lines)
                elif lines:
                    yield at, lines
                at += sum(map(len, lines)) + len(lines)
                if len(held) > MAX_LINE_BYTES or is_cut:
                    at, held, is_cut = at + len(held), b"", True
        if held:
            yield at, [held]

    def open_to_read(self, *, anew: bool = True) -> RawIOBase | BytesIO:
        """Return the log as a file that is open for reading; of one in an object store, all of it in memory.

        Args:
            anew: Whether what was added since this process last read it is needed, too: an object store is asked.

        Raises:
            OSError: the log is missing, no regular file, a link, or too large.
        """
        if isinstance(self.path, ObjectPath):
            from featcache.files.objects import NumberedLog

            return BytesIO(NumberedLog(self.path).content(anew=anew))
        file = os.fdopen(open_cache_file(self.path), "rb", buffering=0)
        try:
            refuse_larger(file.fileno(), MAX_MEMORY_BYTES if self.is_memory else MAX_LOG_BYTES)
        except OSError:
            file.close()
            raise
        return file

    def append(self, *lines: bytes) -> None:
        """Add sealed lines in one write. To a record only under its lock, and after `repair_end`.

        Args:
            lines: As `seal_line` gives them, each with its newline.

        Raises:
            MachineError: the disk is full, …; a part of a line may stand there, which readers ignore. Or no regular
                file stands there.
            CacheError: the log is in an object store, and another process has taken over writing to it.
        """
        if isinstance(self.path, ObjectPath):
            from featcache.files.objects import append_to_log

            append_to_log(self.path, b"".join(lines))
            return
        start = (
            b"\n" if self.is_memory and not ends_with_newline(self.path) else b""
        )  # or a torn line would swallow the next
        append_bytes(self.path, start + b"".join(lines), sync=not self.is_memory)

    def repair_end(self, size: int) -> None:
        """Cut off what a crash left of a last line, or end a whole one. Only under the lock.

        Args:
            size: `LogContent.size`, bytes.

        Raises:
            MachineError: the disk refuses.
        """
        if isinstance(self.path, ObjectPath):  # an object is there as a whole, or not at all
            return
        if os.path.lexists(self.path) and os.lstat(self.path).st_size > size:
            truncate_file(self.path, size)
        if not ends_with_newline(self.path):
            append_bytes(self.path, b"\n", sync=True)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Publish the log anew with these lines. Only under the lock, by repair.

        Args:
            lines: As `seal_line` makes them, in their new order, but without their newlines.

        Raises:
            MachineError: the disk refuses; the old log stands.
        """
        if isinstance(self.path, ObjectPath):
            from featcache.files.objects import rewrite_log

            rewrite_log(self.path, list(lines))
            return
        publish(self.path, b"".join(line + b"\n" for line in lines), replace=True)


def _without_long_lines(at: int, lines: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield each of some consecutive lines that is no longer than any line may be, with its place."""
    for line in lines:
        if len(line) <= MAX_LINE_BYTES:
            yield at, [line]
        at += len(line) + 1


def _join(parts: list[bytes], size: int, *, whole: bool = True) -> LogLine:
    """Return a line of so many bytes from its parts, which are not looked at where it is longer than any such line."""
    return LogLine(b"".join(parts) if size <= MAX_LINE_BYTES else None, size, whole)


def _is_torn(line: LogLine) -> bool:
    """Whether a last line without a newline is what a crash leaves: no whole line, nor one with a byte too many."""
    return line.data is not None and unseal_line(line.data) is None and unseal_line(line.data[:-1]) is None


def _find_problem(line: LogLine, take: Callable[[dict[str, Any]], str]) -> str:
    """Return what is wrong with a line, or ""; what a sound one says goes to `take`."""
    if line.data is None:
        return f"is damaged: {line.size:,} bytes long, more than any line of a log"
    entry = unseal_line(line.data)
    if entry is not None:
        return take(entry)
    if not line.whole:  # all of a line, and then another byte: no crash writes one too many
        return "is damaged: it does not end in a newline"
    return "is damaged: it does not match its checksum"
