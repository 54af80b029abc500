"""Every file that a user names, replaced by what is no such file: never a hang, a crash, or a filled memory."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ARCH
from tests.faults.strange_files import KINDS, Place, a_link_to_zeros, a_pipe, a_socket, copied, typed, unreadable

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
    (".pt", "export-model", "--to"), (".csv", "data", "--csv"), (".parquet", "report", "--predictions"),
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
