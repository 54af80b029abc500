"""Power loss, modelled: after call N of an extract the machine stops, and what was not fsynced may be gone.

The model is the strict one of POSIX, harsher than ext4: the bytes of a file are on disk once it was fsynced; a name (a
new file, a rename, a removal, a new folder) once the folder that it stands in was. What was not synced is on disk or
not, each change of a folder for itself; unsynced bytes are there in part, or as zeros.
"""

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featcache.store import commits
from tests.faults.attempts import shimmed
from tests.faults.shim import Real
from tests.faults.world import World


@dataclass
class Inode:
    """A file: what a process reads, and what the disk has for certain."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass
class Folder:
    """A folder: its entries, those that are durable, and the changes since then."""

    now: dict[str, Any] = field(default_factory=dict)
    durable: dict[str, Any] = field(default_factory=dict)
    pending: list[tuple[str, Any]] = field(default_factory=list)  # name, what it then stood for (None: nothing)

    def set(self, name: str, what: Any) -> None:
        if what is None:
            self.now.pop(name, None)
        else:
            self.now[name] = what
        self.pending.append((name, what))

    def sync(self) -> None:
        self.durable, self.pending = dict(self.now), []


class Journal:
    """A fault for the shim that fails nothing and keeps the books."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], Any]] = []  # name, arguments, what it returned

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        kept = tuple(bytes(arg) if isinstance(arg, memoryview) else arg for arg in args)
        found = real()
        self.calls.append((name, kept, found))
        return found


class Disk:
    """What a disk holds after these calls, and what of it for certain."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = str(root), Folder()
        self.open: dict[int, tuple[Any, str]] = {}
        self.acknowledged: bytes = b""  # the log, as far as its fsync has returned

    def folder(self, path: str) -> Folder:
        found = self.top
        for name in Path(path).relative_to(self.root).parts:
            found = found.now[name]
        return found

    def note(self, name: str, args: tuple[Any, ...], found: Any) -> None:
        if isinstance(args[0], int):
            about, path = self.open.get(args[0], (None, ""))
        else:
            path = str(args[0])
            if name in ("mkdir", "rename", "unlink") or (name == "open" and not args[1] & os.O_DIRECTORY):
                above, last = self.folder(os.path.dirname(path)), os.path.basename(path)
        match name:
            case "open" if args[1] & os.O_DIRECTORY:
                self.open[found] = self.folder(path), path
            case "open":
                if last not in above.now:
                    above.set(last, Inode())
                self.open[found] = above.now[last], path
            case "mkdir":
                above.set(last, Folder())
            case "write":
                about.now += bytes(args[1][:found])
            case "ftruncate":
                del about.now[args[1] :]
            case "fsync" if isinstance(about, Folder):
                about.sync()
            case "fsync":
                about.durable = bytes(about.now)
                if path.endswith(commits.LOG_NAME):
                    self.acknowledged = about.durable
            case "close":
                self.open.pop(args[0], None)
            case "rename":
                moved = above.now[last]
                above.set(last, None)
                self.folder(os.path.dirname(str(args[1]))).set(os.path.basename(str(args[1])), moved)
            case "unlink" if last in above.now:
                above.set(last, None)

    def write_to(self, place: Path, dice: random.Random | None) -> None:
        """What is found after the power came back; without `dice` nothing unsynced survived."""
        self._write(self.top, place, dice)

    def _write(self, folder: Folder, place: Path, dice: random.Random | None) -> None:
        place.mkdir(exist_ok=True)
        entries = dict(folder.durable)
        if dice is not None:
            entries.update((name, what) for name, what in folder.pending if dice.random() < 0.5)
        for name, what in entries.items():
            if isinstance(what, Folder):
                self._write(what, place / name, dice)
            elif what is not None:
                (place / name).write_bytes(self._bytes(what, dice))

    def _bytes(self, file: Inode, dice: random.Random | None) -> bytes:
        if dice is None or bytes(file.now) == file.durable:
            return file.durable
        if len(file.now) < len(file.durable):  # cut, and that may not have reached the disk
            return dice.choice([bytes(file.now), file.durable])
        unsynced = file.now[len(file.durable) :]
        kept = dice.randrange(len(unsynced) + 1)
        return file.durable + dice.choice(
            [bytes(unsynced[:kept]), bytes(unsynced[:kept]) + bytes(len(unsynced) - kept)]
        )


@pytest.mark.fault(5)
def test_power_that_goes_at_any_call(small, tmp_path, saw, portion):
    """Whenever power goes: the log is a beginning of what the run wrote, no line whose fsync had returned is gone,
    every row in it is right, verify is clean, and the next run ends as the undisturbed one.
    """
    truth, work, journal = small.committed(), tmp_path / "work", Journal()
    work.mkdir()
    with shimmed(journal):
        small.at(work / "cache").extract()
    whole = next((work / "cache").rglob(commits.LOG_NAME)).read_bytes()
    shutil.rmtree(work)
    assert len(journal.calls) > 60
    for cut in range(0, len(journal.calls) + 1, portion(1, 12)):
        disk = Disk(work)
        for call in journal.calls[:cut]:
            disk.note(*call)
        for luck in [None, *(random.Random(f"{cut} {turn}") for turn in range(portion(2, 1)))]:
            work.mkdir()
            disk.write_to(work, luck)
            check(small, small.at(work / "cache"), whole, disk.acknowledged, truth)
            kept = "parts were kept" if luck else "nothing was kept"
            saw(
                f"power lost after call N; of what was not synced {kept}",
                "all that was acknowledged is there and right",
            )
            shutil.rmtree(work)


def check(small: World, world: World, whole: bytes, acknowledged: bytes, truth: dict[bytes, bytes]) -> None:
    logs = list(world.cache.rglob(commits.LOG_NAME)) if world.cache.exists() else []
    log = logs[0].read_bytes() if logs else b""
    assert log.startswith(acknowledged), "a line that was acknowledged is gone"
    lines = log.rstrip(b"\0")
    assert whole.startswith(lines)
    if world.cache.is_dir():
        rows = world.committed()
        assert rows.items() <= truth.items()
        assert len(rows) >= acknowledged.count(b'{"add"') * 2 - 1
        assert world.verify() == []
    world.complete()
