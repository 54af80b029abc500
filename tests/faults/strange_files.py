"""A complete cache, what may stand in the place of a file, and commands that are held to time and memory.

The commands run in this process, under an alarm; of a file that may not be read, root is somebody else for the
command.
"""

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from tests.conftest import ARCH, write_images

SECONDS = 60
MEMORY = 400 << 20  # bytes that a command may take beside what it took before
NOBODY = 65534


class HungError(BaseException):
    """The alarm; no handler of exceptions catches it."""


class Place:
    """A data set, a complete cache of it, and what the commands say of it while it is whole."""

    def __init__(self, here: Path, weights: Path) -> None:
        self.here, self.weights, self.images, self.cache = here, weights, here / "digits", here / "cache"
        write_images(self.images, {split: {"0": 5, "1": 4, "2": 4} for split in ("train", "val", "test")})
        where = {"data": str(self.images), "cache": self.cache}
        settings = featcache.Settings(device="cpu", workers=1, batch_size=8, shard_rows=20)
        given = {"arch": ARCH, "weights": str(weights), "precision": "fp32"}
        featcache.extract(None, settings=settings, **given, **where)
        self.head = featcache.fit_head(0.1, epochs=3, check_seconds=1.0, device="cpu", **where).best.name
        self.others = [
            featcache.fit(kind, settings, predict=("test",), **where).best.name
            for kind, settings in (("ridge", {"alpha": 1.0}), ("knn", {"k": 3}), ("sklearn.svm:SVC", {}))
        ]
        store = next((self.cache / "stores").iterdir())
        (store / "damaged").mkdir()
        (store / "damaged" / "trunk.json").write_bytes(b"an old one")
        (store / "writer.json").write_bytes(b'{"pid": 1, "host": "x", "since": "y"}')

    @property
    def files(self) -> list[Path]:
        return sorted(path.relative_to(self.cache) for path in self.cache.rglob("*") if path.is_file())

    def commands(self) -> dict[str, list[str]]:
        where = ["--data", str(self.images), "--cache", "c"]
        trunk = ["--arch", ARCH, "--weights", str(self.weights), "--precision", "fp32"]
        picture = str(self.images / "test" / "0" / "0010.png")
        named = {f"report {name.partition('-')[0]}": ["report", name, *where, "--json"] for name in self.others}
        return {
            "info": ["info", *where, "--json"],
            "verify": ["verify", "--cache", "c", "--json"],
            "verify --quick": ["verify", "--quick", "--cache", "c", "--json"],
            "repair --dry-run": ["repair", "--dry-run", "--cache", "c", "--json"],
            "gc": ["gc", "--cache", "c", "--json"],
            "report": ["report", self.head, *where, "--json"],
            "report best": ["report", *where, "--json"],
            **named,
            "report --html": ["report", self.head, *where, "--html", "page.html"],
            "compare": ["compare", *where, "--json"],
            "predict": ["predict", self.head, picture, *where, "--device", "cpu", "--workers", "1", "--json"],
            "predict folder": ["predict", f"c/{self.folder_of_head}", picture, *where, "--workers", "1", "--json"],
            "export": ["export", "val", "--to", "out.npz", *where],
            "export-model": ["export-model", self.head, "--to", "model.pt", *where, "--json"],
            "data": ["data", *where, "--json"],
            "fit-head": ["fit-head", *where, "--lr", "0.2", "--epochs", "2", "--no-check", "--device", "cpu", "--json"],
            "fit": ["fit", "ridge", "alpha=2", *where, "--json"],
            "extract": ["extract", *where, *trunk, "--device", "cpu", "--workers", "1", "--json"],
        }

    @property
    def folder_of_head(self) -> Path:
        return next(path.relative_to(self.cache) for path in self.cache.rglob(self.head))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    good = path.with_name(f"{path.name}.good")
    path.rename(good)
    path.symlink_to(good.name)


def a_link_to_zeros(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)
    os.chdir(here)


def unreadable(path: Path) -> None:
    path.chmod(0)


def a_gigabyte(path: Path) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 30)


def empty(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


KINDS = (a_pipe, a_link, a_link_to_zeros, a_folder, a_socket, unreadable, a_gigabyte, empty)


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def somebody_else(*, wanted: bool) -> Iterator[None]:
    """Root may read everything: then the command is run by nobody."""
    change = wanted and os.geteuid() == 0
    if change:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if change:
            os.seteuid(0)
            os.setegid(0)


def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def typed(words: list[str], *, nobody: bool = False) -> tuple[int, str, str]:
    """A command in this process: exit code, stdout, stderr; it must end in time and in bounded memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    with in_time(), somebody_else(wanted=nobody):
        done = CliRunner().invoke(app, words)
    assert not isinstance(done.exception, HungError), "it hung"
    assert peak() - before < MEMORY, f"{peak() - before:,} bytes"
    return done.exit_code, done.stdout, done.stderr


def copied(place: Place) -> Path:
    cache = Path("c").absolute()
    shutil.copytree(place.cache, cache)
    for path in [cache, *cache.rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    return cache
