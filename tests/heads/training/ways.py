"""Every way to train a head, by either stack and so many threads, held against the reference.

Bounds. A training in float32 strays from the one in float64: by some units in the last place a step where it is smooth
(SGD), by more where a gradient that is nearly 0 decides a whole step (Adam: a step is d / |d|, so that an entry of
which rounding leaves one digit moves a weight by a tenth of its step). So most tests hold a norm over all entries.
`STRAY` was found by running: the largest seen on these problems, with some room.
"""

from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.samplers import sampled
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters
from tests.heads.conftest import share_every_step, steps_by
from tests.heads.training import reference
from tests.heads.training.problems import TRAIN, VAL

WAYS = [(kind, threads) for threads in (1, 2, 4) for kind in (TorchStack, NumbaStack)]


STRAY = 1e-5


a_way = st.sampled_from(WAYS)


an_optimizer = st.fixed_dictionaries(
    {
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "weight_decay": st.sampled_from([0.0, 0.01]),
        "momentum": st.sampled_from([0.0, 0.9]),
        "lr": st.sampled_from([0.01, 0.05]),
    }
)


few = settings(max_examples=8, deadline=None)


@contextmanager
def by(way):
    """Heads are trained by this kind of stack and so many threads."""
    kind, threads = way
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, steps_by(kind):
        share_every_step(patch)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def clusters(rows=203, dim=9, classes=4, seed=0, absent=()) -> Features:
    """Gaussian clusters that overlap, of unequal size."""
    present = [label for label in range(classes) if label not in absent]
    return uneven_clusters(rows, dim, classes, seed, present=present, offset=0.3)


def make_config(**changes) -> HeadConfig:
    return HeadConfig(**{"epochs": 4, "batch_size": 64, "lr": 0.05, **changes})


def expected(train: Features, of: HeadConfig) -> reference.Reference:
    orders = [order.numpy() for order in sampled(torch.from_numpy(train.y), of)]
    return reference.train(train.x, train.y, len(train.classes), orders, **asdict(of))


def stray(head, other, scale=1.0) -> float:
    """The distance from the reference in relative norm; each dimension's weights times its scale."""
    mine = np.column_stack([head.weight.astype(np.float64) * scale, head.bias])
    true = np.column_stack([other.weight * scale, other.bias])
    return float(np.linalg.norm(mine - true) / max(np.linalg.norm(true), 1e-30))


def hold(train: Features, of: HeadConfig, way, bound=STRAY, scale=1.0) -> None:
    """The head of this training is the reference's."""
    with by(way):
        (head,) = train_heads(train, None, [of])
    assert stray(head, expected(train, of), scale) < bound


def trained(configs, members, train=TRAIN, val=VAL):
    """Train heads by so many threads of a team."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: members)
        share_every_step(patch)
        with steps_by(NumbaStack):
            return train_heads(train, val, configs)
