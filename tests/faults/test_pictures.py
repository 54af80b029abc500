"""Images and their files: edited, touched, odd, enormous, badly named; and what keys a store."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featcache import DataError, FeatcacheError, MachineError
from tests.conftest import ARCH, write_images
from tests.faults.world import World

ROOT = Path(__file__).parents[2]
OLD = 10**18  # nanoseconds: a time long past, as an old file has it


@pytest.fixture
def fresh(nano, tmp_path) -> World:
    """Six images of two digits, not yet extracted."""
    write_images(tmp_path / "digits", {"train": {"0": 3, "1": 3}})
    return World(tmp_path / "digits", tmp_path / "cache", nano.weights)


def paint(path: Path, seed: int, kind: str = "BMP") -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


def row_of(world: World, path: str) -> bytes:
    features = world.load()
    return features.x[features.paths.index(path)].tobytes()


def anew(world: World, tmp_path: Path) -> World:
    """What a cache without any memory makes of the same images."""
    other = World(world.images, tmp_path / "anew", world.weights)
    shutil.rmtree(other.cache, ignore_errors=True)
    other.extract(max_bad=1.0)
    return other


@pytest.mark.fault(22)
@pytest.mark.parametrize("how", ["in place", "replaced by a rename", "within a tick of being read"])
def test_an_edited_image_is_embedded_anew(fresh, tmp_path, saw, portion, how):
    """Same size, same mtime, other pixels; over and over, also right after the extract has read the old ones."""
    path = paint(fresh.images / "train" / "0" / "x.bmp", 0)
    os.utime(path, ns=(OLD, OLD))
    fresh.extract()
    for turn in range(1, portion(30, 6)):
        before, size = row_of(fresh, "train/0/x.bmp"), path.stat().st_size
        new = io.BytesIO()
        pixels = np.random.default_rng(turn).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(new, "BMP")
        if how == "replaced by a rename":
            (tmp_path / "new").write_bytes(new.getvalue())
            os.utime(tmp_path / "new", ns=(OLD, OLD))
            (tmp_path / "new").rename(path)
        else:
            path.write_bytes(new.getvalue())
            if how == "in place":
                os.utime(path, ns=(OLD, OLD))
        assert path.stat().st_size == size
        assert fresh.extract()[0].embedded == 1
        assert row_of(fresh, "train/0/x.bmp") != before
        saw(f"an image edited, same size, {how}", "embedded anew")
    assert fresh.load().x.tobytes() == anew(fresh, tmp_path).load().x.tobytes()


@pytest.mark.fault(22)
def test_an_image_that_is_edited_while_it_is_read(fresh, tmp_path, saw, portion):
    """A thread rewrites an image all the time: the run ends, says so or takes one of its states whole; and when the
    writing is over, the next extract gives what a new cache gives.
    """
    path = paint(fresh.images / "train" / "0" / "x.bmp", 0)
    states = [paint(tmp_path / f"{seed}.bmp", seed).read_bytes() for seed in range(4)]
    stop, writes = threading.Event(), [0]

    def rewrite() -> None:
        while not stop.is_set():
            with path.open("r+b") as file:
                file.write(states[writes[0] % 4])
            writes[0] += 1

    for _ in range(portion(20, 3)):
        stop.clear()
        thread = threading.Thread(target=rewrite)
        thread.start()
        try:
            summary = fresh.extract(max_bad=1.0)[0]
        finally:
            stop.set()
            thread.join()
        assert summary.rows == 7
        fresh.extract()
        assert fresh.load().x.tobytes() == anew(fresh, tmp_path).load().x.tobytes()
        saw("an image rewritten while it is read", "the next run embeds its last state")
    saw("writes to that image", "none left a wrong embedding", writes[0])


@pytest.mark.fault(23)
def test_what_changes_no_pixel_embeds_nothing(fresh, tmp_path, saw):
    """touch, chmod, a hard link, a rename, another class, the folder moved: nothing is embedded anew."""
    fresh.extract()
    one, two = fresh.images / "train" / "0" / "0000.png", fresh.images / "train" / "0" / "0001.png"
    moved = World(tmp_path / "disk2" / "digits", fresh.cache, fresh.weights)
    moved.images.parent.mkdir()
    for what, change in (
        ("touch", lambda: os.utime(one)),
        ("chmod", lambda: one.chmod(0o600)),
        ("a hard link elsewhere", lambda: os.link(one, tmp_path / "link.png")),
        ("a hard link in its place", lambda: (os.link(two, tmp_path / "two"), os.replace(tmp_path / "two", two))),
        ("a hard link beside it", lambda: os.link(one, fresh.images / "train" / "0" / "again.png")),
        ("a copy under another name", lambda: shutil.copy(one, one.with_name("copy.png"))),
        ("a rename", lambda: two.rename(two.with_name("zzz.png"))),
        ("another class", lambda: one.rename(fresh.images / "train" / "1" / "moved.png")),
        ("the data set moved", lambda: fresh.images.rename(moved.images)),
    ):
        change()
        world = moved if moved.images.exists() else fresh
        assert world.extract()[0].embedded == 0, what
        saw(what, "nothing embedded")
    assert moved.verify() == []


@pytest.mark.fault(24)
def test_what_is_keyed_makes_a_store_and_what_is_not_makes_none(fresh, tmp_path, saw):
    """Weights, stored dtype, precision, orientation, each alone: a new store. Batch, workers, shards, paths: the same,
    and the same bytes.
    """
    first = fresh.extract()[0].store
    expected = fresh.load().x.tobytes()
    for how in ({"batch_size": 2, "workers": 2}, {"workers": 3}, {"shard_rows": 1}, {"shard_seconds": 0.001}):
        other = World(fresh.images, tmp_path / f"{sorted(how)}", fresh.weights)
        assert other.extract(**how)[0].store == first
        assert other.load().x.tobytes() == expected
        saw(f"not keyed: {', '.join(sorted(how))}", "the same store, the same bytes")
    copy = shutil.copy(fresh.weights, tmp_path / "renamed.pth")
    os.utime(copy, ns=(OLD, OLD))
    assert fresh.extract(weights=str(copy))[0].embedded == 0
    saw("not keyed: the path of the weights", "the same store")
    state = torch.load(fresh.weights, weights_only=True)
    state["class_token"] = state["class_token"] + 1e-3
    torch.save(state, tmp_path / "other.pth")
    stores = {first}
    for what, options in (
        ("the weights' tensors", {"weights": str(tmp_path / "other.pth")}),
        ("the stored dtype", {"stored": "float16"}),
        ("the compute dtype", {"precision": "bf16"}),
    ):
        summary = fresh.extract(**options)[0]
        assert summary.embedded == 6
        assert summary.store not in stores
        stores.add(summary.store)
        saw(f"keyed: {what}", "a new store, everything embedded")
    assert fresh.verify() == []


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


def scaled(world: World, factor: float, path: Path) -> str:
    """The same trunk with every embedding multiplied."""
    state = torch.load(world.weights, weights_only=True)
    for name in ("encoder.ln.weight", "encoder.ln.bias"):
        state[name] = state[name] * factor
    torch.save(state, path)
    return str(path)


@pytest.mark.fault(11)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_hold_no_numbers(fresh, tmp_path, saw, value):
    """One NaN or inf in their last layer: refused before any image is embedded."""
    state = torch.load(fresh.weights, weights_only=True)
    state["encoder.ln.bias"][3] = value
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(MachineError, match="hold nan or inf"):
        fresh.extract(weights=str(tmp_path / "broken.pth"))
    saw(f"{value} in the weights", "exit 5, the tensor named")


@pytest.mark.fault(11)
def test_a_trunk_that_gives_no_numbers(fresh, tmp_path, saw):
    """Every embedding overflows float32: no row is stored, the run ends with 4 and names images."""
    fresh.extract()
    smallest = float(np.abs(fresh.load().x).max(axis=1).min())
    weights = scaled(fresh, 3.5e38 / smallest, tmp_path / "large.pth")
    other = World(fresh.images, tmp_path / "other", fresh.weights)
    with pytest.raises(DataError, match=r"(?s)images.*train/0/0000.png: .*not finite"):
        other.extract(weights=weights)
    assert other.committed() == {}
    assert other.verify() == []
    saw("inf out of the trunk, for every image", "no row stored, exit 4, the images named", 6)


@pytest.mark.fault(11)
def test_one_row_too_large_for_float16_is_named(fresh, tmp_path, saw):
    """Where the trunk's values lie around 65504: those that float16 cannot hold are failures, the others are stored as
    they are; float32 holds all.
    """
    fresh.extract()
    largest = np.abs(fresh.load().x).max(axis=1)
    weights = scaled(fresh, 65504 / float(np.median(largest)), tmp_path / "large.pth")
    half = fresh.extract(weights=weights, stored="float16", max_bad=0.9)[0]
    full = fresh.extract(weights=weights)[0]
    x = fresh.load(store=full.store).x
    over = {
        path for path, row in zip(fresh.load(store=full.store).paths, np.abs(x).max(axis=1), strict=True) if row > 65504
    }
    assert {path for path, _ in half.failures} == over
    assert 0 < len(over) < 6
    kept = fresh.load(store=half.store)
    assert np.isfinite(kept.x).all()
    saw("an embedding that float16 cannot hold", "a failure, the image named; the others stored", len(over))
    with pytest.raises(FeatcacheError):
        fresh.extract(weights=weights, stored="float16", max_bad=0.0)
