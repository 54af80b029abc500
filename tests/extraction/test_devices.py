"""Devices embed beside the main loop: nothing waits that need not, and nothing that was embedded is lost."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from featcache.extraction import Progress, Summary
from featcache.extraction.devices import Buffer, Device, DevicePool
from featcache.extraction.timing import TimeBreakdown
from featcache.trunks import vit
from tests.conftest import single_thread, write_images
from tests.extraction.runs import held

Extract = Callable[..., Summary]


# As many threads here as a device process of one core has: the same sums in the same order.
one_thread = pytest.fixture(autouse=True)(single_thread)


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


def submitted(trunk: Waits, batches: int) -> DevicePool:
    """A device that has begun the first of these batches."""
    device = Device(lambda: trunk)
    found = DevicePool([device])
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
    found.devices[0].close()


def test_ctrl_c_waits_for_the_batch_that_is_begun_and_for_no_other():
    """Of three batches one is begun: it is kept, the others are not embedded any more."""
    trunk = Waits()
    found = submitted(trunk, 3)
    threading.Timer(0.2, trunk.go.set).start()
    assert len(list(found.rescue(wait=False))) == 1
    found.devices[0].close()
    assert trunk.done == 1


def test_threads_end_with_the_command(extract, small):
    """No thread of a device is left, whether there was something to do or not."""
    extract(small)
    extract(small)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("device")]


def test_a_moment_is_the_devices_where_it_computes():
    """While it computes, neither waiting nor writing hold it back; of two devices each has half of the moment."""
    for devices, expected in ((1, 1.0), (2, 0.5)):
        account = TimeBreakdown(1, 1, devices=devices)
        with account.measure("waiting"), account.measure_device():
            time.sleep(0.2)
        shares = account.shares()
        assert shares["computing"] == pytest.approx(expected, abs=0.1)
        assert shares["waiting"] == pytest.approx(1 - expected, abs=0.1)
        assert sum(account.spent.values()) >= 0.2
