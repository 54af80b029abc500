"""A log of sealed lines that is only ever added to, read in bounded memory: commits.jsonl and runs.jsonl.

What a crash leaves of a last line is torn and ignored; every other line that does not hold is damaged, and named. One
line may not be longer than `LONGEST` bytes: a file without a newline in it, such as zeros that a power cut left, is
never held whole. stat.log is read with `read_blocks` alone: it is a memory, whose lines are checked when they are used.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.files.cache_files import DOCUMENT, LOG, open_regular
from featcache.files.safe_read import refuse_larger
from featcache.files.sealed import unseal_line

LONGEST = DOCUMENT  # bytes of a line
_BLOCK = 1 << 22  # bytes that are read at a time


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands in the file."""

    data: bytes | None  # without its newline; None where it is longer than any such line
    size: int  # bytes
    whole: bool = True  # whether a newline ends it


@dataclass(frozen=True, slots=True)
class LogRead:
    """A log as far as it holds."""

    lines: tuple[bytes, ...] = ()  # that hold, without their newlines
    damaged: tuple[tuple[int, str], ...] = ()  # the number of each other line, from 1, and what is wrong with it
    torn: int = 0  # bytes of a last line that a crash cut short
    size: int = 0  # bytes of the file
    ends_whole: bool = True  # whether the last line that holds has its newline


def read_log(path: Path, take: Callable[[dict[str, Any]], str]) -> LogRead:
    """Give the content of every sealed line of a log, in order, to `take`, and return what became of the lines.

    Args:
        path: The log.
        take: Gets what a line says; returns what is wrong with that, or "".

    Raises:
        OSError: it is missing, no regular file, a link, or too large.
    """
    lines: list[bytes] = []
    damaged: list[tuple[int, str]] = []
    torn, size, ends_whole = 0, 0, True
    for number, line in enumerate(read_lines(path), start=1):
        size += line.size + line.whole
        if not line.whole and _is_torn(line):
            torn = line.size
            continue
        wrong = _problem(line, take)
        if wrong or line.data is None:
            damaged.append((number, wrong))
        else:
            lines.append(line.data)
            ends_whole = line.whole
    return LogRead(tuple(lines), tuple(damaged), torn, size, ends_whole)


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a log; the last one without a newline only where it is not empty.

    Raises:
        OSError: it is missing, no regular file, a link, or too large.
    """
    held: list[bytes] = []  # of the line that is being read
    size = 0
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        refuse_larger(file.fileno(), LOG)
        while block := file.read(_BLOCK):
            first, *others = block.split(b"\n")
            size += len(first)
            held = [*held, first] if size <= LONGEST else []
            if not others:
                continue
            yield Line(b"".join(held) if size <= LONGEST else None, size)
            for piece in others[:-1]:
                yield Line(piece, len(piece))
            held, size = [others[-1]], len(others[-1])
    if size:
        yield Line(b"".join(held) if size <= LONGEST else None, size, whole=False)


def read_blocks(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a log, many at a time, without those that are longer than any such line.

    `read_lines` for a memory of a million lines, in a third of the time: nobody asks which lines they were.

    Raises:
        OSError: it is missing, no regular file, a link, or too large.
    """
    held, skipping = b"", False  # the line that is being read; whether its beginning was let go
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        refuse_larger(file.fileno(), LOG)
        while block := file.read(_BLOCK):
            lines = (held + block).split(b"\n")
            held = lines.pop()
            if skipping and lines:
                del lines[0]
                skipping = False
            if len(held) > LONGEST or skipping:
                held, skipping = b"", True
            yield lines
    if held:
        yield [held]


def _is_torn(line: Line) -> bool:
    """Whether a last line without a newline is what a crash leaves: no whole line, nor one with a byte too many."""
    return line.data is not None and unseal_line(line.data) is None and unseal_line(line.data[:-1]) is None


def _problem(line: Line, take: Callable[[dict[str, Any]], str]) -> str:
    if line.data is None:
        return f"is damaged: {line.size:,} bytes long, more than any line of a log"
    entry = unseal_line(line.data)
    if entry is not None:
        return take(entry)
    if not line.whole:  # all of a line, and then another byte: no crash writes one too many
        return "is damaged: its end is no newline"
    return "is damaged: it does not match its checksum"
