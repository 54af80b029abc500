"""Several devices, each with its trunk in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import featcache
from featcache import MachineError
from featcache.extraction import Progress, Settings, Summary
from tests.conftest import ARCH, single_thread, write_images
from tests.extraction.runs import held

Extract = Callable[..., Summary]


# As many threads here as a device process of one core has: the same sums in the same order.
one_thread = pytest.fixture(autouse=True)(single_thread)


def trunk_processes(parent: int) -> list[int]:
    """The device processes of a process, oldest first."""
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    children = sorted(int(pid) for one in lists for pid in one.read_text().split())
    return [pid for pid in children if b"extraction.trunk_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(holds: Callable[[], object], seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_several_devices_give_the_embeddings_of_one(extract, small, tmp_path, two_domains):
    """Bit by bit, in listing order; the store notes what made them; no process is left."""
    extract(small, cache="one", device="cpu")
    found = extract(small, cache="two", device="all")
    assert found.embedded == 14
    assert found.engine.endswith("on each of 2 devices")
    one, two = (featcache.load("train", data=str(small), cache=tmp_path / cache) for cache in ("one", "two"))
    assert one.x.tobytes() == two.x.tobytes()
    assert one.paths == two.paths
    (made,) = featcache.info(data=str(small), cache=tmp_path / "two")["stores"][0]["made"]
    assert (made["engine"], made["batch_size"]) == ("eager", 4)
    assert made["device"].endswith("1 threads)")
    assert ", " not in made["device"].partition("(")[0]
    assert trunk_processes(os.getpid()) == []


def test_several_devices_are_held_against_what_a_store_has(extract, small, tmp_path, two_domains):
    """A making that the store has not seen is compared before a row is added, in the device's own process."""
    extract(small, batch_size=3)
    write_images(small, {"val": {"7": 2, "8": 2}})
    assert extract(small, split="val", device="all").drift.compared == 8


def test_a_device_process_that_is_killed_is_one_clear_error(extract, tmp_path, two_domains):
    """SIGKILL in the middle: exit class 5, what was embedded is committed, the next run does the rest and no more."""
    root = write_images(tmp_path / "digits", {"train": {str(digit): 120 for digit in range(10)}})
    killed: list[int] = []

    def kill(now: Progress) -> None:
        if now.embedded and not killed:
            killed.append(trunk_processes(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(MachineError, match=r"the process of cpu has died \(signal 9\).*the next run does the rest"):
        extract(root, device="all", progress=kill)
    before = held(root, tmp_path / "cache")
    assert 0 < before < 1200
    found = extract(root, device="all")
    assert (found.embedded, found.reused) == (1200 - before, before)
    assert featcache.verify(cache=tmp_path / "cache") == []


RUN = """
import sys, time
from pathlib import Path
import featcache
from featcache import machine
data, cache, arch, weights, nodes = sys.argv[1:]
machine.NODES = Path(nodes)
settings = featcache.Settings(device="all", workers=1, batch_size=4, shard_rows=8)
def wait_for_the_end(now):
    if now.embedded >= 8:
        print("embedding", flush=True)
        time.sleep(120)
featcache.extract(
    "train", data=data, cache=cache, arch=arch, weights=weights, precision="fp32", settings=settings,
    progress=wait_for_the_end,
)
"""


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_device_processes_end_with_their_parent(nano, tmp_path, two_domains, death):
    """SIGKILL of the parent, or Ctrl-C in its terminal: no device process is left, and the cache is whole."""
    root = write_images(tmp_path / "digits", {"train": {str(digit): 100 for digit in range(10)}})
    cache = tmp_path / "cache"
    words = [sys.executable, "-c", RUN, root, cache, ARCH, nano.weights, two_domains]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(list(map(str, words)), start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"embedding\n"
        children = trunk_processes(process.pid)
        assert len(children) == 2
        os.killpg(process.pid, death)
        assert process.wait(60) == -death
    until(lambda: not any(map(alive, children)), 10.0)
    assert held(root, cache) > 0
    assert featcache.verify(cache=cache) == []


def test_what_a_device_process_warns_of_reaches_the_user(extract, small, tmp_path, two_domains, monkeypatch):
    """Without a C++ compiler: both processes go on with eager, the user is told, and the store notes eager."""
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with pytest.warns(RuntimeWarning, match="engine compile failed, continuing with eager"):
        assert extract(small, device="all", engine="compile").engine.startswith("engine eager: compile failed")
    assert featcache.info(data=str(small), cache=tmp_path / "cache")["stores"][0]["made"][0]["engine"] == "eager"


def test_an_error_of_a_device_process_is_the_users(nano, extract, small, tmp_path, two_domains):
    """Weights that are replaced before the processes load them: the error that one process would raise itself."""
    weights, other = Path(nano.weights), tmp_path / "other.pth"
    mine = tmp_path / "mine.pth"
    shutil.copy(weights, mine)
    state = torch.load(weights, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, other)

    def replace(now: Progress) -> None:
        if now.stage == "reading" and not now.done:
            other.rename(mine)

    settings = Settings(device="all", workers=1, batch_size=4)
    with pytest.raises(MachineError, match="replaced while this command ran"):
        featcache.extract(
            "train", data=str(small), cache=tmp_path / "cache", arch=ARCH, weights=str(mine), precision="fp32",
            settings=settings, progress=replace,
        )  # fmt: skip
    assert trunk_processes(os.getpid()) == []
