"""Devices embed beside the main loop: nothing waits that need not, and nothing that was embedded is lost."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import featcache
from featcache.extraction import Progress, Settings, Summary
from featcache.extraction.account import Account
from featcache.trunks import vit
from tests.conftest import ARCH, Nano, write_images

Extract = Callable[..., Summary]


@pytest.fixture(autouse=True)
def one_thread():
    """As many threads here as a device process of one core has: the same sums in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
