"""A head on a video: what it sees, when."""

import json
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import DataError, UsageError
from featcache.prediction.videos import Timeline

pytest.importorskip("av")

from tests.videos import RATE, pictures, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Four seconds at 15 frames a second."""
    return write_video(tmp_path_factory.mktemp("video") / "drive.mp4", pictures(4 * RATE))


def test_every_frame_is_asked_about_where_as_many_are_wanted(made, video):
    """At 15 a second all 60 frames are looked at, each at its time, and each is the frame that the loader decodes."""
    found = featcache.timeline(made.head, str(video), per_second=RATE, device="cpu", **made.where)
    assert found.frames.tolist() == list(range(4 * RATE))
    assert found.at == pytest.approx(np.arange(4 * RATE) / RATE)
    assert (found.failed, found.embedded) == ("", 4 * RATE)

    from featcache.loader import read_frames
    from featcache.prediction.batcher import EmbeddingBatcher
    from featcache.prediction.model import open_head

    model = open_head(made.head, device="cpu", **made.where)
    (trunk,) = model.trunks
    batcher = EmbeddingBatcher(trunk, model.probabilities)
    read = read_frames([(str(video), 7)], trunk.transform, lambda _: True, known={}, workers=1, ahead=2)
    for image in read:
        batcher.add(image.digest, image.pixels)
    batcher.flush()
    (probabilities,) = batcher.rows.values()
    assert probabilities == pytest.approx(found.probabilities[7], abs=1e-6)


def test_two_a_second_are_looked_at_unless_told(made, video):
    """Frames 0, 8, 15, 23, …: the first at or after each half second."""
    found = featcache.timeline(made.head, str(video), device="cpu", **made.where)
    assert found.frames.tolist() == [0, 8, 15, 23, 30, 38, 45, 53]


def test_segments_are_the_stretches_between_changes(made):
    """Each label from its first frame to the next one's; the mean of its probability."""
    shares = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    found = Timeline(
        path="x.mp4", head="h", trunk="t", classes=("a", "b"), frames=np.array([0, 5, 10, 15]),
        at=np.array([0.0, 0.5, 1.0, 1.5]), probabilities=shares, failed="", embedded=4, seconds=0.0,
    )  # fmt: skip
    rows = [(one.label, one.start, one.end, one.first, one.last) for one in found.segments()]
    assert rows == [("a", 0.0, 1.0, 0, 5), ("b", 1.0, 1.5, 10, 10), ("a", 1.5, 1.5, 15, 15)]
    assert found.segments()[0].probability == pytest.approx(0.8)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_damaged_video_has_a_timeline_up_to_where_it_is_sound(made, video, tmp_path):
    """What was right before the damage is told, and that it ended early; where nothing is right it is an error."""
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    middle = (start + len(data)) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    found = featcache.timeline(made.head, str(broken), per_second=RATE, device="cpu", **made.where)
    assert found.failed
    assert 0 < len(found.frames) < 4 * RATE
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="no MP4 video"):
        featcache.timeline(made.head, str(tmp_path / "none.mp4"), **made.where)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        featcache.timeline(made.head, str(tmp_path / "gone.mp4"), **made.where)
    with pytest.raises(UsageError, match="expected more than 0"):
        featcache.timeline(made.head, str(video), per_second=0, **made.where)
