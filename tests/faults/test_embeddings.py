"""A trunk that gives no numbers, or numbers that a store cannot hold."""

from pathlib import Path

import numpy as np
import pytest
import torch

from featcache import DataError, FeatcacheError, MachineError
from tests.faults.world import World


def scaled(world: World, factor: float, path: Path) -> str:
    """The same trunk with every embedding multiplied."""
    state = torch.load(world.weights, weights_only=True)
    for name in ("encoder.ln.weight", "encoder.ln.bias"):
        state[name] = state[name] * factor
    torch.save(state, path)
    return str(path)


@pytest.mark.fault(11)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_hold_no_numbers(fresh, tmp_path, saw, value):
    """One NaN or inf in their last layer: refused before any image is embedded."""
    state = torch.load(fresh.weights, weights_only=True)
    state["encoder.ln.bias"][3] = value
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(MachineError, match="hold nan or inf"):
        fresh.extract(weights=str(tmp_path / "broken.pth"))
    saw(f"{value} in the weights", "exit 5, the tensor named")


@pytest.mark.fault(11)
def test_a_trunk_that_gives_no_numbers(fresh, tmp_path, saw):
    """Every embedding overflows float32: no row is stored, the run ends with 4 and names images."""
    fresh.extract()
    smallest = float(np.abs(fresh.load().x).max(axis=1).min())
    weights = scaled(fresh, 3.5e38 / smallest, tmp_path / "large.pth")
    other = World(fresh.images, tmp_path / "other", fresh.weights)
    with pytest.raises(DataError, match=r"(?s)images.*train/0/0000.png: .*not finite"):
        other.extract(weights=weights)
    assert other.committed() == {}
    assert other.verify() == []
    saw("inf out of the trunk, for every image", "no row stored, exit 4, the images named", 6)


@pytest.mark.fault(11)
def test_one_row_too_large_for_float16_is_named(fresh, tmp_path, saw):
    """Where the trunk's values lie around 65504: those that float16 cannot hold are failures, the others are stored as
    they are; float32 holds all.
    """
    fresh.extract()
    largest = np.abs(fresh.load().x).max(axis=1)
    weights = scaled(fresh, 65504 / float(np.median(largest)), tmp_path / "large.pth")
    half = fresh.extract(weights=weights, stored="float16", max_bad=0.9)[0]
    full = fresh.extract(weights=weights)[0]
    x = fresh.load(store=full.store).x
    over = {
        path for path, row in zip(fresh.load(store=full.store).paths, np.abs(x).max(axis=1), strict=True) if row > 65504
    }
    assert {path for path, _ in half.failures} == over
    assert 0 < len(over) < 6
    kept = fresh.load(store=half.store)
    assert np.isfinite(kept.x).all()
    saw("an embedding that float16 cannot hold", "a failure, the image named; the others stored", len(over))
    with pytest.raises(FeatcacheError):
        fresh.extract(weights=weights, stored="float16", max_bad=0.0)
