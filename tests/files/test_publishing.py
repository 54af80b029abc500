"""Publish, never edit: under every failure a file is what it was, or what it should become."""

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featcache.errors import MachineError
from featcache.files import publishing

STEPS = ("open", "write", "fchmod", "fsync", "close", "rename")  # what publish asks of the operating system


class Shim:
    """Counts the calls that touch the disk and fails call number `fatal`: before it was made, or after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, death: Callable[[], BaseException], fatal: int, *, after: bool):
        self.calls: list[str] = []
        self.death, self.fatal, self.after = death, fatal, after
        for name in STEPS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    @property
    def struck(self) -> bool:
        return len(self.calls) >= self.fatal

    def wrap(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            self.calls.append(name)
            fatal = len(self.calls) == self.fatal
            if fatal and not self.after and name != "close":  # Linux closes the descriptor, whatever close says
                raise self.death()
            found = real(*args, **kwargs)
            if fatal:
                raise self.death()
            return found

        return call


DEATHS = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "EDQUOT": lambda: OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "Ctrl-C": KeyboardInterrupt,
}


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("death", DEATHS)
def test_a_failure_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch, death, after, replace):
    """Whichever call fails: the old bytes until the rename, the new ones after it, never a mixture, never litter."""
    path = tmp_path / "trunk.json"
    for fatal in range(1, 50):
        path.unlink(missing_ok=True)
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            shim = Shim(patch, DEATHS[death], fatal, after=after)
            try:
                publishing.publish(path, b"new and longer", replace=replace)
                outcome = None
            except BaseException as error:
                outcome = error
        if not shim.struck:
            break
        renamed = "rename" in shim.calls[:-1] or (after and shim.calls[-1] == "rename")
        assert path.read_bytes() == (b"new and longer" if renamed else b"old"), shim.calls
        assert list(tmp_path.iterdir()) == [path], shim.calls
        if death == "Ctrl-C":
            assert isinstance(outcome, KeyboardInterrupt)
        else:
            assert isinstance(outcome, MachineError)
            assert outcome.exit_code == 5
            assert str(path) in str(outcome)
            assert ("make room" in str(outcome)) == (death != "EIO")
    assert outcome is None
    assert shim.calls.count("fsync") == 2  # the file, then its folder
    assert fatal >= 9


def test_a_failing_fsync_is_not_tried_again(tmp_path, monkeypatch):
    """After EIO no second fsync is asked of the same file: the kernel may have dropped the pages."""
    shim = Shim(monkeypatch, DEATHS["EIO"], 4, after=False)
    with pytest.raises(MachineError, match="cannot be written"):
        publishing.publish(tmp_path / "00000-00000000.h5", b"rows")
    assert shim.calls.count("fsync") == 1
    assert list(tmp_path.iterdir()) == []


def test_short_writes_complete(tmp_path, monkeypatch):
    """A kernel that takes one byte at a time gets all of them, in order."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:1]))
    publishing.publish(tmp_path / "a", bytes(range(256)), replace=True)
    publishing.append_bytes(tmp_path / "b", b"first\n", sync=True)
    publishing.append_bytes(tmp_path / "b", b"second\n", sync=False)
    assert (tmp_path / "a").read_bytes() == bytes(range(256))
    assert (tmp_path / "b").read_bytes() == b"first\nsecond\n"


def test_a_published_shard_is_read_only_and_a_document_is_not(tmp_path):
    """What is named by its content can no longer be written to; what is replaced keeps its mode."""
    publishing.publish(tmp_path / "shard", b"rows")
    publishing.publish(tmp_path / "document", b"{}", replace=True)
    assert stat.S_IMODE((tmp_path / "shard").stat().st_mode) == 0o444
    assert (tmp_path / "document").stat().st_mode & stat.S_IWUSR


def test_a_link_at_the_name_is_replaced_and_not_followed(tmp_path):
    """Publishing over a symbolic link leaves what it points to alone; appending and cutting refuse it."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    with pytest.raises(MachineError):
        publishing.append_bytes(link, b"line\n", sync=True)
    with pytest.raises(MachineError):
        publishing.truncate_file(link, 0)
    publishing.publish(link, b"mine", replace=True)
    assert target.read_bytes() == b"precious"
    assert (link.read_bytes(), link.is_symlink()) == (b"mine", False)


def test_a_really_full_device_is_told():
    """Writing to a device without room says so, and how to go on."""
    handle = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(MachineError, match="make room"), publishing.translate_os_errors(Path("/dev/full")):
            publishing.write_all(handle, b"line\n")
    finally:
        os.close(handle)


@pytest.mark.parametrize("change", [lambda path: publishing.append_bytes(path, b"x\n", sync=True),
                                    publishing.ends_with_newline,
                                    lambda path: publishing.truncate_file(path, 0)])  # fmt: skip
@pytest.mark.parametrize("reads", [True, False])
def test_a_pipe_is_neither_appended_to_nor_waited_for(tmp_path, change, reads):
    """A pipe in the place of a log is refused at once, whether somebody reads it or nobody does."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if reads else None
    with pytest.raises(MachineError, match="it is a pipe, not a regular file"):
        change(pipe)
    if handle is not None:
        assert os.read(handle, 10) == b""
        os.close(handle)


LIMITED = """
import resource, sys
from pathlib import Path
from featcache.errors import MachineError
from featcache.files.publishing import publish
publish(Path(sys.argv[1]), b"x" * 1000, replace=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    publish(Path(sys.argv[1]), b"y" * 10_000, replace=True)
except MachineError as error:
    sys.exit(error.exit_code)
"""


def test_a_file_that_may_not_grow_keeps_its_old_bytes(tmp_path):
    """A real limit on file sizes ends in exit class 5, the old file whole and no scratch file."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "a")], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (5, b"")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"x" * 1000)]


def test_truncate_cuts_and_nothing_else(tmp_path):
    """What lies before the cut stays."""
    (tmp_path / "log").write_bytes(b"whole\nto")
    publishing.truncate_file(tmp_path / "log", 6)
    assert (tmp_path / "log").read_bytes() == b"whole\n"
    with pytest.raises(MachineError):
        publishing.truncate_file(tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()


def test_sweep_removes_scratch_files_and_only_them(tmp_path):
    """The litter of a killed run goes; shards, logs and other people's hidden files stay."""
    kept = {"00000-5d41402a.h5", "commits.jsonl", ".lock", ".partial-notes", "x.partial"}
    for name in (*kept, ".00001-aaaaaaaa.h5.0f.partial", ".trunk.json.1e.partial"):
        (tmp_path / name).write_bytes(b"")
    publishing.sweep_scratch(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    publishing.sweep_scratch(tmp_path / "no such folder")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    """A file where a folder must stand is exit class 5, with its path."""
    (tmp_path / "stores").write_bytes(b"")
    with pytest.raises(MachineError, match="stores"):
        publishing.make_folder(tmp_path / "stores" / "one" / "shards")
