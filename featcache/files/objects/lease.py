"""A lease: who may write, in an object store, which has no locks.

It is an object that one process creates, on the condition that there is none, and renews while it works. A process that
dies leaves it behind; the object says for how many seconds it counts after it was last renewed, by the clock of the
object store, and is taken over after that. Of a process of this very machine that is gone nobody waits for that.

What was committed does not rest on any clock. A process that only slept, and whose lease was taken over meanwhile,
finds the next number of its log taken (`numbered_log`), and commits nothing more.
"""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from featcache.errors import CacheError, MachineError
from featcache.files import LockHolder, parse_json, read_file, seal_line, validate
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.numbered_log import NumberedLog
from featcache.files.objects.object_path import ObjectPath
from featcache.files.objects.object_version import ObjectVersion
from featcache.files.objects.probes import clock_ns, require_conditions

LEASE_SECONDS = 60.0  # for which a holder that is not heard of is believed to be alive
_ASK_SECONDS = 0.5  # how often a lease is asked for that another holds
_RENEWALS = 4  # in the time for which a lease counts
_LONGEST = 86_400.0  # seconds for which a lease can count, whatever it says


@dataclass(slots=True, eq=False)
class Lease:
    """A lease that this process holds."""

    path: ObjectPath  # of the object that says who holds it
    log: NumberedLog | None  # which only the holder adds to
    seconds: float = LEASE_SECONDS
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    next_number: int = 0  # of the log: the only one that this holder may put
    _unsure: bytes = b""  # what was put under it, where Ctrl-C or a lost answer leaves open whether it stands
    _version: ObjectVersion | None = None
    _renewals: int = 0
    _since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    _ended: threading.Event = field(default_factory=threading.Event)
    _renewing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bucket(self) -> Bucket:
        """The bucket that it is in."""
        return open_bucket(self.path)

    def take(self) -> str:
        """Take the lease, where nobody has it or its holder is gone; return who holds it otherwise, "" where taken.

        Raises:
            MachineError: the object store does not answer, or ignores conditions.
        """
        require_conditions(self.bucket, self.path.parent.key)
        try:
            self.bucket.create(self.path.key, self._document())
        except FileExistsError:
            try:
                data, version = self.bucket.get(self.path.key)
                if not self._is_over(data, version):
                    return data.decode(errors="replace") or "?"
                self.bucket.replace(self.path.key, self._document(), version)
            except FileNotFoundError:
                return self.take()  # it was given back just now
            except FileExistsError:
                return "?"
        self._note_version()
        if self.log is not None:
            line = seal_line({"writer": {**self._holder(), "token": self.token}})
            self.next_number = self.log.append(line) + 1
        return ""

    def renew(self) -> None:
        """Say that this process still works.

        Raises:
            CacheError: another process has taken the lease over.
            MachineError: the object store does not answer.
        """
        with self._renewing:
            self._renewals += 1
            with contextlib.suppress(FileExistsError):  # by another, or by our last put, whose answer was lost
                self.bucket.replace(self.path.key, self._document(), self._version or self.bucket.head(self.path.key))
            self._note_version()

    def keep(self) -> None:
        """Renew the lease until `give_back`; what fails here shows where something is committed."""
        while not self._ended.wait(self.seconds / _RENEWALS):
            with contextlib.suppress(CacheError, MachineError):
                self.renew()

    def append(self, data: bytes) -> None:
        """Put an object under the next number of the log.

        Raises:
            CacheError: the number is taken: another process has taken the lease over.
            MachineError: the object store does not answer; the object may stand or not.
        """
        assert self.log is not None  # noqa: S101 (whoever adds to a log has named it)
        if self._unsure and self.log.holds(self.next_number, self._unsure):
            self.next_number += 1
        self._unsure = data
        try:
            self.log.put(self.next_number, data)
        except FileExistsError:
            raise self.lost_error() from None
        self.next_number += 1
        self._unsure = b""

    def publish(self, path: ObjectPath, data: bytes) -> None:
        """Publish a document that belongs to what the lease is for, in the place of the version that stands there now.

        Args:
            path: Where it stands, or is to stand.
            data: Its bytes.

        Raises:
            CacheError: another process has taken the lease over.
            MachineError: the object store does not answer; the document is the old one or the new one.
        """
        try:
            before = self.bucket.head(path.key)
        except FileNotFoundError:
            before = None
        self.renew()  # after the look at it: what another holder has written since is another version
        try:
            if before is None:
                self.bucket.create(path.key, data)
            else:
                self.bucket.replace(path.key, data, before)
        except FileExistsError:
            raise self.lost_error() from None

    def give_back(self) -> None:
        """Let others have the lease. Where the object store does not answer, they wait until it is over."""
        self._ended.set()
        with contextlib.suppress(CacheError, MachineError):
            self.renew()  # or it might be that of another by now
            self.bucket.remove(self.path.key)

    def _note_version(self) -> None:
        """Note which version of the lease is ours: read with its content, for by now it may be that of another."""
        try:
            data, version = self.bucket.get(self.path.key)
        except FileNotFoundError:
            raise self.lost_error() from None
        if self.token.encode() not in data:
            raise self.lost_error()
        self._version = version

    def lost_error(self) -> CacheError:
        """Return the error that another process has taken the lease over."""
        return CacheError(
            f"{self.path.parent}: another process has taken over writing here ({describe_holder(self.path)}): this one "
            f"was not heard of for {self.seconds:g} s; what it had committed before is safe: run it again"
        )

    def _holder(self) -> dict[str, object]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since}

    def _document(self) -> bytes:
        more = {"seconds": self.seconds, "machine": _machine(), "token": self.token, "renewals": self._renewals}
        return json.dumps({**self._holder(), **more}).encode()

    def _is_over(self, data: bytes, version: ObjectVersion) -> bool:
        """Return whether a lease counts no more."""
        seconds, machine, pid = self.seconds, "", 0
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            value = parse_json(data)
            seconds, machine, pid = min(float(value["seconds"]), _LONGEST), str(value["machine"]), int(value["pid"])
        if machine and machine == _machine() and not _is_running(pid):
            return True
        age_ns = clock_ns(self.bucket, self.path.parent.key) - version.modified_ns
        return age_ns > seconds * 1e9


