"""read_images: many files in, their images out in order, in bounded memory."""

import contextlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.loader import read_images, reader
from featcache.loader.process import request
from featcache.media import ImageTransform, decode_image, encode_png
from tests.loader.reading import children, everything, linux, read_all, sha256, written

TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


REPOSITORY = Path(__file__).parents[2]


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
        np.testing.assert_array_equal(image.pixels, decode_image(Path(path).read_bytes(), TRANSFORM), strict=True)
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
            np.testing.assert_array_equal(image.pixels, decode_image(Path(path).read_bytes(), TRANSFORM))
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
            np.testing.assert_array_equal(image.pixels, decode_image(Path(path).read_bytes(), TRANSFORM))


@linux
def test_an_error_of_the_one_who_asks_is_raised_to_him(tmp_path):
    """What `wanted` raises ends the reading as that error, and the processes with it."""

    def broken(_digest: bytes) -> bool:
        raise RuntimeError("the store is gone")

    before = children()
    with pytest.raises(RuntimeError, match="the store is gone"):
        read_all(written(tmp_path, 20), broken)
    assert children() == before


@pytest.mark.parametrize(("workers", "ahead", "most"), [(1, 40, 8), (4, 4, 2), (4, 1, 1)])
def test_a_worker_is_asked_for_several_files_and_leaves_the_others_theirs(tmp_path, monkeypatch, workers, ahead, most):
    """Small files go to a worker several at a time, up to eight, and never more than its share of the free memory."""
    counts: list[int] = []

    def counted(process, message):
        counts.append(len(message))
        return request(process, message)

    monkeypatch.setattr(reader, "request", counted)
    assert len(read_all(written(tmp_path, 200), workers=workers, ahead=ahead)) == 200
    assert max(counts) == most
    assert sum(counts) == 200


@linux
def test_files_that_are_large_together_are_read_all_the_same(tmp_path, monkeypatch):
    """A worker that may hold no more than the first of its files is asked for the rest: each comes, in order."""
    (tmp_path / "sitecustomize.py").write_text("import featcache.loader.worker as w; w._MAX_HELD = 1")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    paths = written(tmp_path / "images", 30)
    Path(paths[4]).write_bytes(b"no image")
    Path(paths[7]).unlink()
    found = read_all(paths, workers=1, ahead=40)
    assert [image.index for image in found] == list(range(30))
    assert [image.index for image in found if image.failed] == [4, 7]
