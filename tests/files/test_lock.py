"""One writer at a time, and the next one is told who it is."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from featcache.errors import CacheError, MachineError, UsageError
from featcache.files import publishing
from featcache.files.lock import SOFT, hold_store

HOLD = """
import sys, time
from pathlib import Path
from featcache.files.lock import hold_store
with hold_store(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which holds the store at tmp_path."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_second_writer_is_told_who_holds_the_store(tmp_path, holder):
    """Exit class 3 at once, with the process id of the holder; the holder keeps its lock."""
    for _ in range(2):
        with pytest.raises(CacheError, match=f"pid {holder.pid} on") as told, hold_store(tmp_path):
            pytest.fail("two writers")
        assert told.value.exit_code == 3


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_holder_that_dies_frees_the_lock(tmp_path, holder, death):
    """However a writer ends, the next one gets the store without any help."""
    holder.send_signal(death)
    holder.wait(timeout=20)
    with hold_store(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / "writer.json").read_text()


def test_who_waits_gets_the_store_when_its_holder_ends(tmp_path, holder):
    """--wait: not refused but made to wait, and told once for whom."""
    told: list[str] = []
    threading.Timer(1.5, holder.kill).start()
    with hold_store(tmp_path, wait=30, waiting=told.append):
        pass
    assert [f"pid {holder.pid} on" in who for who in told] == [True]


def test_who_waited_in_vain_is_told_how_long(tmp_path, holder):
    """Exit class 3 after the time that was given, with who holds it and since when."""
    with pytest.raises(CacheError, match=rf"still, after 1.2 s.*pid {holder.pid} on .*, since 20"):  # noqa: SIM117
        with hold_store(tmp_path, wait=1.2):
            pytest.fail("two writers")


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request, monkeypatch) -> None:
    """A file system without flock, as far as this process can see."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", refuse)


def test_without_locks_a_file_stands_for_them(tmp_path, no_locks):
    """One writer at a time all the same, and the file is gone after it; the message names it."""
    with hold_store(tmp_path):
        assert (tmp_path / SOFT).exists()
        with pytest.raises(CacheError, match="no locks: if that process is gone, remove"), hold_store(tmp_path):
            pytest.fail("two writers")
    assert not (tmp_path / SOFT).exists()


def test_without_locks_a_holder_that_died_here_is_found_out(tmp_path, no_locks):
    """What a killed process left is taken over; what another host left is not."""
    with subprocess.Popen(["true"]) as died:
        pass
    (tmp_path / SOFT).write_text(f"{died.pid}\n{socket.gethostname()}\n")
    os.utime(tmp_path / SOFT, (1, 1))
    with hold_store(tmp_path, wait=5):
        pass
    (tmp_path / SOFT).write_text(f"{died.pid}\nanother-host\n")
    os.utime(tmp_path / SOFT, (1, 1))
    with pytest.raises(CacheError, match="remove"), hold_store(tmp_path):
        pytest.fail("two writers")


def test_a_stopped_holder_still_holds(tmp_path, holder):
    """A process that was stopped may go on, so its lock stands."""
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(CacheError), hold_store(tmp_path):
        pytest.fail("two writers")
    holder.send_signal(signal.SIGCONT)


def test_two_writers_in_one_process_exclude_each_other(tmp_path):
    """The lock is held by the writer and not by the process; and it is free after it, whatever happened inside."""
    with hold_store(tmp_path), pytest.raises(CacheError, match=f"pid {os.getpid()}"), hold_store(tmp_path):
        pytest.fail("two writers")
    with pytest.raises(KeyboardInterrupt), hold_store(tmp_path):
        raise KeyboardInterrupt
    with hold_store(tmp_path):
        pass
    assert not (tmp_path / "writer.json").exists()


def test_other_stores_are_not_held(tmp_path, holder):
    """A lock is of one store: two trunks are extracted side by side."""
    (tmp_path / "other").mkdir()
    with hold_store(tmp_path / "other"):
        pass


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_holder_that_cannot_be_named_is_still_respected(tmp_path, holder, left):
    """A damaged note about the holder costs its name, not the lock."""
    (tmp_path / "writer.json").write_bytes(left)
    with pytest.raises(CacheError, match="it has just begun"), hold_store(tmp_path):
        pytest.fail("two writers")


def test_a_file_in_the_place_of_a_store_cannot_be_locked(tmp_path):
    """What the operating system refuses is exit class 5 and not a traceback."""
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(MachineError), hold_store(tmp_path / "store"):
        pytest.fail("a lock on nothing")


@pytest.mark.parametrize("wait", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path, wait):
    """To the lock -1 would mean for ever."""
    with pytest.raises(UsageError, match="--wait"), hold_store(tmp_path, wait=wait):
        pytest.fail("held")


class Stopped(BaseException):
    """What ends a block and is no error, as Ctrl-C."""


class NoUnlink:
    """`os` to publish.py, but that nothing can be removed: a second Ctrl-C comes just then."""

    def __getattr__(self, name: str) -> object:
        if name == "unlink":
            raise Stopped
        return getattr(os, name)


@pytest.mark.parametrize("soft", [False, True], ids=["flock", "no locks"])
@pytest.mark.parametrize("moment", ["in the block", "while the note is removed"])
def test_the_lock_is_given_back_while_the_exception_lives_on(tmp_path, monkeypatch, soft, moment):
    """Whatever ends a writer, and however long its traceback is kept (a notebook's), the next one gets the store."""
    if soft:
        monkeypatch.setattr("fcntl.flock", refused)
    kept = None
    with monkeypatch.context() as patch:
        try:
            with hold_store(tmp_path):
                if moment == "in the block":
                    raise Stopped
                patch.setattr(publishing, "os", NoUnlink())
        except Stopped as stopped:
            kept = stopped
    assert kept is not None
    assert kept.__traceback__ is not None
    with hold_store(tmp_path):
        pass


def refused(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