_HELD: dict[str, Lease] = {}  # by the log that only the holder adds to


def held_lease(log: ObjectPath) -> Lease | None:
    """Return the lease of this process under which a log is added to; None where it has none.

    Args:
        log: The path of the log.
    """
    return _HELD.get(str(log))


def lease_around(path: ObjectPath) -> Lease | None:
    """Return the lease of this process for the store that a place is directly in; None where it has none.

    Args:
        path: Of a document beside the store's log, such as trunk.json.
    """
    return next((lease for lease in _HELD.values() if lease.path.parent == path.parent), None)


@contextlib.contextmanager
def hold_lease(
    path: ObjectPath, *, log: ObjectPath | None = None, wait: float, waiting: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """Hold a lease during the block, or find out who holds it.

    Args:
        path: The object that says who holds it.
        log: The log that only the holder adds to; None where the lease is for something else.
        wait: Seconds to wait for it.
        waiting: Told once who is waited for.

    Yields:
        "" where the lease is held; else who holds it.

    Raises:
        MachineError: the object store does not answer, or ignores conditions.
    """
    lease = Lease(path, None if log is None else NumberedLog(log), LEASE_SECONDS)
    until, told = time.monotonic() + wait, False
    while (holder := lease.take()) and time.monotonic() < until:
        if not told:
            waiting(describe_holder(path, holder))
        told = True
        time.sleep(min(_ASK_SECONDS, max(0.0, until - time.monotonic())))
    if holder:
        yield describe_holder(path, holder)
        return
    threading.Thread(target=lease.keep, name="featcache-lease", daemon=True).start()
    outer = _HELD.get(str(log))  # a former holder, of this process too, must not lose what refuses its lines
    try:
        if log is not None:
            _HELD[str(log)] = lease
        yield ""
    finally:
        if outer is not None:
            _HELD[str(log)] = outer
        else:
            _HELD.pop(str(log), None)
        lease.give_back()


def describe_holder(path: ObjectPath, document: str = "") -> str:
    """Return who holds a lease, in words.

    Args:
        path: The object that says it.
        document: What it says, where it was read already.
    """
    try:
        data = document.encode() if document not in ("", "?") else open_bucket(path).get(path.key)[0]
        value = parse_json(data)
        holder = validate(LockHolder, value)
        over = f"it counts as gone {value['seconds']:g} s after it was last heard of"
        return f"pid {holder.pid} on {holder.host}, since {holder.since}; {over}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"


def _machine() -> str:
    """Return what stands for this machine since it was started, and for this set of process ids; "" where none does."""
    try:
        boot = read_file("/proc/sys/kernel/random/boot_id", 1000, follow_links=False)
        return hashlib.sha256(boot + os.readlink("/proc/self/ns/pid").encode()).hexdigest()[:16]
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
