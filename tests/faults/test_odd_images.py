"""Image files that are odd, enormous, out of reach, or badly named."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcache import DataError
from tests.conftest import ARCH
from tests.faults.world import World, paint, row_of

ROOT = Path(__file__).parents[2]


def pictures(root: Path) -> dict[str, str]:
    """Odd files, and the documented outcome of each: "" where it is an image, else a word of the reason."""
    grey = np.random.default_rng(1).integers(0, 256, (50, 60), dtype=np.uint8)
    colour = Image.fromarray(np.random.default_rng(2).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    whole = io.BytesIO()
    colour.save(whole, "JPEG")
    animated = [Image.fromarray(np.roll(grey, turn)).convert("P") for turn in range(3)]
    tag = Image.Exif()
    tag[274] = 6
    colour.save(root / "exif.jpg", exif=tag)
    colour.convert("CMYK").save(root / "cmyk.jpg")
    Image.fromarray(grey).save(root / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "i16.png")
    colour.quantize(16).save(root / "palette.png")
    animated[0].save(root / "animated.gif", save_all=True, append_images=animated[1:])
    Image.fromarray(grey.astype(np.int32) * 1000).save(root / "int32.tif")
    (root / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / "empty.png").write_bytes(b"")
    (root / "page.jpg").write_bytes(b"<!doctype html><title>404</title>")
    refused = {"truncated.jpg": "damaged or cut off", "empty.png": "empty", "page.jpg": "no image of a known kind",
               "int32.tif": "no defined range"}  # fmt: skip
    return {path.name: refused.get(path.name, "") for path in root.iterdir() if "00" not in path.name}


@pytest.mark.fault(25)
def test_odd_pictures_through_a_whole_extract(fresh, tmp_path, saw):
    """Each has the outcome that docs/images.md states; failures are listed with their reason; every other row has the
    embedding of its own file, alone.
    """
    expected = pictures(fresh.images / "train" / "0")
    assert len(expected) == 10
    summary = fresh.extract(max_bad=0.5)[0]
    reasons = {Path(path).name: reason for path, reason in summary.failures}
    assert reasons.keys() == {name for name, reason in expected.items() if reason}
    features = fresh.load()
    assert features.failed == len(reasons)
    for name, reason in expected.items():
        if reason:
            assert reason in reasons[name]
            assert f"train/0/{name}" not in features.paths
        else:
            alone = World(tmp_path / name / "digits", tmp_path / name / "cache", fresh.weights)
            (alone.images / "train" / "0").mkdir(parents=True)
            shutil.copy(fresh.images / "train" / "0" / name, alone.images / "train" / "0" / name)
            alone.extract()
            assert row_of(alone, f"train/0/{name}") == row_of(fresh, f"train/0/{name}")
        saw(name, f"a failure, listed: {reason}" if reason else "a row, that of this file alone")


def header(width: int, height: int) -> bytes:
    """A PNG that declares this size, and has hardly any pixel."""
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000))),
            (b"IEND", b""),
        )
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.fault(26)
@pytest.mark.parametrize("edges", [(10_000, 10_000), (20_000, 20_000), (65_500, 65_500)])
def test_a_bomb_costs_a_row_and_no_memory(fresh, zygote, tmp_path, saw, edges):
    """A real extract with a header of so many pixels in it, its data segment limited to 3 GB: the file is listed as a
    failure, all others are embedded, and no process grew beyond 1 GB.
    """
    (fresh.images / "train" / "0" / "bomb.png").write_bytes(header(*edges))
    words = [sys.executable, "-c", BOMB, *map(str, (fresh.images, fresh.cache, fresh.weights))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    embedded, failed, largest, *reason = done.stdout.split()
    assert (embedded, failed) == ("6", "1")
    assert "megapixels" in reason
    assert int(largest) < 1_000_000  # kB
    saw(f"a header of {edges[0]:,} x {edges[1]:,}", "a failure, listed; no process above 1 GB")


BOMB = """
import resource, sys
import featcache
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
settings = featcache.Settings(device="cpu", workers=1, batch_size=2, max_bad=0.5)
found = featcache.extract("train", data=sys.argv[1], cache=sys.argv[2], arch="vit_nano_16", weights=sys.argv[3],
                          precision="fp32", settings=settings)[0]
with open("/proc/self/status") as status:  # ru_maxrss would begin with what the process that forked this one held
    own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
