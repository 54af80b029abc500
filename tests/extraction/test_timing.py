"""What holds an extract back: four slow machines, staged for real, and the sentence is right in each."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.extraction import Settings, Summary, run
from featcache.extraction.timing import TimeBreakdown
from featcache.report import extract_time_shares
from featcache.store import writer
from featcache.trunks import vit

SLOW_DISK = """
import os, time
real = os.open
def slow(path, *rest, **kept):
    if str(path).endswith((".png", ".bmp")):
        time.sleep(0.15)
    return real(path, *rest, **kept)
os.open = slow
"""


COUNT = 40  # more than the loader reads ahead while the trunk loads: what is slow must show


def noise(root: Path, edge: int, kind: str, count: int = COUNT) -> Path:
    """Files that all differ; the pixels of large ones do not, since what follows a PNG's end is not decoded."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (edge, edge, 3), dtype=np.uint8)).save(file, kind)
    for number in range(count):
        path = root / "train" / str(number % 2) / f"{number:03d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue() + number.to_bytes(2, "little"))
    return root


@pytest.fixture
def extract(nano, tmp_path):
    def call(data: Path, **settings) -> Summary:
        options = {"device": "cpu", "workers": 1, "batch_size": 4, **settings}
        arch, weights = nano.flags[1], nano.flags[3]
        return featcache.extract(
            "train", data=str(data), cache=tmp_path / "cache", arch=arch, weights=weights, precision="fp32",
            settings=Settings(**options),
        )[0]  # fmt: skip

    return call


def adds_up(found: Summary) -> None:
    shares = found.shares
    assert sum(shares[kind] for kind in ("starting", "waiting", "computing", "writing")) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares.values())


def test_a_slow_disk(extract, tmp_path, monkeypatch):
    """Every opening of an image takes 0.15 s: the sentence says read-bound, and how long the device waits."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SLOW_DISK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    found = extract(noise(tmp_path / "images", 40, "bmp"))
    adds_up(found)
    assert found.held_back.startswith("read-bound: 1 worker is reading ")
    assert "the CPU waits" in found.held_back


def test_a_slow_decode(extract, tmp_path):
    """Large PNGs: the sentence says decode-bound."""
    found = extract(noise(tmp_path / "images", 1600, "png"))
    adds_up(found)
    assert found.held_back.startswith("decode-bound: 1 worker is decoding ")
    assert "--decode fast" in found.held_back


def test_workers_without_an_image_are_not_advised(extract, tmp_path, monkeypatch):
    """One image keeps one worker: another would have nothing to do, however many cores there are."""
    monkeypatch.setattr(run, "cores", lambda: 4)
    monkeypatch.setattr(TimeBreakdown, "bottleneck", lambda self: "decode")
    found = extract(noise(tmp_path / "images", 40, "bmp", count=1), workers=None)
    assert found.held_back.startswith("decode-bound: 1 worker is decoding ")
    assert "--workers" not in found.held_back


def test_a_slow_device(extract, tmp_path, monkeypatch):
    """A forward that takes 0.6 s: the sentence says device-bound."""
    real = vit.ViT.__call__

    def slow(self, pixels):
        time.sleep(0.6)
        return real(self, pixels)

    monkeypatch.setattr(vit.ViT, "__call__", slow)
    found = extract(noise(tmp_path / "images", 40, "bmp"))
    adds_up(found)
    assert found.held_back.startswith("device-bound: the CPU computes ")


def test_a_slow_writer(extract, tmp_path, monkeypatch):
    """A disk that takes 0.6 s to publish a shard, and many shards: the sentence says write-bound."""
    real = writer.publish

    def slow(*args, **kept):
        time.sleep(0.6)
        return real(*args, **kept)

    monkeypatch.setattr(writer, "publish", slow)
    found = extract(noise(tmp_path / "images", 40, "bmp"), shard_rows=1)
    adds_up(found)
    assert found.held_back.startswith("write-bound: publishing shards takes ")


def test_what_was_embedded_before_holds_nothing_back(extract, tmp_path):
    """A run that embeds nothing says nothing of engines and shares."""
    data = noise(tmp_path / "images", 40, "bmp", count=4)
    assert extract(data).engine == "engine eager: 4 images are fewer than the 5,000 from which compiling pays"
    again = extract(data)
    assert (again.engine, again.held_back, again.shares) == ("", "", {})
    assert again.to_json()["engine"] is None


def test_images_from_elsewhere_are_not_held_back_by_a_disk():
    """More workers fetch more of them at a time; no faster disk is advised."""
    account = TimeBreakdown(2, 2, "CPU", elsewhere=True, reading=18.0)
    account.spent |= {"waiting": 9.0, "computing": 1.0}
    assert account.describe().endswith("try --workers 4, or a machine nearer to the images")


def test_start_up_is_said_where_it_is_most():
    """A job of a few images mostly starts: the sentence says so beside what held back the rest, and only then."""
    account = TimeBreakdown(2, 2, "CPU")
    account.spent |= {"starting": 5.0, "waiting": 1.0, "computing": 2.0, "writing": 1.0}
    assert account.describe().startswith("device-bound: the CPU computes 50 % of the time after start-up;")
    assert account.describe().endswith("(start-up was 56 % of this run; more images hide it)")
    account.spent["starting"] = 1.0
    assert "start-up" not in account.describe()


def test_the_line_of_shares_and_the_sentence_have_the_same_figures():
    """Of a run that mostly starts, both give the shares of the time after the start."""
    account = TimeBreakdown(2, 2, "CPU")
    account.spent |= {"starting": 90.0, "waiting": 2.5, "computing": 7.0, "writing": 0.5}
    assert "computes 70 % of the time after start-up" in account.describe()
    summary = Summary(
        data_set="photos", split="train", rows=1, embedded=1, reused=0, failed=0, seconds=100.0, images_per_second=0.01,
        cache="cache", store="store", failures=(), ignored=(), empty_classes=(), part="", moved_from="", cuts=(),
        trunk="vit_b_16", layer="cls", shares=account.shares(),
    )  # fmt: skip
    line = extract_time_shares(summary)
    assert line.startswith("time: start-up 90 %; after it waiting 25 %, computing 70 %, writing 5 %; of the workers'")


def test_more_workers_are_advised_only_where_there_are_cores():
    """--workers is no advice where every core has one."""
    for workers, cores, advised in ((4, 16, True), (16, 16, False)):
        account = TimeBreakdown(workers, cores, "GPU", decoding=10.0)
        account.spent["waiting"] = 9.0
        assert ("--workers 16" in account.describe()) == advised
