"""Bucket: the operations on one bucket that a cache rests on.

Read a range; list; publish whole, under a name that is not taken (`If-None-Match: *`) or in the place of the very
version that was read (`If-Match`). What a put answers is not the last word: where the answer is lost, or is that of our
own put that was sent twice, the object is read and compared.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

from featcache.files.objects import connection
from featcache.files.objects.connection import StoreRefusalError, connect, translate_refusals
from featcache.files.objects.object_path import ObjectPath
from featcache.files.objects.object_version import ObjectVersion, is_name, version_of

IN_FLIGHT = 16  # requests at a time: one alone mostly waits for the network
SMALL_IN_FLIGHT = 64  # of small objects, such as those of a log (docs/decisions/150)
_PAGE = 1000  # names of a listing that are held at a time
PART_BYTES = 1 << 23  # of a large object that one request reads
KEPT_BYTES = 1 << 29  # of objects that were read whole and stay in memory until others need the room
_ATTEMPTS = 4  # of a request whose answer is lost
_BACKOFF_SECONDS = 0.2
_T = TypeVar("_T")


class Bucket:
    """One bucket of an object store. Its methods raise FileNotFoundError and FileExistsError, or a MachineError."""

    def __init__(self, url: str, client: Any) -> None:
        """Hold the client of a bucket.

        Args:
            url: The bucket with its scheme: `s3://bucket`.
            client: A store of obstore.
        """
        self.url, self.client = url, client
        self.log_objects: dict[str, bytes] = {}  # of numbered logs, which never change, by their keys
        self.log_ends: dict[str, int] = {}  # the number up to which a log was read, by the key of the log
        self._kept: OrderedDict[tuple[str, str | None], bytes] = OrderedDict()
        self.has_conditions = False  # whether it is known to keep them
        self.log_contents: dict[str, tuple[int, bytes]] = {}  # all lines up to a number, by the key of the log
        self._lock = Lock()

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """The threads that wait for answers."""
        return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="featcache-objects")

    def head(self, key: str) -> ObjectVersion:
        """Return what the object store says of an object."""
        return self._ask(lambda: version_of(self.client.head(key)), key)

    def get(self, key: str, *, limit: int | None = None) -> tuple[bytes, ObjectVersion]:
        """Return an object, and which version of it was read; no bytes of one that is larger than `limit`."""

        def read() -> tuple[bytes, ObjectVersion]:
            result = self.client.get(key)
            version = version_of(result.meta)
            return b"" if limit is not None and version.size > limit else bytes(result.bytes()), version

        return self._ask(read, key)

    def get_range(self, key: str, start: int, end: int, e_tag: str | None) -> bytes:
        """Return the bytes of one version of an object from `start` up to `end`; fewer where it ends before."""
        options: dict[str, Any] = {"range": (start, end)} | ({"if_match": e_tag} if e_tag else {})
        return self._ask(lambda: bytes(self.client.get(key, options=options).bytes()), key)

    def get_parts(self, key: str, start: int, end: int, e_tag: str | None) -> Iterator[bytes]:
        """Yield the bytes of one version of an object in order, while those that follow are on their way."""
        starts = range(start, end, PART_BYTES)
        if len(starts) < 2:
            if end > start:
                yield self.get_range(key, start, end, e_tag)
            return
        ends = [min(part + PART_BYTES, end) for part in starts]
        jobs = [self.threads.submit(self.get_range, key, *part, e_tag) for part in zip(starts, ends, strict=True)]
        try:
            while jobs:
                yield jobs.pop(0).result()
        finally:
            for job in jobs:
                job.cancel()

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return several small objects in their order, None where one is missing; many requests are in flight."""
        if len(keys) <= IN_FLIGHT:
            return list(self.threads.map(self._get_or_none, keys)) if len(keys) > 1 else [*map(self._get_or_none, keys)]
        with ThreadPoolExecutor(SMALL_IN_FLIGHT, thread_name_prefix="featcache-small-objects") as threads:
            return list(threads.map(self._get_or_none, keys))

    def _get_or_none(self, key: str) -> bytes | None:
        try:
            return self.get(key)[0]
        except FileNotFoundError:
            return None

    def list_folder(self, key: str) -> tuple[list[str], dict[str, ObjectVersion]]:
        """Return the names of the folders directly below a name, and the objects there with their versions."""
        listed = self._ask(lambda: self.client.list_with_delimiter(key or None), key, listing=True)
        start = len(key) + 1 if key else 0
        folders = [name for path in listed["common_prefixes"] if is_name(name := path.rstrip("/")[start:])]
        objects = {name: version_of(entry) for entry in listed["objects"] if is_name(name := entry["path"][start:])}
        return sorted(folders), objects

    def walk(self, key: str, *, any_name: bool = False) -> Iterator[tuple[str, ObjectVersion]]:
        """Yield key and version of every object below a name: those that featcache can have written, or of any name."""
        for entry in self._iterate(key):
            if any_name or all(map(is_name, entry["path"].split("/"))):
                yield entry["path"], version_of(entry)

    def _iterate(self, key: str) -> Iterator[Any]:
        """Yield what obstore says of every object below a name, a thousand held at a time, in the order of their keys.

        A listing that is torn goes on behind the last key that came.
        """
        last: str | None = None
        pages: Any = None

        def next_page() -> Any:
            nonlocal pages
            pages = pages or iter(self.client.list(key or None, offset=last, chunk_size=_PAGE))
            try:
                return next(pages, None)
            except BaseException:
                pages = None
                raise

        while page := self._ask(next_page, key, listing=True):
            yield from page
            last = max(entry["path"] for entry in page)

    def has_keys(self, key: str) -> bool:
        """Return whether an object stands below a name."""

        def look() -> bool:
            return any(len(entries) for entries in self.client.list(key or None, chunk_size=1))

        return self._ask(look, key, listing=True)

    def create(self, key: str, data: bytes | memoryview) -> None:
        """Publish an object under a name that is not taken. The same bytes under this name count as our own.

        Raises:
            FileExistsError: another object has this name.
        """
        self._put(key, data, "create")

    def replace(self, key: str, data: bytes, before: ObjectVersion) -> None:
        """Publish an object in the place of one version of it.

        Raises:
            FileExistsError: it is another version by now, or is gone.
        """
        self._put(key, data, before.condition)

    def overwrite(self, key: str, data: bytes | memoryview) -> None:
        """Publish an object in the place of whatever has this name: for documents that say all anew."""
        self._put(key, data, "overwrite")

    def _put(self, key: str, data: bytes | memoryview, mode: Any) -> None:
        try:
            _try_again(lambda: self.put_unchecked(key, data, mode))
        except FileExistsError:
            if self._get_or_none(key) != data:
                raise

    def put_unchecked(self, key: str, data: bytes | memoryview, mode: Any) -> None:
        """Send one put, and take its answer as it is."""
        try:
            with self._translated(key):
                self.client.put(key, data, mode=mode, use_multipart=False)
        except FileNotFoundError as error:  # the version that was to be replaced is gone
            raise FileExistsError(*error.args) from None

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        try:
            with self._translated(key):
                self.client.delete(key)
        except FileNotFoundError:
            return

    def keep(self, key: str, version: ObjectVersion, data: bytes) -> None:
        """Keep an object that was read whole in memory, as long as there is room."""
        with self._lock:
            self._kept[key, version.e_tag] = data
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)

    def kept(self, key: str, version: ObjectVersion) -> bytes | None:
        """Return an object that was kept; None where it was not, or had to make room."""
        with self._lock:
            return self._kept.get((key, version.e_tag))

    def forget_log(self, key: str) -> None:
        """Forget what was read of a log, which was moved away."""
        self.log_ends.pop(key, None)
        self.log_contents.pop(key, None)
        for known in [known for known in self.log_objects if known.startswith(f"{key}/")]:
            del self.log_objects[known]

    def _translated(self, key: str, *, listing: bool = False) -> Any:
        return translate_refusals(f"{self.url}/{key}", is_listing=listing)

    def _ask(self, ask: Callable[[], _T], key: str, *, listing: bool = False) -> _T:
        """Return what the object store answers; asked again where the answer is torn in a way that obstore gives up."""

        def once() -> _T:
            with self._translated(key, listing=listing):
                return ask()

        return _try_again(once)


_BUCKETS: dict[str, Bucket] = {}
_OPENING = Lock()


def open_bucket(path: ObjectPath) -> Bucket:
    """Return the bucket that a place is in; the same one for all places in it.

    Raises:
        CacheError: the place would lead out of the cache.
        UsageError: obstore is not installed.
        MachineError: a setting of the environment that the library refuses.
    """
    url = path.bucket
    with _OPENING:
        if url not in _BUCKETS:
            scheme, _, name = url.partition("://")
            _BUCKETS[url] = Bucket(url, connect(scheme, name))
        return _BUCKETS[url]


def _try_again(ask: Callable[[], _T]) -> _T:
    """Return what `ask` does, tried again where its error may pass; obstore has tried before, for longer each time."""
    begun = time.monotonic()
    for attempt in range(1, _ATTEMPTS):
        try:
            return ask()
        except StoreRefusalError as error:
            if not error.is_passing or time.monotonic() - begun > connection.RETRY_SECONDS / 2:
                raise
        time.sleep(_BACKOFF_SECONDS * 2**attempt)
    return ask()
