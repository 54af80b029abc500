"""Which rows an epoch draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from featcache.heads.config import HeadConfig
from featcache.heads.training.samplers import prefetched, sampled
from tests.builders import scaled_clusters
from tests.heads.training.problems import BASE, TRAIN


@pytest.mark.usefixtures("either")
def test_balanced_draws():
    """Every class that has rows is drawn equally often, only by its own rows, and another seed draws others."""
    y = torch.from_numpy(scaled_clusters(rows=20_000).y)
    (first, second) = sampled(y, HeadConfig(epochs=2, sampler="balanced"))
    share = torch.bincount(y[first], minlength=5) / len(y)
    np.testing.assert_allclose(share, [0.25, 0.25, 0.25, 0, 0.25], atol=0.02)
    assert not torch.equal(first, second)
    assert len(first) == len(y)
    rows_of_one = torch.bincount(first[y[first] == 1], minlength=len(y))[y == 1]
    assert (rows_of_one > 0).float().mean() > 0.5


@pytest.mark.parametrize("sampler", ["uniform", "balanced"])
def test_draws_that_are_made_ahead(sampler):
    """A thread that draws ahead draws the same, and one that is left early ends."""
    config = replace(BASE, sampler=sampler)
    y = torch.from_numpy(TRAIN.y)
    made = list(prefetched(sampled(y, config)))
    assert len(made) == config.epochs
    assert all(map(torch.equal, made, sampled(y, config)))
    left = prefetched(sampled(y, config))
    assert torch.equal(next(left), made[0])
    left.close()
