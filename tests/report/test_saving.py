"""The files that the commands write, written by the library."""

import numpy as np
import pytest

import featcache
from featcache.prediction import Predictions, Timeline
from tests.report.drives import write_drives


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    drives = write_drives(tmp_path_factory.mktemp("drives"), rows=2000)
    where = {"data": str(drives.root), "cache": drives.cache}
    featcache.fit_head(0.1, **where, epochs=2, device="cpu", check_seconds=None)
    return where


@pytest.mark.parametrize("suffix", ["html", "png", "csv"])
def test_a_report_is_the_file_that_the_command_writes(run, where, tmp_path, suffix):
    """Byte for byte; and the evaluation that it shows is returned."""
    ours, theirs = tmp_path / f"ours.{suffix}", tmp_path / f"theirs.{suffix}"
    found = featcache.save_report(ours, by="clip", **where)
    ran = run("report", "--by", "clip", "--data", where["data"], "--cache", where["cache"], f"--{suffix}", theirs)
    assert ran.code == 0, ran.err
    assert ours.read_bytes() == theirs.read_bytes()
    assert (found.by, found.rows) == ("clip", 50)


def test_answers_on_images_and_on_videos_become_tables_and_pictures(tmp_path):
    """Each by the end of the name; `count` labels an image."""
    shares = np.array([[0.75, 0.25], [0.5, 0.5]])
    asked = {"head": "h", "trunk": "t", "classes": ("a", "b"), "probabilities": shares, "embedded": 2, "seconds": 0.0}
    images = Predictions(paths=("1.png", "2.png"), failed=("", ""), **asked)
    video = Timeline(path="x.mp4", frames=np.array([0, 8]), at=np.array([0.0, 0.5]), failed="", **asked)
    featcache.save_predictions(images, tmp_path / "images.csv", 1)
    assert (tmp_path / "images.csv").read_text() == "path,label_1,probability_1,failed\n1.png,a,0.75,\n2.png,a,0.5,\n"
    featcache.save_predictions(video, tmp_path / "video.csv")
    assert (tmp_path / "video.csv").read_text().startswith("start_seconds,end_seconds,first_frame")
    for found in (images, video):
        featcache.save_predictions(found, str(tmp_path / "picture.PNG"))
        assert (tmp_path / "picture.PNG").read_bytes().startswith(b"\x89PNG")


def test_another_suffix_or_folder_is_refused_before_anything_is_read(tmp_path):
    """With the way out; no cache is looked for."""
    with pytest.raises(featcache.UsageError, match=r"expected a name that ends in \.html or \.png or \.csv"):
        featcache.save_report(tmp_path / "report.pdf", cache=tmp_path / "nowhere")
    with pytest.raises(featcache.UsageError, match="there is no folder"):
        featcache.save_report(tmp_path / "nowhere" / "report.png", cache=tmp_path / "nowhere")
