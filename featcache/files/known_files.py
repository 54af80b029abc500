"""What is known of many files, in arrays: 80 bytes a file, and no Python object until one is looked at."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from featcache.files.file_stat import FileStat

_BITS, _NO_DIGEST = (1 << 64) - 1, bytes(32)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One file as it was read."""

    stat: FileStat
    digest: bytes  # sha256 of its bytes, 32 bytes; b"" where it could not be read
    reason: str = ""  # why it gives no image; "" where it does
    transform: str = ""  # under which transform it gives none: the start of its sha256


class KnownFiles(Sequence[KnownFile | None]):
    """What is known of some files, in their order; None where nothing is.

    Attributes:
        is_known: Whether anything is known of each, (files,).
        digests: The sha256 of each, (files, 32) uint8; zeros where it is not known or could not be read.
        reasons: Which of `texts` says why each gives no image, (files,) int32; 0 where it gives one.
        texts: What `reasons` counts; the first is "".
    """

    def __init__(self, files: int) -> None:
        """Know nothing of any file yet.

        Args:
            files: How many there are.
        """
        self.is_known = np.zeros(files, dtype=bool)
        self.digests = np.zeros((files, 32), dtype=np.uint8)
        self.reasons = np.zeros(files, dtype=np.int32)
        self.texts = [""]
        self._has_digest = np.zeros(files, dtype=bool)
        self._transforms = np.zeros(files, dtype=np.int32)
        self._stats = np.zeros((files, 4), dtype=np.uint64)
        self._code_of = {"": 0}

    @classmethod
    def of(cls, files: Sequence[KnownFile | None]) -> "KnownFiles":
        """Return what is known of these files.

        Args:
            files: What is known of each, or None.
        """
        if isinstance(files, KnownFiles):
            return files
        known, rows = cls(len(files)), [row for row, file in enumerate(files) if file is not None]
        known.note(rows, [file for file in files if file is not None])
        return known

    @classmethod
    def join(cls, parts: Sequence["KnownFiles"]) -> "KnownFiles":
        """Return what is known of the files of all parts, one part behind the other.

        Args:
            parts: Each for some files.
        """
        joined, at = cls(sum(map(len, parts))), 0
        for part in parts:
            rows = slice(at, at + len(part))
            codes = np.array([joined._code(text) for text in part.texts], dtype=np.int32)
            joined.reasons[rows], joined._transforms[rows] = codes[part.reasons], codes[part._transforms]
            for name in ("is_known", "digests", "_has_digest", "_stats"):
                getattr(joined, name)[rows] = getattr(part, name)
            at += len(part)
        return joined

    def note(self, rows: Sequence[int], files: Sequence[KnownFile]) -> None:
        """Note what is known of some files.

        Args:
            rows: Which of them.
            files: What is known of each of these.
        """
        if not len(rows):
            return
        at = np.array(rows, dtype=np.int64)
        self.is_known[at] = True
        self._has_digest[at] = [bool(file.digest) for file in files]
        joined = b"".join([file.digest or _NO_DIGEST for file in files])
        self.digests[at] = np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)
        self.reasons[at] = [self._code(file.reason) for file in files]
        self._transforms[at] = [self._code(file.transform) for file in files]
        self._stats[at] = [[number & _BITS for number in file.stat] for file in files]

    def copy(self) -> "KnownFiles":
        """Return the same, which can be changed by itself."""
        other = KnownFiles(0)
        for name, value in vars(self).items():
            setattr(other, name, value.copy())
        return other

    def forget_reasons(self, rows: npt.NDArray[np.bool_]) -> None:
        """Take these files for such as give an image.

        Args:
            rows: Which, (files,).
        """
        self.reasons[rows] = 0
        self._transforms[rows] = 0

    def failed_otherwise(self, transform: str) -> npt.NDArray[np.bool_]:
        """Return which files give no image under another transform than this one, (files,).

        Args:
            transform: The start of its sha256.
        """
        code = self._code_of.get(transform, -1)
        return np.asarray((self.reasons != 0) & (self._transforms != code))

    def __len__(self) -> int:
        return len(self.is_known)

    @overload
    def __getitem__(self, row: int) -> KnownFile | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[KnownFile | None]: ...
    def __getitem__(self, row: int | slice) -> KnownFile | list[KnownFile | None] | None:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        if not self.is_known[row]:
            return None
        size, mtime, ctime, _ = self._stats[row].view(np.int64).tolist()
        digest = self.digests[row].tobytes() if self._has_digest[row] else b""
        reason, transform = self.texts[self.reasons[row]], self.texts[self._transforms[row]]
        return KnownFile((size, mtime, ctime, int(self._stats[row, 3])), digest, reason, transform)

    def __setitem__(self, row: int, file: KnownFile | None) -> None:
        self.is_known[row] = False
        self.note([row] if file is not None else [], [file] if file is not None else [])

    def __iter__(self) -> Iterator[KnownFile | None]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def _code(self, text: str) -> int:
        code = self._code_of.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code


class LineIndex:
    """Where the lines of a growing file stand, by the hash of what they begin with: 16 bytes a line.

    Runs that are sorted apart are merged as they grow, so that there are few; the newest line is found first.
    """

    def __init__(self) -> None:
        """Know no line yet."""
        self._runs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []  # hashes, sorted, and offsets

    def add(self, hashes: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> None:
        """Add lines that stand behind all that were added before.

        Args:
            hashes: Of what each begins with, (lines,).
            offsets: Where each begins, bytes from the start of the file, (lines,), ascending.
        """
        order = np.argsort(hashes, kind="stable")  # of equal ones the last is the newest
        self._runs.append((hashes[order], offsets[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            joined = np.concatenate([older[0], newer[0]])
            order = np.argsort(joined, kind="stable")
            self._runs.append((joined[order], np.concatenate([older[1], newer[1]])[order]))

    def newest(self, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where the newest line of each hash begins, (n,); -1 where there is none.

        Args:
            hashes: (n,).
        """
        found = np.full(len(hashes), -1, dtype=np.int64)
        for run, offsets in self._runs:
            at = np.searchsorted(run, hashes, side="right") - 1
            is_there = (at >= 0) & (run[at] == hashes) if len(run) else np.zeros(len(hashes), dtype=bool)
            found[is_there] = offsets[at[is_there]]
        return found

    def all_of(self, value: int) -> list[int]:
        """Return where the lines of one hash begin, the newest first.

        Args:
            value: The hash.
        """
        places: list[int] = []
        for run, offsets in self._runs:
            first, last = np.searchsorted(run, value, side="left"), np.searchsorted(run, value, side="right")
            places += offsets[first:last].tolist()
        return places[::-1]


def hash_texts(texts: Iterable[bytes], count: int) -> npt.NDArray[np.int64]:
    """Return Python's hash of each text, (count,) int64: another one in every process.

    Args:
        texts: The texts.
        count: How many there are.
    """
    return np.fromiter(map(hash, texts), dtype=np.int64, count=count)
