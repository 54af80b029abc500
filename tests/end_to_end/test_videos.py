"""Videos from the command line: killed in the middle, without PyAV, and their frames in a report."""

import base64
import contextlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.listing.listing import video_and_frame
from tests.builders import decode_image_list, write_annotations
from tests.conftest import Nano
from tests.end_to_end.test_killed import _committed
from tests.extraction.test_videos import HIDDEN, SHOWN, chunk, film_of, fold_of, write_films
from tests.videos import nearest, pictures, write_video

KILLS, FRAMES = 2, 100


@pytest.fixture
def drives(tmp_path: Path) -> str:
    """A recipe of two videos of 100 frames, of which a chunk each is labelled."""
    root = tmp_path / "daa"
    for person in (0, 1):
        write_video(film_of(root, person), pictures(20, first=40 * person) * (FRAMES // 20), options={"bf": "3"})
    rows = [chunk(person, 0, FRAMES - 1, ("sitting", "writing")[person]) for person in (0, 1)]
    write_annotations(root, fold=0, train=rows)
    return fold_of(root, 0)


def test_kills_in_the_middle_of_a_video_change_nothing(nano: Nano, drives: str, tmp_path: Path) -> None:
    """SIGKILL at random moments, then one run to the end: the same features, no frame embedded twice."""

    def begin(cache: Path) -> subprocess.Popen[bytes]:
        flags = ("--shard-rows", "16", "--batch-size", "8", "--workers", "2")
        words = [sys.executable, "-m", "featcache", "extract", "-p", drives, "--cache", cache, *nano.flags, *flags]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    assert begin(tmp_path / "undisturbed").wait() == 0
    cache, moments, killed = tmp_path / "killed", random.Random(3), 0
    for _ in range(KILLS):
        process, before = begin(cache), _committed(cache)
        while _committed(cache) < before + 1 and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= KILLS - 1, "most runs had ended when their kill came"
    assert begin(cache).wait() == 0
    disturbed, undisturbed = (
        featcache.load("train", pipeline=drives, cache=place) for place in (cache, tmp_path / "undisturbed")
    )
    assert disturbed.paths == undisturbed.paths
    assert disturbed.x.tobytes() == undisturbed.x.tobytes()
    (store,) = featcache.info(pipeline=drives, cache=cache)["stores"]
    assert store["rows"] == 2 * FRAMES
    assert featcache.verify(cache=cache) == []


def test_without_pyav_extract_names_the_way_out(nano: Nano, drives: str, tmp_path: Path) -> None:
    """Where PyAV is not installed, extract leaves with 5 and what to install; `data` needs none."""
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'av' else find(name, *rest)\n"
        "from featcache.__main__ import main; sys.argv[0] = 'featcache'; main()"
    )

    def typed(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, words), "-p", drives, "--cache", str(tmp_path / "cache")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    told = typed("extract", *nano.flags)
    assert (told.returncode, "pip install 'featcache[av]'" in told.stderr) == (5, True), told.stderr
    assert json.loads(typed("data", "--json").stdout)["splits"]["train"]["videos"] == 2


def test_a_report_shows_the_very_frames_and_says_how_long_they_took(nano: Nano, tmp_path: Path) -> None:
    """Whatever the encoder did: each thumbnail is the frame that stands beside it; a bar shows them being fetched."""
    where = ("-p", fold_of(write_films(tmp_path), 0), "--cache", str(tmp_path / "cache"))
    pages = []
    for words in (
        ("extract", *nano.flags, "--workers", "1", "--batch-size", "4"),
        ("fit-head", "--epochs", "2", "--no-check"),
        ("report", "--split", "test", "--html", str(tmp_path / "test.html")),
        ("report", "--split", "train", "--html", str(tmp_path / "train.html")),
    ):
        told = watched([sys.executable, "-m", "featcache", *words, *where])
        if words[0] == "report":
            assert "fetching frames" in told
            pages.append(Path(words[-1]).read_text("utf-8"))
            assert re.search(r"note: thumbnails of \d+ frames took \d+(\.\d)? s", told), told
    seen = [beside for page in pages for beside in thumbnails_of(page)]
    assert {video_and_frame(path)[0].split("/")[1] for path, _ in seen} == {"vp0", "vp1", "vp3"}
    assert len(seen) >= 12
    for path, thumbnail in seen:
        video, frame = video_and_frame(path)
        person = int(video.split("/")[1].removeprefix("vp"))
        assert nearest(thumbnail, SHOWN[person]) == frame + HIDDEN * (person == 3), path


def watched(words: list[str]) -> str:
    """Run a command; what it wrote to its standard error, a terminal."""
    ours, theirs = os.openpty()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as ran:
        os.close(theirs)
        told = b""
        with contextlib.suppress(OSError):  # Linux's word for the end
            while block := os.read(ours, 1 << 16):
                told += block
        os.close(ours)
    assert ran.returncode == 0, told.decode()
    return told.decode()


def thumbnails_of(page: str) -> list[tuple[str, np.ndarray]]:
    """Each path in the cells of a report's page, with its thumbnail."""
    document = json.loads(re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)[1])
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in document["thumbnails"]]
    names = decode_image_list(document)
    return [(names[int(image)], pictures[number]) for image, number in document["thumbnail"].items()]
