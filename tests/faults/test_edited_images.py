"""Images that are edited, touched or moved; and what keys a store."""

import io
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.faults.world import World, paint, row_of

OLD = 10**18  # nanoseconds: a time long past, as an old file has it


def anew(world: World, tmp_path: Path) -> World:
    """What a cache without any memory makes of the same images."""
    other = World(world.images, tmp_path / "anew", world.weights)
    shutil.rmtree(other.cache, ignore_errors=True)
    other.extract(max_bad=1.0)
    return other


@pytest.mark.fault(22)
@pytest.mark.parametrize("how", ["in place", "replaced by a rename", "within a tick of being read"])
def test_an_edited_image_is_embedded_anew(fresh, tmp_path, saw, portion, how):
    """Same size, same mtime, other pixels; over and over, also right after the extract has read the old ones."""
    path = paint(fresh.images / "train" / "0" / "x.bmp", 0)
    os.utime(path, ns=(OLD, OLD))
    fresh.extract()
    for turn in range(1, portion(30, 6)):
        before, size = row_of(fresh, "train/0/x.bmp"), path.stat().st_size
        new = io.BytesIO()
        pixels = np.random.default_rng(turn).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(new, "BMP")
        if how == "replaced by a rename":
            (tmp_path / "new").write_bytes(new.getvalue())
            os.utime(tmp_path / "new", ns=(OLD, OLD))
            (tmp_path / "new").rename(path)
        else:
            path.write_bytes(new.getvalue())
            if how == "in place":
                os.utime(path, ns=(OLD, OLD))
        assert path.stat().st_size == size
        assert fresh.extract()[0].embedded == 1
        assert row_of(fresh, "train/0/x.bmp") != before
        saw(f"an image edited, same size, {how}", "embedded anew")
    assert fresh.load().x.tobytes() == anew(fresh, tmp_path).load().x.tobytes()


@pytest.mark.fault(22)
def test_an_image_that_is_edited_while_it_is_read(fresh, tmp_path, saw, portion):
    """A thread rewrites an image all the time: the run ends, says so or takes one of its states whole; and when the
    writing is over, the next extract gives what a new cache gives.
    """
    path = paint(fresh.images / "train" / "0" / "x.bmp", 0)
    states = [paint(tmp_path / f"{seed}.bmp", seed).read_bytes() for seed in range(4)]
    stop, writes = threading.Event(), [0]

    def rewrite() -> None:
        while not stop.is_set():
            with path.open("r+b") as file:
                file.write(states[writes[0] % 4])
            writes[0] += 1

    for _ in range(portion(20, 3)):
        stop.clear()
        thread = threading.Thread(target=rewrite)
        thread.start()
        try:
            summary = fresh.extract(max_bad=1.0)[0]
        finally:
            stop.set()
            thread.join()
        assert summary.rows == 7
        fresh.extract()
        assert fresh.load().x.tobytes() == anew(fresh, tmp_path).load().x.tobytes()
        saw("an image rewritten while it is read", "the next run embeds its last state")
    saw("writes to that image", "none left a wrong embedding", writes[0])


@pytest.mark.fault(23)
def test_what_changes_no_pixel_embeds_nothing(fresh, tmp_path, saw):
    """touch, chmod, a hard link, a rename, another class, the folder moved: nothing is embedded anew."""
    fresh.extract()
    one, two = fresh.images / "train" / "0" / "0000.png", fresh.images / "train" / "0" / "0001.png"
    moved = World(tmp_path / "disk2" / "digits", fresh.cache, fresh.weights)
    moved.images.parent.mkdir()
    for what, change in (
        ("touch", lambda: os.utime(one)),
        ("chmod", lambda: one.chmod(0o600)),
        ("a hard link elsewhere", lambda: os.link(one, tmp_path / "link.png")),
        ("a hard link in its place", lambda: (os.link(two, tmp_path / "two"), os.replace(tmp_path / "two", two))),
        ("a hard link beside it", lambda: os.link(one, fresh.images / "train" / "0" / "again.png")),
        ("a copy under another name", lambda: shutil.copy(one, one.with_name("copy.png"))),
        ("a rename", lambda: two.rename(two.with_name("zzz.png"))),
        ("another class", lambda: one.rename(fresh.images / "train" / "1" / "moved.png")),
        ("the data set moved", lambda: fresh.images.rename(moved.images)),
    ):
        change()
        world = moved if moved.images.exists() else fresh
        assert world.extract()[0].embedded == 0, what
        saw(what, "nothing embedded")
    assert moved.verify() == []


@pytest.mark.fault(24)
def test_what_is_keyed_makes_a_store_and_what_is_not_makes_none(fresh, tmp_path, saw):
    """Weights, stored dtype, precision, orientation, each alone: a new store. Batch, workers, shards, paths: the same,
    and the same bytes.
    """
    first = fresh.extract()[0].store
    expected = fresh.load().x.tobytes()
    for how in ({"batch_size": 2, "workers": 2}, {"workers": 3}, {"shard_rows": 1}, {"shard_seconds": 0.001}):
        other = World(fresh.images, tmp_path / f"{sorted(how)}", fresh.weights)
        assert other.extract(**how)[0].store == first
        assert other.load().x.tobytes() == expected
        saw(f"not keyed: {', '.join(sorted(how))}", "the same store, the same bytes")
    copy = shutil.copy(fresh.weights, tmp_path / "renamed.pth")
    os.utime(copy, ns=(OLD, OLD))
    assert fresh.extract(weights=str(copy))[0].embedded == 0
    saw("not keyed: the path of the weights", "the same store")
    state = torch.load(fresh.weights, weights_only=True)
    state["class_token"] = state["class_token"] + 1e-3
    torch.save(state, tmp_path / "other.pth")
    stores = {first}
    for what, options in (
        ("the weights' tensors", {"weights": str(tmp_path / "other.pth")}),
        ("the stored dtype", {"stored": "float16"}),
        ("the compute dtype", {"precision": "bf16"}),
    ):
        summary = fresh.extract(**options)[0]
        assert summary.embedded == 6
        assert summary.store not in stores
        stores.add(summary.store)
        saw(f"keyed: {what}", "a new store, everything embedded")
    assert fresh.verify() == []
