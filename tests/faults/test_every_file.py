"""Every file of a complete cache, and every file that a user names, replaced by what is no such file; every command.

Refused, or passed over with the answer that it would have given: never a hang, a crash, or a filled memory. The
commands run in this process, under an alarm; of a file that may not be read, root is somebody else for that command.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture(scope="module")
def place(nano) -> Iterator[Place]:
    """Where somebody without rights may read: not below pytest's own folder, which is root's alone."""
    with tempfile.TemporaryDirectory() as here:
        weights = shutil.copy(nano.weights, Path(here, "nano.pth"))
        os.utime(weights, ns=(10**18, 10**18))
        Path(here).chmod(0o755)
        yield Place(Path(here), Path(weights))


@pytest.fixture
def around(place, monkeypatch) -> Iterator[Path]:
    """An empty folder that a command is run in."""
    with tempfile.TemporaryDirectory(dir=place.here) as here:
        Path(here).chmod(0o777)
        monkeypatch.chdir(here)
        yield Path(here)
        os.chdir(place.here)


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


def answer(command: str, out: str) -> Any:
    """What must be the same: without the seconds, and what another file in the cache changes."""
    if not out.startswith(("{", "[")):
        return None
    found = json.loads(out)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key not in FREE}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return plain(found)


def is_right(command: str, out: str, err: str, truth: Any) -> bool:
    """Whether it is the whole cache's answer; `compare` and `best` may pass over a head that a note names."""
    found = answer(command, out)
    if found == truth:
        return True
    notes = " ".join([err, *json.loads(out)["notes"]])
    if command == "compare":
        rest = [head for head in truth["heads"] if f"{head['name']} is left out" not in notes]
        return 0 < len(rest) < len(truth["heads"]) and {**truth, "heads": rest} == found
    if command != "report best" or " is left out" not in notes:
        return False
    if found["head"] == truth["head"]:  # of fewer heads, as it says
        return {**found, "chosen": truth["chosen"]} == truth
    return f"{truth['head']} is left out" in notes


FREE = {"seconds", "images_per_second", "embedded", "reused", "notes", "bytes", "account", "stages", "moved_from"}
JUDGED = ("report", "report best", "report ridge", "report knn", "report sklearn.svm:SVC", "report svc", "predict",
          "predict folder", "compare")  # fmt: skip