largest = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(found.embedded, found.failed, largest, *found.failures[0][1].split())
"""


@pytest.mark.fault(27)
def test_loops_pipes_and_links_that_lead_nowhere(fresh, saw):
    """A link to a folder above, one to itself, a dangling one, a pipe: the run ends, each
    is a failure or named as ignored, and every real image has its row.
    """
    folder = fresh.images / "train" / "0"
    (folder / "above").symlink_to(fresh.images)
    with pytest.raises(DataError, match="train/0/above: this link leads back to a folder above it"):
        fresh.extract()
    saw("a link to a folder above", "exit 4, named")
    (folder / "above").unlink()
    (folder / "itself").symlink_to("itself")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "nowhere.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    begun = time.monotonic()
    summary = fresh.extract(max_bad=0.9)[0]
    assert time.monotonic() - begun < 20
    assert (summary.embedded, summary.failed) == (6, 3)
    failed = {Path(path).name: reason for path, reason in summary.failures}
    assert failed.keys() == {"itself.png", "nowhere.png", "pipe.png"}
    assert {Path(path).name for path in summary.ignored} == {"itself"}
    for name, reason in failed.items():
        saw(name, f"a failure, listed: {reason.split(':')[-1].strip()}")
    saw("a link to itself whose name is no image's", "ignored, and named")
    assert len(fresh.load().y) == 6


@pytest.mark.fault(27)
def test_a_folder_that_may_not_be_read(fresh, zygote, tmp_path, saw):
    """For a user who may not look into it: exit 4 with its name, not a data set that lacks a class without a word."""
    public = Path(f"/tmp/featcache-unreadable-{os.getpid()}")
    try:
        shutil.copytree(fresh.images, public / "digits")
        shutil.copy(fresh.weights, public / "nano.pth")
        (public / "said").touch()
        for path in (public, *public.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (public / "digits" / "train" / "1").chmod(0o000)
        world = World(public / "digits", public / "cache", public / "nano.pth")
        code = zygote.run(world, said=str(public / "said"), user=65534 if os.geteuid() == 0 else None)
        said = (public / "said").read_text()
        assert code == 4, said
        assert "train/1: this folder cannot be read" in said
        saw("a folder that may not be read", "exit 4, named")
    finally:
        (public / "digits" / "train" / "1").chmod(0o755)
        shutil.rmtree(public)


NAMES = {
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "a newline": "two\nlines.png",
    "a formula": "=cmd|' |calc'!A0.png",
    "markup": "<script>alert(1)<⁄script>.png",
    "bidi controls": "gpj.\u202egnp.png",
    "escape sequences": "\x1b[31mred\x1b[0m.png",
    "NFC": unicodedata.normalize("NFC", "é.png"),
    "NFD": unicodedata.normalize("NFD", "é.png"),
    "a carriage return": "over\rwritten.png",
    "a backslash": "a\\b.png",
    "spaces at its ends": " x .png",
    "240 bytes": "n" * 236 + ".png",
}


@pytest.mark.fault(28)
def test_names_are_lossless_on_disk_and_inert_on_the_terminal(fresh, saw):
    """Each has its own row under its own name, to the byte; and where such a file cannot be read, what the command line
    says of it holds no control character.
    """
    folder = fresh.images / "train" / "0"
    for number, name in enumerate(NAMES.values()):
        paint(folder / name, number, "PNG")
    assert fresh.extract()[0].embedded == 6 + len(NAMES)
    rows = {name: row_of(fresh, f"train/0/{name}") for name in NAMES.values()}
    assert len(set(rows.values())) == len(NAMES)
    assert fresh.extract()[0].embedded == 0
    for name in NAMES.values():
        (folder / name).write_bytes(b"no image")
    words = ["extract", "--data", fresh.images, "--cache", fresh.cache, "--arch", ARCH, "--weights", fresh.weights]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for more in (["--max-bad", "0.9"], []):
        done = subprocess.run(
            [sys.executable, "-m", "featcache", *map(str, words), "--precision", "fp32", *more],
            capture_output=True, env=environment, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode()  # strictly: UTF-8 and nothing else
        assert done.returncode == (0 if more else 4), said
        assert "Traceback" not in said
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said), ascii(said)
        assert said.count("\nlines.png") == 0
    for what in NAMES:
        saw(f"a file name with {what}", "its own row, to the byte; inert on the terminal")
