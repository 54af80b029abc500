"""read_frames: frames of many videos in, their images out, whatever happens to the processes that do the work."""

import contextlib
import hashlib
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featcache.errors import MachineError
from featcache.loader import ImageRead, process, read_frames
from featcache.media import ImageTransform, resize_and_crop
from featcache.media.video import decode_frames, frame_digest
from tests.loader.reading import children, everything, linux
from tests.videos import pictures, write_video

TRANSFORM = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    """Three videos of 20 frames, of different pictures; old enough that nothing waits for their clock."""
    folder = tmp_path_factory.mktemp("films")
    return [write_video(folder / f"{at}.mp4", pictures(20, first=30 * at), options={"bf": "2"}) for at in range(3)]


def read_all(places, wanted=everything, *, known=None, workers=2, ahead=4) -> list[ImageRead]:
    """Everything that was read, in the order of what was asked for; the pixels copied out of the shared memory."""
    frames = read_frames(
        [(str(path), frame) for path, frame in places], TRANSFORM, wanted,
        known=known or {}, workers=workers, ahead=ahead,
    )  # fmt: skip
    with contextlib.closing(frames) as found:
        copied = [replace(one, pixels=None if one.pixels is None else one.pixels.copy()) for one in found]
    assert sorted(one.index for one in copied) == list(range(len(places)))
    return sorted(copied, key=lambda one: one.index)


def sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@linux
@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 1), (3, 8)])
def test_every_frame_comes_once_with_its_own_pixels(films, workers, ahead):
    """Frames of several videos in any order, repeated ones too: each has its digest, the first of equals its pixels."""
    places = [(path, frame) for frame in (19, 3, 4, 3, 0) for path in films]
    before, threads = children(), threading.active_count()
    found = read_all(places, workers=workers, ahead=ahead)
    for at, (one, (path, frame)) in enumerate(zip(found, places, strict=True)):
        assert (one.digest, one.video, one.failed) == (frame_digest(sha256(path), frame), sha256(path), "")
        assert one.stat == (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.stat().st_ino)
        if (path, frame) in places[:at]:
            assert one.pixels is None
        else:
            with path.open("rb") as file:
                ((_, pixels),) = decode_frames(file, [frame])
            np.testing.assert_array_equal(one.pixels, resize_and_crop(pixels, TRANSFORM), strict=True)
    assert children() == before
    assert threading.active_count() == threads


def test_what_is_not_wanted_is_not_decoded(films):
    """`wanted` is asked once a frame; where it says no to all of a video, no frame of it is looked for."""
    places = [(films[0], frame) for frame in (2, 5, 999)] + [(films[1], 7), (films[1], 7)]
    asked = []

    def some(digest: bytes) -> bool:
        asked.append(digest)
        return digest == frame_digest(sha256(films[1]), 7)

    found = read_all(places, some)
    assert len(asked) == len(set(asked)) == 4
    assert [one.failed for one in found] == [""] * 5  # not even 999, which is not there
    assert [one.pixels is not None for one in found] == [False, False, False, True, False]


def test_a_known_video_is_not_hashed_again(films):
    """The digest that is remembered is taken, if the file is still that; after a change it is hashed."""
    status = os.stat(films[0])
    claimed = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    (one,) = read_all([(films[0], 4)], known={str(films[0]): (claimed, b"x" * 32)})
    assert (one.video, one.digest) == (b"x" * 32, frame_digest(b"x" * 32, 4))
    stale = (claimed[0], claimed[1] - 1, *claimed[2:])
    (one,) = read_all([(films[0], 4)], known={str(films[0]): (stale, b"x" * 32)})
    assert one.video == sha256(films[0])


def test_what_cannot_be_had_fails_at_its_own_place(films, tmp_path):
    """No file, a FIFO, a folder, text, a video cut off, a number too high: a reason each, all others whole."""
    whole = films[0].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:1500])
    (tmp_path / "text.mp4").write_bytes(b"<html>")
    os.mkfifo(tmp_path / "pipe.mp4")
    bad = [tmp_path / "none.mp4", tmp_path / "pipe.mp4", tmp_path, tmp_path / "text.mp4", tmp_path / "cut.mp4"]
    found = read_all([*((path, 1) for path in bad), (films[1], 3), (films[0], 20), (films[0], 19)])
    for one, said in zip(found, ["cannot be read: No such", "not a regular", "", "no MP4", "no MP4"], strict=False):
        assert said in one.failed
        assert one.failed
        assert one.pixels is None
    assert [one.failed for one in found[5:]] == ["", "the video has 20 frames, the first is number 0", ""]
    assert [bool(one.digest) for one in found] == [False, False, False, True, True, True, True, True]


def test_a_video_that_is_young_is_waited_for(tmp_path):
    """A file that was written this very moment is hashed once its clock can show another change."""
    path = write_video(tmp_path / "x.mp4", pictures(5))
    path.write_bytes(path.read_bytes())
    (one,) = read_all([(path, 2)])
    assert one.read_at > max(one.stat[1], one.stat[2]) + 20_000_000


@linux
def test_a_video_that_kills_its_workers_is_given_up(films):
    """Killed once, the next worker goes on from there; killed again, the rest of the video fails, and no other."""
    places = [(films[0], frame) for frame in range(20)] + [(films[1], frame) for frame in range(20)]
    before, kills = children(), 0
    found = {}
    frames = read_frames([(str(p), f) for p, f in places], TRANSFORM, everything, known={}, workers=1, ahead=1)
    with contextlib.closing(frames):
        for one in frames:
            found[one.index] = one.failed
            if len(found) in (5, 10):
                (worker,) = children() - before
                os.kill(worker, signal.SIGKILL)
                kills += 1
                time.sleep(0.1)
    assert kills == 2
    assert [found[at] for at in range(5)] == [""] * 5
    assert "the decoder process crashed on it (signal 9)" in found[19]
    assert [found[at] for at in range(20, 40)] == [""] * 20
    assert len(found) == 40


def test_workers_that_cannot_start_are_an_error(films, monkeypatch):
    """A worker that dies before it says anything is the machine's fault, not the videos'."""
    monkeypatch.setattr(process, "_MAIN", "raise SystemExit(3) #{}{}")
    with pytest.raises(MachineError, match=r"the loader processes keep crashing \(exit 3\)"):
        read_all([(films[0], 0)])


@linux
def test_leaving_early_leaves_nothing_behind(films):
    """Who stops after one frame leaves no process and no thread."""
    before, threads = children(), threading.active_count()
    places = [(str(path), frame) for path in films for frame in range(20)]
    with contextlib.closing(read_frames(places, TRANSFORM, everything, known={}, workers=3, ahead=2)) as frames:
        next(frames)
    assert children() == before
    assert threading.active_count() == threads