def copied(place: Place) -> Path:
    cache = Path("c").absolute()
    shutil.copytree(place.cache, cache)
    for path in [cache, *cache.rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    return cache


@pytest.mark.fault(33)
@pytest.mark.timeout(7200)
def test_every_file_of_a_cache(place, around, saw, portion):
    """Each file x each kind, five commands each: an error with exit 3 to 5, or exit 0 and the whole cache's answer."""
    commands, truth = place.commands(), {}
    for name, words in commands.items():
        copied(place)
        code, out, err = typed(words)
        assert code == 0, (name, err)
        truth[name] = answer(name, out)
        shutil.rmtree("c")
    dice = random.Random(33)  # every command for each would take an hour
    cases = [(file, kind, name) for file in place.files for kind in KINDS for name in dice.sample(list(commands), 5)]
    dice.shuffle(cases)
    for file, kind, name in cases[: portion(len(cases), 60)]:
        cache = copied(place)
        if kind is not empty or (cache / file).stat().st_size:
            kind(cache / file)
        code, out, err = typed(commands[name], nobody=kind is unreadable)
        about = f"{file} is {kind.__name__}, {name}: exit {code}: {err[-500:]}"
        assert code in (0, 3, 4, 5), about
        assert code == 0 or err.startswith("error: ") or name.startswith("verify"), about
        if code == 0 and name in JUDGED:
            assert is_right(name, out, err, truth[name]), about
        saw(f"{kind.__name__.replace('_', ' ')} in the place of a file of the cache", f"exit {code}")
        (cache / file).chmod(0o644) if kind is unreadable else None
        shutil.rmtree(cache)


@pytest.mark.fault(33)
def test_each_file_once(place, around, saw, portion):
    """`verify` names every file of a store that is a pipe, or the file is a memory, a lock, or nobody's."""
    for file in place.files:
        cache = copied(place)
        a_pipe(cache / file)
        code, out, err = typed(["verify", "--cache", "c", "--json"])
        harmless = file.name in ("stat.log", "weights.json", ".lock", "writer.json") or file.name.endswith(".lock")
        assert code == (0 if harmless or "damaged" in file.parts else 3), (file, out, err)
        saw("a pipe in the place of each file, verify", "named" if code else "a note, or not needed")
        shutil.rmtree(cache)


OUTSIDE: dict[str, Callable[[Place, Path], tuple[Path, list[str]]]] = {}


def outside(function: Callable[[Place, Path], tuple[Path, list[str]]]) -> Callable[..., Any]:
    """A file of a user's own: where it stands, and the command that reads it."""
    OUTSIDE[function.__name__] = function
    return function


def _own_images(place: Place) -> Path:
    shutil.copytree(place.images, "digits")
    return Path("digits").absolute()


def _extract(place: Place, images: Path, cache: str) -> list[str]:
    trunk = ["--arch", ARCH, "--weights", str(place.weights), "--precision", "fp32", "--max-bad", "0.5"]
    return ["extract", "--data", str(images), "--cache", cache, *trunk, "--device", "cpu", "--workers", "1"]


@outside
def image_of_an_extract(place: Place, here: Path) -> tuple[Path, list[str]]:
    images = _own_images(place)
    return images / "train" / "0" / "0000.png", _extract(place, images, "new")


@outside
def image_of_a_moved_data_set(place: Place, here: Path) -> tuple[Path, list[str]]:
    copied(place)
    images = _own_images(place)
    return images / "train" / "0" / "0000.png", _extract(place, images, "c")


@outside
def image_to_predict(place: Place, here: Path) -> tuple[Path, list[str]]:
    copied(place)
    images = _own_images(place)
    files = [str(images / "test" / "0" / f"{number:04d}.png") for number in (11, 12)]
    words = ["predict", place.head, *files, "--data", str(place.images), "--cache", "c", "--png", "sheet.png"]
    return Path(files[1]), [*words, "--workers", "1", "--device", "cpu"]


@outside
def video_to_predict(place: Place, here: Path) -> tuple[Path, list[str]]:
    pytest.importorskip("av")
    copied(place)
    Path("v.mp4").write_bytes(b"no video")
    words = ["predict", place.head, "v.mp4", "--data", str(place.images), "--cache", "c", "--png", "strip.png"]
    return Path("v.mp4").absolute(), words


@outside
def recipe(place: Place, here: Path) -> tuple[Path, list[str]]:
    Path("r.toml").write_text('name = "r"\n[data]\nroot = "x"\n')
    return Path("r.toml").absolute(), ["info", "-p", "r.toml"]


@outside
def recipe_of_the_folder(place: Place, here: Path) -> tuple[Path, list[str]]:
    Path("featcache.toml").write_text('name = "r"\n[data]\nroot = "x"\n')
    return Path("featcache.toml").absolute(), ["info"]


@outside
def table(place: Place, here: Path) -> tuple[Path, list[str]]:
    Path("t.csv").write_text("path,label\na.png,a\n")
    Path("r.toml").write_text(
        'name = "t"\n[data]\nlayout = "table"\nroot = "."\ntable = "t.csv"\n'
        '[data.columns]\npath = "path"\nlabel = "label"\n'
    )
    return Path("t.csv").absolute(), ["data", "-p", "r.toml"]


@outside
def weights(place: Place, here: Path) -> tuple[Path, list[str]]:
    own = Path(shutil.copy(place.weights, "own.pth")).absolute()
    words = ["extract", "--data", str(place.images), "--cache", "new", "--arch", ARCH, "--weights", str(own)]
    return own, [*words, "--precision", "fp32", "--device", "cpu", "--workers", "1"]


@outside
def weights_safetensors(place: Place, here: Path) -> tuple[Path, list[str]]:
    own = Path("own.safetensors").absolute()
    own.write_bytes(b"x")
    words = ["extract", "--data", str(place.images), "--cache", "new", "--arch", ARCH, "--weights", str(own)]
    return own, [*words, "--precision", "fp32", "--device", "cpu", "--workers", "1"]


@outside
def head_named_by_its_folder(place: Place, here: Path) -> tuple[Path, list[str]]:
    folder = Path("a/b/c/d/e/f/head")
    folder.mkdir(parents=True)
    (folder / "head.json").write_bytes(b"x")
    picture = str(place.images / "test" / "0" / "0010.png")
    return (folder / "head.json").absolute(), ["predict", str(folder), picture, "--cache", "c"]


def a_target(suffix: str, *flags: str) -> None:
    def target(place: Place, here: Path) -> tuple[Path, list[str]]:
        copied(place)
        path = Path(f"out{suffix}").absolute()
        path.write_bytes(b"old")
        head = [place.head] if flags[0] in ("report", "export-model", "predict") else []
        picture = [str(place.images / "test" / "0" / "0010.png"), "--workers", "1"] if flags[0] == "predict" else []
        words = [flags[0], *head, *picture, *flags[1:], str(path), "--data", str(place.images), "--cache", "c"]
        return path, words

    target.__name__ = f"target of {' '.join(flags)} {suffix}"
    outside(target)


for suffix, *flags in (
    (".html", "report", "--html"), (".png", "report", "--png"), (".csv", "report", "--csv"),
    (".csv", "predict", "--csv"), (".png", "predict", "--png"), (".csv", "compare", "--csv"),
    (".npz", "export", "val", "--to"), (".h5", "export", "--split", "val", "--to"),
    (".pt", "export-model", "--to"), (".csv", "data", "--csv"),
):  # fmt: skip
    a_target(suffix, *flags)


@pytest.mark.fault(34)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", sorted(OUTSIDE))
def test_every_file_of_a_user(place, around, saw, portion, what):
    """A user's own file, or the file that a command is to write: an error, a row with its reason, or exit 0; and a pipe
    or a device is still there afterwards.
    """
    kinds = list(KINDS)
    random.Random(what).shuffle(kinds)
    for kind in {a_pipe, *kinds[: portion(len(kinds), 2)]}:
        path, words = OUTSIDE[what](place, around)
        kind(path)
        before = path.lstat()
        code, _, err = typed(words, nobody=kind is unreadable and "target" not in what)
        about = f"{what} is {kind.__name__}: exit {code}: {err[-500:]}"
        assert code in (0, 2, 3, 4, 5), about
        if "target" in what and kind in (a_pipe, a_socket, a_link_to_zeros):
            assert code == 2, about
            assert path.lstat() == before
        saw(f"{kind.__name__.replace('_', ' ')}: {what.replace('_', ' ')}", f"exit {code}")
        for one in around.iterdir():
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
