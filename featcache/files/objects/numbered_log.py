"""A log in an object store: numbered objects that never change, in the place of lines that are appended to a file.

    commits.jsonl/000000000001, commits.jsonl/000000000002, …     one or more sealed lines each

An object is put under the next number on the condition that nobody has it; who loses the number reads on from there. So
the numbers have no gaps, and a reader need not trust a listing: it asks for the numbers that a listing leaves out, and
for those behind the last one until there is none.

Whoever takes the lease of a store puts a line `{"writer": …}` under the next number. It is no line of the log; it
stands where a former holder, which may only have slept, would put its next line, so that this one is refused (`lease`).
"""

import re

from featcache.errors import CacheError
from featcache.files import unseal_line
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.object_path import ObjectPath

_NUMBER = re.compile(r"[0-9]{12}")
_WRITER = b'{"writer":'
_MOST_MISSING = 100_000  # objects that a listing may leave out: each is asked for
_ATTEMPTS = 1000  # to get a number, of a log that many add to at once


class NumberedLog:
    """The objects of one log, in order. Those that were read once are kept: they never change."""

    def __init__(self, path: ObjectPath) -> None:
        """Name a log; nothing is read yet.

        Args:
            path: What would be the file of the log in a folder.
        """
        self.path = path
        self._bucket: Bucket = open_bucket(path)
        self._known = self._bucket.log_objects

    def read(self) -> list[bytes]:
        """Return the lines of each object, from number 1 on, as they stand in it; b"" for a writer's line.

        Raises:
            FileNotFoundError: there is no such log.
            MachineError: the object store does not answer.
        """
        last = self.last()
        return [_lines_of(self._known[self.key(number)]) for number in range(1, last + 1)]

    def content(self, *, anew: bool = True) -> bytes:
        """Return all lines as a file would have them; joined once, and again only where there are more.

        Args:
            anew: Whether the object store is asked for more.

        Raises:
            FileNotFoundError: there is no such log.
            MachineError: the object store does not answer.
        """
        last = self.last() if anew or not self._count_known() else self._count_known()
        joined, data = self._bucket.log_contents.get(self.path.key, (0, b""))
        if joined != last:
            new = [_lines_of(self._known[self.key(number)]) for number in range(joined + 1, last + 1)]
            self._bucket.log_contents[self.path.key] = last, b"".join([data, *new])
        return self._bucket.log_contents[self.path.key][1]

    def last(self) -> int:
        """Return the number of the last object.

        Raises:
            FileNotFoundError: there is no such log.
            CacheError: nearly all of it is missing.
            MachineError: the object store does not answer.
        """
        last = self._count_known()
        if not last:
            _, listed = self._bucket.list_folder(self.path.key)
            numbers = [int(name) for name in listed if _NUMBER.fullmatch(name)]
            last = max(numbers, default=0)
            if (missing := last - len(numbers)) > _MOST_MISSING:
                raise CacheError(
                    f"{self.path}: of this log {missing:,} objects before number {last:,} are missing; remove that "
                    f"object where another program has put it there, or copy the cache again"
                )
            keys = [self.key(number) for number in range(1, last + 1)]
            for key, data in zip(keys, self._bucket.get_all(keys), strict=True):
                self._known[key] = _MISSING if data is None else data
        while (data := self._get(last + 1)) is not None:
            last += 1
            self._known[self.key(last)] = data
        if not last:
            raise FileNotFoundError(2, "No such file or directory", str(self.path))
        self._bucket.log_ends[self.path.key] = last
        return last

    def key(self, number: int) -> str:
        """Return the key of the object with a number.

        Args:
            number: From 1 on.
        """
        return f"{self.path.key}/{number:012d}"

    def put(self, number: int, data: bytes) -> None:
        """Put an object under a number.

        Args:
            number: The one after the last.
            data: Sealed lines, each with its newline.

        Raises:
            FileExistsError: another object has it.
            MachineError: the object store does not answer; the object may stand or not.
        """
        self._bucket.create(self.key(number), data)
        self._known[self.key(number)] = data
        if self._count_known() == number - 1:
            self._bucket.log_ends[self.path.key] = number

    def holds(self, number: int, data: bytes) -> bool:
        """Return whether an object stands under a number, and is this one.

        Args:
            number: From 1 on.
            data: Its bytes.

        Raises:
            MachineError: the object store does not answer.
        """
        return self._get(number) == data

    def append(self, data: bytes) -> int:
        """Return the number under which an object was put: the next one that nobody has.

        Args:
            data: Sealed lines, each with its newline.

        Raises:
            CacheError: others have taken every number that was tried.
            MachineError: the object store does not answer; the object may stand or not.
        """
        for _ in range(_ATTEMPTS):
            try:
                number = self.last() + 1
            except FileNotFoundError:
                number = 1
            try:
                self.put(number, data)
            except FileExistsError:
                continue
            return number
        raise CacheError(f"{self.path}: other processes add to it faster than this one can; run this one again")

    def _get(self, number: int) -> bytes | None:
        return self._bucket.get_all([self.key(number)])[0]

    def _count_known(self) -> int:
        return self._bucket.log_ends.get(self.path.key, 0)


_MISSING = b"this object of the log is missing\n"  # which is a damaged line


def _lines_of(data: bytes) -> bytes:
    """Return the lines of an object; none of one that a writer has marked its beginning with."""
    if data.startswith(_WRITER) and unseal_line(data.removesuffix(b"\n")) is not None:
        return b""
    return data
