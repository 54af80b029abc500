"""A video's frames: the right ones under the right numbers, or none."""

import io
import random
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from featcache.errors import MachineError
from featcache.media import ImageTransform, decode_image, encode_png, resize_and_crop, video
from featcache.media.video import (
    BadVideoError,
    decode_frames,
    frame_digest,
    hash_video,
    require_video_decoder,
    sample_frames,
    sample_numbers,
)
from tests.videos import TICKS, nearest, pictures, remux, write_video

FRAMES = 40
PICTURES = pictures(FRAMES)
B_FRAMES = {"bf": "3", "g": "12"}
UNEVEN = [TICKS * number + 400 * (number % 3) + (20 * TICKS if number > 20 else 0) for number in range(FRAMES)]
WAYS = {
    "no B-frames": {"options": {"bf": "0", "g": "12"}},
    "B-frames": {"options": B_FRAMES},
    "open GOPs": {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-pyramid=normal"}},
    "uneven times": {"options": B_FRAMES, "times": UNEVEN},
    "a late first time": {"options": B_FRAMES, "times": range(77 * TICKS, 200 * TICKS, TICKS)},
    "fragments": {"options": B_FRAMES, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "MPEG-4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "HEVC": {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=4"}},
}


def frames_of(data: bytes, wanted=range(FRAMES)) -> dict[int, np.ndarray]:
    return dict(decode_frames(io.BytesIO(data), list(wanted)))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "b.mp4", PICTURES, options=B_FRAMES)


def reordered(path: Path) -> bool:
    """Whether packets do not lie in the order in which they are shown."""
    with av.open(str(path)) as file:
        times = [packet.pts for packet in file.demux(file.streams.video[0]) if packet.size]
    return times != sorted(times)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_frame_k_is_the_kth_that_is_shown(tmp_path, way):
    """Whatever the encoder does with order and time, every frame has its own number."""
    path = write_video(tmp_path / "x.mp4", PICTURES, **way)
    assert reordered(path) == (way.get("options", {}).get("bf") != "0")
    found = frames_of(path.read_bytes())
    assert [nearest(pixels, PICTURES) for pixels in found.values()] == list(range(FRAMES))
    some = frames_of(path.read_bytes(), [3, 4, 21, 38])
    assert list(some) == [3, 4, 21, 38]
    assert all((some[number] == found[number]).all() for number in some)


@pytest.mark.parametrize(("shift", "hidden"), [(38, 0), (-5, 5)])
def test_an_edit_that_starts_late_moves_no_number(film, tmp_path, shift, hidden):
    """An edit list that begins with nothing drops no frame; the frames that it hides are not counted."""
    moved = remux(film, tmp_path / "edit.mp4", shift=shift)
    found = frames_of(moved.read_bytes(), range(FRAMES - hidden))
    assert [nearest(pixels, PICTURES) for pixels in found.values()] == list(range(hidden, FRAMES))
    with pytest.raises(BadVideoError, match=f"the video has {FRAMES - hidden} frames, the first is number 0"):
        frames_of(moved.read_bytes(), [FRAMES - hidden])


def test_a_frame_is_resized_as_its_picture_would_be(film):
    """What the trunk gets of a frame is bit for bit what it gets of a PNG of the same pixels."""
    (pixels,) = frames_of(film.read_bytes(), [7]).values()
    transform = ImageTransform(resize=40, crop=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    grey = np.ascontiguousarray(pixels[:, :, 0])
    np.testing.assert_array_equal(
        resize_and_crop(np.stack([grey] * 3, axis=2), transform), decode_image(encode_png(grey), transform)
    )
    assert resize_and_crop(pixels, transform).shape == (3, 32, 32)


def test_what_was_yielded_before_the_end_is_right(film):
    """A video with fewer frames than are wanted gives those that it has, and then says how many they are."""
    found = []
    with pytest.raises(BadVideoError, match="the video has 40 frames"):
        found.extend(number for number, _ in decode_frames(io.BytesIO(film.read_bytes()), [0, 39, 40, 41]))
    assert not found or found == [0, 39]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("flags", ["", "faststart"])
def test_damage_never_gives_a_neighbours_frame(tmp_path, codec, flags):
    """Cut off, holed, zeroed or overwritten anywhere: a frame that comes is the one of its number, or a ruin of it."""
    container = {"movflags": flags} if flags else None
    path = write_video(tmp_path / "x.mp4", PICTURES, codec=codec, options=B_FRAMES, container=container)
    data, chance, refused = path.read_bytes(), random.Random(codec + flags), 0
    for trial in range(40):
        bad, at = bytearray(data), chance.randrange(len(data))
        size = len(bad[at : at + 300])
        if trial % 4 == 0:
            del bad[at:]
        elif trial % 4 == 1:
            del bad[at : at + size]
        else:
            bad[at : at + size] = bytes(size) if trial % 4 == 2 else chance.randbytes(size)
        try:
            for number, pixels in decode_frames(io.BytesIO(bytes(bad)), range(FRAMES)):
                if pixels.shape == PICTURES[0].shape:
                    off = [np.abs(pixels.astype(int) - picture).mean() for picture in PICTURES]
                    assert off[number] <= min(off) + 1 or min(off) > 10, (trial, number, int(np.argmin(off)))
        except BadVideoError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no video",
        b"<html>",
        b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n",
        b"ffconcat version 1.0\nfile /etc/x\n",
    ],
)
def test_what_is_no_video_is_refused(data):
    """Neither text nor a playlist is opened as a video; nothing else is opened in its place."""
    with pytest.raises(BadVideoError, match="no MP4 video that can be decoded"):
        frames_of(data, [0])


@pytest.mark.parametrize("kind", ["mkv", "ts", "avi"])
def test_a_container_without_a_table_of_frames_is_refused(tmp_path, kind):
    """These leave a damaged part out without a word, so they are not read at all; the way out is named."""
    path = write_video(tmp_path / f"x.{kind}", PICTURES, codec="mpeg4")
    with pytest.raises(BadVideoError, match=r"-c copy OUT\.mp4"):
        frames_of(path.read_bytes(), [0])


def test_a_film_without_pictures_is_refused(tmp_path):
    """A file with sound alone has no frame."""
    with av.open(str(tmp_path / "x.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        for part in (sound, None):
            file.mux(stream.encode(part))
    with pytest.raises(BadVideoError, match="no video stream"):
        frames_of((tmp_path / "x.mp4").read_bytes(), [0])


def test_digests_of_frames_are_kept_apart(film):
    """A frame's digest follows from its video's and its number alone, and is never that of a file."""
    of_file = hash_video(io.BytesIO(film.read_bytes()))
    digests = {frame_digest(digest, number) for digest in (of_file, bytes(32)) for number in range(300)}
    assert len(digests | {of_file}) == 601
    assert frame_digest(bytes(32), 7).hex().startswith("02c8ff5b09c903f7")


def test_without_pyav_the_way_out_is_named(monkeypatch):
    """Where PyAV is missing, one clear error of exit code 5."""
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'featcache\[av\]'"):
        require_video_decoder()


def test_nothing_is_imported_for_images_alone():
    """Neither torch nor PyAV is needed to import this module."""
    code = "import sys, featcache.media.video, featcache.loader.video_worker; print({'torch', 'av'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


@pytest.mark.parametrize("per_second", [0.7, 2, 1000])
def test_frames_are_sampled_by_their_times_without_decoding(film, per_second):
    """The numbers are those of the frames that are sampled where they are decoded."""
    with film.open("rb") as file:
        numbers = [frame.number for frame in sample_frames(file, per_second)]
        assert sample_numbers(file, per_second) == numbers
