"""A loader worker: what `read` gives for any file, and what a worker process does not do."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featcache.loader import worker
from featcache.media import BadImageError, ImageTransform, decode_image, encode_png

REPOSITORY = Path(__file__).parents[2]
TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def failed(path: object) -> str:
    data, outcome = worker.read_and_hash(str(path))
    assert data is None
    assert set(outcome) == {"failed"}
    return outcome["failed"]


def test_a_worker_stays_small():
    """A worker imports neither torch nor what only other rooms need."""
    code = """
import json, sys
import featcache.loader.worker
heavy = {"torch", "torchvision", "h5py", "sklearn", "scipy", "pydantic", "typer", "rich", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_bytes_that_are_hashed_are_the_bytes_that_are_read(tmp_path):
    """`read` gives the whole file, its sha256, its stat, and a time before the reading."""
    path = tmp_path / "x.jpg"
    path.write_bytes(os.urandom(100_000))
    before = time.time_ns()
    data, outcome = worker.read_and_hash(str(path))
    status = path.stat()
    assert data == path.read_bytes()
    assert outcome["digest"] == hashlib.sha256(data).hexdigest()
    assert list(outcome["stat"]) == [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    assert before <= outcome["read_at"] <= time.time_ns()


def test_an_empty_file_has_a_digest_too(tmp_path):
    """0 bytes are read like any other content."""
    (tmp_path / "x.jpg").touch()
    data, outcome = worker.read_and_hash(str(tmp_path / "x.jpg"))
    assert (data, outcome["digest"]) == (b"", hashlib.sha256().hexdigest())


@pytest.mark.timeout(10)
def test_a_fifo_does_not_block(tmp_path):
    """A FIFO that nobody writes to, a device and a socket are refused at once."""
    os.mkfifo(tmp_path / "pipe.jpg")
    assert failed(tmp_path / "pipe.jpg") == "cannot be read: it is a pipe, not a regular file"
    assert failed("/dev/zero") == "cannot be read: it is a device, not a regular file"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.jpg"))
        assert failed(tmp_path / "s.jpg").startswith("cannot be read: ")


def test_what_cannot_be_read_gives_its_reason(tmp_path):
    """A missing file, dangling link, link to itself, folder and impossible name fail with the system's reason."""
    os.symlink("nowhere", tmp_path / "dangling.jpg")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    assert failed(tmp_path / "missing.jpg") == "cannot be read: No such file or directory"
    assert failed(tmp_path / "dangling.jpg") == "cannot be read: No such file or directory"
    assert "symbolic links" in failed(tmp_path / "loop.jpg")
    assert failed(tmp_path) == "cannot be read: it is a folder, not a regular file"
    assert failed(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    assert failed("a\0b") == "cannot be read: no file can have this name"


def test_failures_leave_no_file_open(tmp_path):
    """A worker that meets many folders, FIFOs and missing files runs out of no descriptors."""
    os.mkfifo(tmp_path / "pipe.jpg")
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        for path in (tmp_path, tmp_path / "pipe.jpg", tmp_path / "missing.jpg"):
            failed(path)
    assert len(os.listdir("/dev/fd")) == before


def test_a_file_too_large_is_refused_unread(tmp_path):
    """A file of over a gibibyte is refused by its size, in no time and no memory."""
    path = tmp_path / "x.jpg"
    path.touch()
    os.truncate(path, (1 << 30) + 1)
    begun = time.monotonic()
    assert failed(path) == "1,073,741,825 bytes: larger than any supported image"
    assert time.monotonic() - begun < 1


def test_a_file_that_keeps_growing_is_given_up(tmp_path, monkeypatch):
    """A file that grows during every reading is no image yet: it fails, by name, after three tries."""
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x" * 100)
    real, asked = os.fstat, []

    def grows_when_asked(descriptor: int) -> os.stat_result:
        asked.append(found := real(descriptor))
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return found

    monkeypatch.setattr(os, "fstat", grows_when_asked)
    assert failed(path) == "it changed while it was read, 3 times"
    assert len(asked) == 3 * 3  # one by who opens it, two by who reads it


def test_a_file_that_gives_more_than_its_size_is_not_trusted():
    """A file whose bytes do not match its size, as those in /proc, is refused, and not read without end."""
    assert failed("/proc/self/status") == "it changed while it was read, 3 times"


def test_a_worker_whose_parent_is_gone_ends_without_a_word(tmp_path):
    """A parent that dies while a worker reads or decodes for it hears no traceback after its death."""
    (tmp_path / "x.png").write_bytes(encode_png(np.zeros((9, 9), np.uint8)))
    with (tmp_path / "slots").open("wb+") as slots:
        slots.truncate(3 * 32 * 32)
        code = "import sys; from featcache.loader.worker import main; main(sys.argv[1], int(sys.argv[2]))"
        command = [sys.executable, "-c", code, worker.transform_to_json(TRANSFORM), str(slots.fileno())]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=(slots.fileno(),), cwd=REPOSITORY
        ) as process:
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
            request = json.dumps([[str(tmp_path / "x.png"), 0]]).encode()
            _, said = process.communicate(request + b"\n")
    assert (said, process.returncode) == (b"", 0)


def test_settings_survive_the_way_to_the_worker():
    """What `main` reads from its argument is the transform that was given."""
    found = json.loads(worker.transform_to_json(TRANSFORM))
    assert ImageTransform(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])}) == TRANSFORM


LARGE = (1 << 26) + 5  # bytes
NO_IMAGES = {
    "zeros": b"", "html": b"<!doctype html>", "pdf": b"%PDF-1.7", "ico": b"\0\0\1\0", "p": b"P9 1 1",
    "half": b"\xff\xd8\0", "riff": b"RIFF1234AVI ",
}  # fmt: skip
IMAGES = {
    "jpeg": b"\xff\xd8\xff\xe0", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "bmp": b"BM", "tiff": b"II*\0",
    "bigtiff": b"MM\0+", "webp": b"RIFF1234WEBPVP8 ", "ppm": b"P6 1 1 255 ",
}  # fmt: skip


def large(path: Path, beginning: bytes) -> Path:
    """A sparse file with a hole behind its first bytes."""
    path.write_bytes(beginning)
    os.truncate(path, LARGE)
    return path


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_a_large_file_that_is_no_image_is_not_held(tmp_path, kind):
    """Its first bytes make `decode` say what the whole file does, and its digest is that of the whole."""
    path = large(tmp_path / "x.jpg", NO_IMAGES[kind])
    data, outcome = worker.read_and_hash(str(path))
    whole = path.read_bytes()
    assert data is not None
    assert len(data) < 5000
    assert outcome["digest"] == hashlib.sha256(whole).hexdigest()
    assert outcome["stat"][0] == LARGE
    reasons = set()
    for content in (data, whole):
        with pytest.raises(BadImageError, match="no image of a known kind") as refused:
            decode_image(content, TRANSFORM)
        reasons.add(str(refused.value))
    assert len(reasons) == 1


@pytest.mark.parametrize("kind", IMAGES)
def test_a_large_file_that_may_be_an_image_is_read_whole(tmp_path, kind):
    """Whatever stands behind the first bytes of a kind that is supported."""
    path = large(tmp_path / "x.jpg", IMAGES[kind])
    data, outcome = worker.read_and_hash(str(path))
    assert data == path.read_bytes()
    assert outcome["digest"] == hashlib.sha256(data).hexdigest()
