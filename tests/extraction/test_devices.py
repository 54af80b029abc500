"""Devices embed beside the main loop: nothing waits that need not, and nothing that was embedded is lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

import featcache
from featcache import MachineError, UsageError, machine
from featcache.extraction import Progress, Settings, Summary
from featcache.extraction.devices import Buffer, Device, Devices
from featcache.extraction.placement import Place, places
from featcache.extraction.timing import Account
from featcache.trunks import vit
from tests.conftest import ARCH, Nano, single_thread, write_images

Extract = Callable[..., Summary]


# As many threads here as a device process of one core has: the same sums in the same order.
one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Fourteen images, three and a half batches."""
    return write_images(tmp_path / "digits", {"train": {"0": 6, "1": 5, "2": 3}})


@pytest.fixture
def extract(nano: Nano, tmp_path: Path) -> Extract:
    def call(root: Path, *, progress=lambda _: None, cache="cache", split="train", **running) -> Summary:
        settings = Settings(**{"device": "cpu", "workers": 1, "batch_size": 4, **running})
        return featcache.extract(
            split, data=str(root), cache=tmp_path / cache, arch=ARCH, weights=str(nano.weights), precision="fp32",
            settings=settings, progress=progress,
        )[0]  # fmt: skip

    return call


@pytest.fixture
def two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two of this machine's cores, each described as a domain of its own, as the system would."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip("one core")
    for number, core in enumerate(usable[:2]):
        (tmp_path / f"nodes/node{number}").mkdir(parents=True)
        (tmp_path / f"nodes/node{number}/cpulist").write_text(f"{core}\n")
    monkeypatch.setattr(machine, "NODES", tmp_path / "nodes")
    return tmp_path / "nodes"


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


def held(root: Path, cache: Path) -> int:
    return sum(store["rows"] for store in featcache.info(data=str(root), cache=cache)["stores"])


def test_the_next_batch_is_filled_while_one_is_embedded(extract, tmp_path, monkeypatch):
    """The first forward ends only when the second batch is read: a loop that did one thing at a time would stand."""
    root = write_images(tmp_path / "digits", {"train": {"0": 8}})
    real, all_read = vit.ViT.__call__, threading.Event()

    def patient(self, pixels):
        assert all_read.wait(60)
        return real(self, pixels)

    def watch(now: Progress) -> None:
        if now.done == 8:
            all_read.set()

    monkeypatch.setattr(vit.ViT, "__call__", patient)
    assert extract(root, progress=watch).embedded == 8


