"""read_images: many files in, their images out in order, whatever happens to the processes that do the work."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.errors import MachineError
from featcache.loader import ImageRead, read_images, reader
from featcache.loader.process import ask
from featcache.media.images import ImageTransform, decode, encode_png

TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
REPOSITORY = Path(__file__).parents[2]

linux = pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")


def everything(_digest: bytes) -> bool:
    return True


def written(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """`count` different pictures."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04d}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, start=first):
        path.write_bytes(encode_png(np.random.default_rng(number).integers(0, 256, (33, 45), dtype=np.uint8)))
    return [str(path) for path in paths]


def read_all(paths, wanted=everything, *, workers=2, ahead=4) -> list[ImageRead]:
    """Everything that was read, the pixels copied out of the memory that is used again."""
    with contextlib.closing(read_images(paths, TRANSFORM, wanted, workers=workers, ahead=ahead)) as images:
        return [replace(found, pixels=None if found.pixels is None else found.pixels.copy()) for found in images]


def sha256(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def children(parent: int | None = None) -> set[int]:
    """Living child processes, zombies not counted."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, above = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == (parent or os.getpid()) and state != "Z":
                found.add(int(entry.name))
    return found


@linux
@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 1), (3, 8)])
def test_images_come_in_order_with_their_digests(tmp_path, workers, ahead):
    """Each file's image, digest and stat come at its place, the pixels those of decode, and no process stays."""
    paths = written(tmp_path, 23)
    before, threads = children(), threading.active_count()
    found = read_all(paths, workers=workers, ahead=ahead)
    assert [image.index for image in found] == list(range(23))
    for image, path in zip(found, paths, strict=True):
        status = os.stat(path)
        assert image.digest == sha256(path)
        assert image.stat == (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        assert image.failed == ""
        np.testing.assert_array_equal(image.pixels, decode(Path(path).read_bytes(), TRANSFORM), strict=True)
    assert children() == before
    assert threading.active_count() == threads


def test_no_files_start_no_process(tmp_path):
    """An empty list is done at once."""
    assert read_all([]) == []


def test_what_is_not_wanted_is_hashed_and_not_decoded(tmp_path):
    """`wanted` is asked once a file, with its digest; where it says no there are no pixels and no failure."""
    paths = written(tmp_path, 9)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths.append(str(tmp_path / "bad.png"))
    asked = []

    def even(digest: bytes) -> bool:
        asked.append(digest)
        return digest in {sha256(path) for path in paths[:9:2]}

    found = read_all(paths, even)
    assert sorted(asked) == sorted(map(sha256, paths))
    assert [image.pixels is not None for image in found] == [True, False] * 4 + [True, False]
    assert [image.failed for image in found] == [""] * 10
    assert [image.digest for image in found] == list(map(sha256, paths))


def test_the_same_content_twice_has_one_digest(tmp_path):
    """Copies and links share a digest, so that who asks can want them once."""
    (path,) = written(tmp_path, 1)
    (tmp_path / "copy.png").write_bytes(Path(path).read_bytes())
    os.symlink(path, tmp_path / "link.png")
    seen: set[bytes] = set()

    def first(digest: bytes) -> bool:
        return digest not in seen and not seen.add(digest)

    found = read_all([path, str(tmp_path / "copy.png"), str(tmp_path / "link.png"), path], first)
    assert {image.digest for image in found} == {sha256(path)}
    assert sum(image.pixels is not None for image in found) == 1


def test_a_bad_file_is_a_row_with_a_reason_and_its_neighbours_are_whole(tmp_path):
    """Whatever cannot be read or decoded fails at its own place; nothing moves into it."""
    good = written(tmp_path, 3)
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("nowhere", tmp_path / "dangling.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "cut.png").write_bytes(Path(good[0]).read_bytes()[:300])
    bad = [str(tmp_path / f"{name}.png") for name in ("pipe", "dangling", "empty", "page", "cut")]
    paths = [bad[0], good[0], bad[1], bad[2], good[1], bad[3], bad[4], good[2]]
    found = read_all(paths)
    reasons = ["not a regular", "", "cannot be read", "empty", "", "no image of a known kind", "damaged or cut off", ""]
    for image, path, reason in zip(found, paths, reasons, strict=True):
        assert image.failed.startswith(reason) or reason in image.failed
        assert bool(image.failed) == bool(reason)
        if path in good:
            np.testing.assert_array_equal(image.pixels, decode(Path(path).read_bytes(), TRANSFORM))
        else:
            assert image.pixels is None
    assert [bool(image.digest) for image in found] == [False, True, False, True, True, True, True, True]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=10))
def test_any_file_name_is_read(tmp_path_factory, names):
    """A name of any bytes that a file system takes reaches its file: not UTF-8, line breaks, quotes."""
    folder = os.fsencode(tmp_path_factory.mktemp("names"))
    paths = []
    for name in [b"\xff\n\"'\\{}.png", *names]:
        name = name.translate(None, b"/\0").lstrip(b".") or b"x"
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(encode_png(np.full((9, 9), len(paths), np.uint8)))
        paths.append(os.fsdecode(path))
    for image, path in zip(read_all(paths, lambda _: False, workers=1), paths, strict=True):
        assert (image.failed, image.digest) == ("", sha256(path))


def test_memory_is_bounded_while_nobody_takes_the_images(tmp_path):
    """At most `ahead` and one a worker are read ahead of the one that was taken; then the reading goes on."""
    paths = written(tmp_path, 30)
    asked = []

    def wanted(digest: bytes) -> bool:
        asked.append(digest)
        return True

    images = read_images(paths, TRANSFORM, wanted, workers=2, ahead=3)
    with contextlib.closing(images):
        assert next(images).index == 0
        time.sleep(0.7)
        assert len(asked) == 5
        assert next(images).index == 1
        time.sleep(0.3)
        assert len(asked) == 6
        assert [image.index for image in images] == list(range(2, 30))


@linux
def test_pixels_hold_until_the_next_image_is_asked_for(tmp_path):
    """While the caller works on one image its memory is not written to, however far the workers are."""
    paths = written(tmp_path, 12)
    images = read_images(paths, TRANSFORM, everything, workers=3, ahead=1)
    with contextlib.closing(images):
        for image, path in zip(images, paths, strict=True):
            time.sleep(0.02)
            np.testing.assert_array_equal(image.pixels, decode(Path(path).read_bytes(), TRANSFORM))


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
def test_an_error_of_the_one_who_asks_is_raised_to_him(tmp_path):
    """What `wanted` raises ends the reading as that error, and the processes with it."""

    def broken(_digest: bytes) -> bool:
        raise RuntimeError("the store is gone")

    before = children()
    with pytest.raises(RuntimeError, match="the store is gone"):
        read_all(written(tmp_path, 20), broken)
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
            np.testing.assert_array_equal(image.pixels, decode(Path(path).read_bytes(), TRANSFORM))
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
            assert image.failed == "the decoder process died on it (signal 9)"
            assert (image.stat, image.pixels) == (None, None)
        else:
            assert image.failed == ""
            np.testing.assert_array_equal(image.pixels, decode(Path(paths[index]).read_bytes(), TRANSFORM))
    assert sorted(asked) == sorted(map(sha256, paths))
    assert (tmp_path / "deaths").stat().st_size in (4, 5)  # two each; one more where the second was read with others


@pytest.mark.parametrize(("workers", "ahead", "most"), [(1, 40, 8), (4, 4, 2), (4, 1, 1)])
def test_a_worker_is_asked_for_several_files_and_leaves_the_others_theirs(tmp_path, monkeypatch, workers, ahead, most):
    """Small files go to a worker several at a time, up to eight, and never more than its share of the free memory."""
    counts: list[int] = []

    def counted(process, request):
        counts.append(len(request))
        return ask(process, request)

    monkeypatch.setattr(reader, "ask", counted)
    assert len(read_all(written(tmp_path, 200), workers=workers, ahead=ahead)) == 200
    assert max(counts) == most
    assert sum(counts) == 200


@linux
def test_files_that_are_large_together_are_read_all_the_same(tmp_path, monkeypatch):
    """A worker that may hold no more than the first of its files is asked for the rest: each comes, in order."""
    (tmp_path / "sitecustomize.py").write_text("import featcache.loader.worker as w; w._HELD = 1")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    paths = written(tmp_path / "images", 30)
    Path(paths[4]).write_bytes(b"no image")
    Path(paths[7]).unlink()
    found = read_all(paths, workers=1, ahead=40)
    assert [image.index for image in found] == list(range(30))
    assert [image.index for image in found if image.failed] == [4, 7]


def test_where_no_worker_starts_the_machine_is_to_blame(tmp_path, monkeypatch, capfd):
    """A Python that cannot start is one error of the machine, not a data set full of bad images."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(MachineError, match="no loader process stays alive"):
        read_all(written(tmp_path, 5))


@linux
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    """SIGKILL of the parent, at work or waiting: its workers are gone within seconds."""
    paths = written(tmp_path, 60)
    code = """
import sys, time
from featcache.media.images import ImageTransform
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
from featcache.media.images import ImageTransform
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
from featcache.media.images import ImageTransform
from featcache.loader import read_images
transform = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
print([image.failed for image in read_images(sys.argv[2:], transform, lambda _: True, workers=1, ahead=1)])
"""
    command = [sys.executable, "-c", code, str(REPOSITORY), *written(tmp_path / "images", 2)]
    found = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    assert (found.stdout, found.stderr) == (b"['', '']\n", b"")
