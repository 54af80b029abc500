"""The worker processes of read_images: whatever happens to them, nothing is lost, and none stays."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from featcache.errors import MachineError
from featcache.loader import read_images
from featcache.media import ImageTransform, decode_image
from tests.loader.reading import children, everything, linux, read_all, sha256, written

TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


REPOSITORY = Path(__file__).parents[2]


@linux
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_closing_early_leaves_nothing_behind(tmp_path, taken):
    """A reader that stops in the middle ends every process, thread and descriptor of its own, at once."""
    paths = written(tmp_path, 200)
    before, threads, files = children(), threading.active_count(), len(os.listdir("/dev/fd"))
    images = read_images(paths, TRANSFORM, everything, workers=3, ahead=8)
    for _ in range(taken):
        next(images)
    begun = time.monotonic()
    images.close()
    assert time.monotonic() - begun < 5
    assert (children(), threading.active_count(), len(os.listdir("/dev/fd"))) == (before, threads, files)


@linux
def test_closing_does_not_wait_for_a_worker_that_hangs(tmp_path):
    """A worker that does not answer, here because it is stopped, is ended all the same."""
    before = children()
    images = read_images(written(tmp_path, 50), TRANSFORM, everything, workers=2, ahead=2)
    next(images)
    for worker in children() - before:
        os.kill(worker, signal.SIGSTOP)
    begun = time.monotonic()
    images.close()
    assert time.monotonic() - begun < 5
    assert children() == before


@linux
@pytest.mark.parametrize("moment", ["while it decodes", "between files"])
def test_a_killed_worker_costs_nothing(tmp_path, moment):
    """A worker that is killed is replaced, its file tried again, and the answer of `wanted` kept: asked once a file."""
    paths = written(tmp_path, 12)
    before, asked = children(), []

    def wanted(digest: bytes) -> bool:
        asked.append(digest)
        if moment == "while it decodes" and digest == sha256(paths[5]):
            for worker in children() - before:
                os.kill(worker, signal.SIGKILL)
        return asked.count(digest) == 1  # as an extract does: an image that is claimed is not wanted again

    with contextlib.closing(read_images(paths, TRANSFORM, wanted, workers=1, ahead=2)) as images:
        for image, path in zip(images, paths, strict=True):
            assert image.failed == ""
            assert image.digest == sha256(path)
            np.testing.assert_array_equal(image.pixels, decode_image(Path(path).read_bytes(), TRANSFORM))
            if moment == "between files" and image.index == 5:
                time.sleep(0.3)
                for worker in children() - before:
                    os.kill(worker, signal.SIGKILL)
    assert sorted(asked) == sorted(map(sha256, paths))
    assert children() == before


LETHAL = """
import io, os, signal
from PIL import Image
real = Image.open
def open(file, **kept):
    if file.getvalue().endswith(b"lethal"):
        with io.FileIO(os.environ["DEATHS"], "a") as deaths:
            deaths.write(b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(file, **kept)
Image.open = open
"""


@linux
@pytest.mark.parametrize("ahead", [1, 40])
def test_a_file_that_kills_its_workers_is_given_up(tmp_path, monkeypatch, ahead):
    """A file that two workers of its own die of fails with its digest; those it was read with lose nothing.

    Alone, or among others that are read at once: then its first worker dies of all of them.
    """
    (tmp_path / "sitecustomize.py").write_text(LETHAL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    paths = written(tmp_path / "images", 30)
    for lethal in (0, 21):
        with open(paths[lethal], "ab") as file:
            file.write(b"lethal")
    asked: list[bytes] = []

    def wanted(digest: bytes) -> bool:
        asked.append(digest)
        return asked.count(digest) == 1

    found = read_all(paths, wanted, workers=1, ahead=ahead)
    for index, image in enumerate(found):
        assert (image.index, image.digest) == (index, sha256(paths[index]))
        if index in (0, 21):
            assert image.failed == "the decoder process crashed on it (signal 9)"
            assert (image.stat, image.pixels) == (None, None)
        else:
            assert image.failed == ""
            np.testing.assert_array_equal(image.pixels, decode_image(Path(paths[index]).read_bytes(), TRANSFORM))
    assert sorted(asked) == sorted(map(sha256, paths))
    assert (tmp_path / "deaths").stat().st_size in (4, 5)  # two each; one more where the second was read with others


def test_where_no_worker_starts_the_machine_is_to_blame(tmp_path, monkeypatch, capfd):
    """A Python that cannot start is one error of the machine, not a data set full of bad images."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(MachineError, match="the loader processes keep crashing"):
        read_all(written(tmp_path, 5))


@linux
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    """SIGKILL of the parent, at work or waiting: its workers are gone within seconds."""
    paths = written(tmp_path, 60)
    code = """
import sys, time
from featcache.media import ImageTransform
from featcache.loader import read_images
transform = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
for image in read_images(sys.argv[1:], transform, lambda _: True, workers=3, ahead=50):
    print(image.index, flush=True)
    time.sleep(0.05)
"""
    command = [sys.executable, "-c", code, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        while parent.stdout.readline() != b"5\n":
            assert parent.poll() is None
        workers = children(parent.pid)
        assert len(workers) == 3
        parent.kill()
        assert parent.stderr.read() == b""  # to its end: no worker that still lives holds it open, and none complains
    until = time.monotonic() + 10
    while (left := {pid for pid in workers if alive(pid)}) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
@pytest.mark.parametrize("moment", ["while the workers start", "while they work"])
def test_ctrl_c_reaches_the_parent_alone(tmp_path, moment):
    """Ctrl-C, sent to the whole group as a terminal does, ends the parent's loop; no worker prints a word."""
    paths = written(tmp_path, 60)
    code = """
import contextlib, sys, time
from featcache.media import ImageTransform
from featcache.loader import read_images
transform = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
images = read_images(sys.argv[1:], transform, lambda _: True, workers=3, ahead=50)
try:
    with contextlib.closing(images):
        for image in images:
            print(image.index, flush=True)
            time.sleep(0.05)
except KeyboardInterrupt:
    sys.exit(130)
"""
    command = [sys.executable, "-c", code, *paths]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        while not children(parent.pid):
            assert parent.poll() is None
        while moment == "while they work" and parent.stdout.readline() != b"5\n":
            assert parent.poll() is None
        workers = children(parent.pid)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stderr.read() == b""
    assert parent.returncode == 130
    assert not any(map(alive, workers))


def test_a_worker_runs_the_package_of_its_parent(tmp_path):
    """Where another featcache is installed too, the workers run the one that their parent runs."""
    (tmp_path / "featcache").mkdir()
    (tmp_path / "featcache/__init__.py").write_text("raise SystemExit('the wrong featcache')")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from featcache.media import ImageTransform
from featcache.loader import read_images
transform = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
print([image.failed for image in read_images(sys.argv[2:], transform, lambda _: True, workers=1, ahead=1)])
"""
    command = [sys.executable, "-c", code, str(REPOSITORY), *written(tmp_path / "images", 2)]
    found = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    assert (found.stdout, found.stderr) == (b"['', '']\n", b"")