def test_an_error_of_the_device_loses_no_batch_before_it(extract, small, tmp_path, monkeypatch):
    """The third forward fails: the error passes on as it is, two batches are committed, the next run does the rest."""
    real, calls = vit.ViT.__call__, []

    def breaking(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise RuntimeError("an illegal memory access")
        return real(self, pixels)

    monkeypatch.setattr(vit.ViT, "__call__", breaking)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        extract(small)
    assert held(small, tmp_path / "cache") >= 8
    monkeypatch.setattr(vit.ViT, "__call__", real)
    found = extract(small)
    assert (found.embedded + found.reused, found.reused >= 8) == (14, True)


def test_ctrl_c_keeps_the_batch_that_is_being_embedded(extract, small, tmp_path, monkeypatch):
    """What a device has begun is waited for and published; what waits for the device is left to the next run."""
    real, begun, calls = vit.ViT.__call__, threading.Event(), []

    def slow(self, pixels):
        calls.append(len(pixels))
        begun.set()
        time.sleep(1.0)
        return real(self, pixels)

    def interrupt(now: Progress) -> None:
        if begun.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(vit.ViT, "__call__", slow)
    with pytest.raises(KeyboardInterrupt):
        extract(small, progress=lambda now: (time.sleep(0.1), interrupt(now)))
    assert calls == [4]
    assert held(small, tmp_path / "cache") == 4


class Waits:
    """A trunk whose every forward waits for `go`."""

    def __init__(self) -> None:
        self.go, self.begun, self.done = threading.Event(), threading.Event(), 0

    def upload(self, batch: int) -> int:
        return batch

    def embed(self, batch: int) -> int:
        self.begun.set()
        assert self.go.wait(60)
        self.done += 1
        return batch


def submitted(trunk: Waits, batches: int) -> Devices:
    """A device that has begun the first of these batches."""
    device = Device(lambda: trunk)
    found = Devices([device])
    for number in range(batches):
        found.submit(Buffer(device, [number]), [b"digest"], contextlib.nullcontext)
    assert trunk.begun.wait(60)
    return found


def test_ctrl_c_while_a_batch_is_waited_for_leaves_it_to_be_rescued(monkeypatch):
    """At the end of a split the main loop waits for what is being embedded; stopped there, the batch is not dropped."""
    trunk = Waits()
    found = submitted(trunk, 1)

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(found.finished(wait=True))
    trunk.go.set()
    assert len(list(found.rescue(wait=False))) == 1
    found.all[0].close()


def test_ctrl_c_waits_for_the_batch_that_is_begun_and_for_no_other():
    """Of three batches one is begun: it is kept, the others are not embedded any more."""
    trunk = Waits()
    found = submitted(trunk, 3)
    threading.Timer(0.2, trunk.go.set).start()
    assert len(list(found.rescue(wait=False))) == 1
    found.all[0].close()
    assert trunk.done == 1


def test_threads_end_with_the_command(extract, small):
    """No thread of a device is left, whether there was something to do or not."""
    extract(small)
    extract(small)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("device")]


def test_a_moment_is_the_devices_where_it_computes():
    """While it computes, neither waiting nor writing hold it back; of two devices each has half of the moment."""
    for devices, expected in ((1, 1.0), (2, 0.5)):
        account = Account(1, 1, devices=devices)
        with account.time("waiting"), account.computing():
            time.sleep(0.2)
        shares = account.shares()
        assert shares["computing"] == pytest.approx(expected, abs=0.1)
        assert shares["waiting"] == pytest.approx(1 - expected, abs=0.1)
        assert sum(account.spent.values()) >= 0.2


def test_domains_are_read_as_linux_lists_them(tmp_path, monkeypatch):
    """Ranges and single cores; what this process may not use is left out; one domain where nobody says anything."""
    usable = os.sched_getaffinity(0)
    monkeypatch.setattr(machine, "NODES", tmp_path)
    assert machine.domains() == [tuple(sorted(usable))]
    for number, text in enumerate((f"0-{max(usable)},5000-5003\n", "6000\n", "\n")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}/cpulist").write_text(text)
    assert machine.domains() == [tuple(sorted(usable))]


def test_which_devices_are_meant(two_domains, monkeypatch):
    """All: every domain of a CPU, or the CPU as it is where it has one; a list is taken as typed, nothing twice."""
    if torch.cuda.is_available():
        pytest.skip("here `all` is the GPUs")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    assert places("all") == [Place("cpu", (first,)), Place("cpu", (second,))]
    assert places("cpu") == [Place("cpu")]
    monkeypatch.setattr(machine, "NODES", two_domains / "node0")
    assert places("all") == [Place("cpu")]
    for twice in ("cuda:1,cuda:1", "cuda:1,cuda:01"):
        with pytest.raises(UsageError, match="twice"):
            places(twice)
    with pytest.raises(MachineError, match="no such device"):
        places("cuda:0,cuda:99")
    for wrong in ("cuda:0,", "cuda,cuda:1", "cpu,cuda:0", "all,cpu"):
        with pytest.raises(UsageError, match="expected auto, all, cpu"):
            Settings(device=wrong)


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
    with pytest.warns(RuntimeWarning, match="engine compile failed, going on with eager"):
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
