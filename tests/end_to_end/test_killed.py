"""A real extract that is really killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import featcache
from tests.conftest import Nano, write_images


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_change_nothing(nano: Nano, tmp_path: Path, kills: int) -> None:
    """SIGKILL at random moments, then one run to the end: `load` returns what an undisturbed run's returns."""
    counts = {"train": {str(digit): 250 for digit in range(10)}}
    root = write_images(tmp_path / "images", counts)

    def begin(cache: Path) -> subprocess.Popen[bytes]:
        flags = ("--shard-rows", "16", "--batch-size", "8", "--workers", "2")
        words = [sys.executable, "-m", "featcache", "extract", "--data", root, "--cache", cache, *nano.flags, *flags]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    assert begin(tmp_path / "undisturbed").wait() == 0

    cache = tmp_path / "killed"
    moments = random.Random(5)
    killed = 0
    for _ in range(kills):
        process = begin(cache)
        before, more = _committed(cache), moments.randint(0, 2)
        while _committed(cache) < before + more and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1) if more else moments.uniform(0, 3))  # in the loop; or while it starts
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed > kills // 2, "most runs had ended when their kill came"
    assert begin(cache).wait() == 0

    disturbed, undisturbed = (
        featcache.load("train", data=str(root), cache=place) for place in (cache, tmp_path / "undisturbed")
    )
    assert disturbed.paths == undisturbed.paths
    assert np.array_equal(disturbed.y, undisturbed.y)
    assert disturbed.x.tobytes() == undisturbed.x.tobytes()
    assert featcache.verify(cache=cache) == []
    assert not list((cache / "stores").rglob("*.partial"))


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 130)])
def test_a_terminated_run_keeps_what_it_embedded(nano: Nano, tmp_path: Path, ending: signal.Signals, code: int) -> None:
    """SIGTERM (143), Ctrl-C and a hangup (130) publish what was embedded; no worker stays behind."""
    root = write_images(tmp_path / "images", {"train": {str(digit): 150 for digit in range(10)}})
    cache = tmp_path / "cache"
    words = [sys.executable, "-m", "featcache", "extract", "--data", root, "--cache", cache, *nano.flags]
    process = subprocess.Popen(
        [*words, "--batch-size", "4", "--shard-rows", "8"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    log = cache.glob("stores/*/commits.jsonl")
    while not any(path.stat().st_size for path in cache.glob("stores/*/commits.jsonl")):
        assert process.poll() is None, log
        time.sleep(0.01)
    workers = _children(process.pid)
    assert workers
    process.send_signal(ending)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"interrupted; what was committed is safe" in told
    assert b"Traceback" not in told
    assert featcache.verify(cache=cache) == []
    assert sum(store["rows"] for store in featcache.info(data=str(root), cache=cache)["stores"]) > 0
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}/stat") and "Z" not in _state(pid)]


_LOST = """
import os, signal, sys, time
from featcache.cli import app

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sys.getsizeof(self)  # the interruption is raised by here

def command(*args, **options):
    Destroyed()
    time.sleep(30)
    print("never interrupted")

app.app = command
signal.signal(signal.SIGINT, signal.default_int_handler)
app.main()
"""


def test_an_interruption_within_a_destructor_still_interrupts() -> None:
    """Ctrl-C that falls into a destructor, where Python drops exceptions, ends the run all the same, and quietly."""
    done = subprocess.run([sys.executable, "-c", _LOST], capture_output=True, text=True, timeout=60)
    assert "never" not in done.stdout
    assert done.returncode == -signal.SIGINT
    assert "ignored" not in done.stderr


def test_a_run_under_nohup_outlives_its_terminal(nano: Nano, tmp_path: Path) -> None:
    """SIGHUP ends an extract as Ctrl-C does, but not one that nohup started."""
    root = write_images(tmp_path / "images", {"train": {str(digit): 40 for digit in range(4)}})
    words = [sys.executable, "-m", "featcache", "extract", "--data", root, "--cache", tmp_path / "cache", *nano.flags]
    process = subprocess.Popen(["nohup", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "cache").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0


def _committed(cache: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in cache.glob("stores/*/commits.jsonl"))


def _children(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in found for child in children]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"
