"""verify --deep: a sample of images is embedded anew, where images and weights are to be had."""

import shutil

import numpy as np
import pytest
import torch

from featcache import MachineError
from featcache.files.sealed import seal_line
from featcache.maintenance.reembed import reembed_sample
from featcache.maintenance.verification import Verification, run_verification
from featcache.store import commits, hdf5
from featcache.store.shard import build_shard
from featcache.trunks.trunk import Trunk
from tests.maintenance.conftest import Made


def deep(made: Made, **options) -> Verification:
    found = run_verification(cache=made.cache)
    reembed_sample(found, cache=made.cache, device="cpu", **{"batch_size": 4, "sample": 5, **options})
    return found


def test_an_honest_store_agrees(made):
    """The weights are found where the cache remembers them; the sample agrees, and a note says how closely."""
    found = deep(made)
    assert found.problems == []
    assert found.compared == 5
    assert ["5 images compared" in note.message for note in found.notes] == [True]


def test_rows_that_no_trunk_made_are_found(made):
    """A cache whose hashes are all right, and whose embeddings are made up: `--deep` alone can tell."""
    log = made.store / commits.LOG_NAME
    first, *rest = log.read_bytes().splitlines(keepends=True)
    assert first.startswith(b'{"add"')
    arrays = hdf5.parse_file(made.shards[0].read_bytes(), {"embeddings": ("float32", 2), "digests": ("uint8", 2)})
    part, data = build_shard(0, arrays["digests"], np.float32(1.01) * arrays["embeddings"])
    (made.store / "shards" / part.name).write_bytes(data)
    fields = {name: getattr(part, name) for name in part.__slots__ if getattr(part, name) is not None}
    log.write_bytes(b"".join([seal_line({"add": fields}), *rest]))
    (problem,) = deep(made, sample=17).problems
    assert problem.kind == "drift"
    assert "comes out differently" in problem.message


def test_what_cannot_be_compared_is_said(made, tmp_path):
    """Images gone, or weights gone: a note, no problem; weights that are not the store's are not taken for them."""
    moved = Made(made.cache, made.images, tmp_path / "moved.pth")
    (made.cache / "weights.json").unlink()
    assert "name them with --weights" in deep(moved).notes[-1].message
    shutil.copy(made.weights, moved.weights)
    assert deep(moved, weights=str(moved.weights)).compared == 5
    state = torch.load(made.weights)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.pth")
    assert "other.pth are others" in deep(moved, weights=str(tmp_path / "other.pth")).notes[-1].message
    found = deep(moved, weights=str(tmp_path / "none.pth"))
    assert "no such file" in found.notes[-1].message
    assert MachineError.exit_code == 5


def test_images_that_are_gone_are_said(made, tmp_path, monkeypatch):
    """None is where it was: nothing compared, and the trunk is not even asked."""
    gone = shutil.move(made.images, tmp_path / "gone")
    monkeypatch.setattr(Trunk, "embed", lambda *_: pytest.fail("embedded"))
    try:
        found = deep(made)
    finally:
        shutil.move(gone, made.images)
    assert (found.compared, found.problems) == (0, [])
    assert "none of the images" in found.notes[-1].message
