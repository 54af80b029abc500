"""A head on the CPU equals itself, to the bit: alone and among others, by one thread and by several."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from featcache.heads.config import HeadConfig
from featcache.heads.linear import best_of
from featcache.heads.training.kernels import HAS_BFLOAT16
from featcache.heads.training.kernels.thread_team import ThreadTeam
from featcache.heads.training.train import train_heads
from tests.builders import scaled_clusters
from tests.heads.conftest import share_every_step

# Batches of 256, 256 and 88 rows, which four threads share; rows that end within a vector.
TRAIN, VAL = scaled_clusters(rows=600, dim=37), scaled_clusters(rows=300, dim=37, seed=1)
BASE = HeadConfig(epochs=3, batch_size=256)
PRECISIONS = ["fp32", "bf16"] if HAS_BFLOAT16 else ["fp32"]

a_head = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-3, 3),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "momentum": st.sampled_from([0.0, 0.9]),
        "weight_decay": st.sampled_from([0.0, 1e-4, 0.01]),
        "schedule": st.sampled_from(["cosine", "constant", "plateau"]),
        "plateau_epochs": st.just(1),
        "patience": st.sampled_from([None, 1]),
        "class_weights": st.sampled_from(["none", "balanced"]),
        "logit_adjustment": st.sampled_from([0.0, 1.0]),
        "label_smoothing": st.sampled_from([0.0, 0.1]),
        "clip_norm": st.sampled_from([None, 0.1, 1.0]),
    }
)


@pytest.fixture(autouse=True, scope="module")
def shared_steps():
    """However small a step, threads share it."""
    with pytest.MonkeyPatch.context() as patch:
        share_every_step(patch)
        yield


def trained(configs, threads):
    """Train heads by so many threads, of BLAS too."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            return train_heads(TRAIN, VAL, configs)
    finally:
        torch.set_num_threads(before)


def assert_same_bits(head, other):
    """Weights, scores, history and the epoch that was kept are the same."""
    assert head.config == other.config
    np.testing.assert_array_equal(head.weight, other.weight)
    np.testing.assert_array_equal(head.bias, other.bias)
    assert repr((head.train, head.val, head.history)) == repr((other.train, other.val, other.history))
    assert (head.best_epoch, head.steps) == (other.best_epoch, other.steps)


@settings(max_examples=10, deadline=None)
@given(
    heads=st.lists(a_head, min_size=1, max_size=40),
    threads=st.sampled_from([1, 2, 4]),
    standardize=st.booleans(),
    sampler=st.sampled_from(["uniform", "balanced"]),
    precision=st.sampled_from(PRECISIONS),
)
def test_a_head_equals_itself(heads, threads, standardize, sampler, precision):
    """Each of 1 to 40 heads of any settings, by 1, 2 or 4 threads, has the bits that it has alone by one thread."""
    base = replace(BASE, standardize=standardize, sampler=sampler, matmul_precision=precision)
    configs = [replace(base, **head) for head in heads]
    together = trained(configs, threads)
    alone = [trained([config], 1)[0] for config in configs]
    for head, other in zip(together, alone, strict=True):
        assert_same_bits(head, other)
    for select in ("macro_recall", "accuracy", "loss"):
        assert best_of(together, select) == best_of(alone, select)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [1, 2, 3, 6, 25, 40])
def test_high_rates_in_stacks_of_every_width(width, precision):
    """At rates up to 3, with weight decay and clipping, the first head of a stack is the one that it is alone."""
    rates = [0.3, *np.geomspace(0.001, 3, 39)][:width]
    base = replace(BASE, epochs=20, weight_decay=0.01, matmul_precision=precision)
    configs = [replace(base, lr=float(lr)) for lr in rates]
    (alone,) = trained(configs[:1], 1)
    for threads in (1, 2, 4):
        assert_same_bits(trained(configs, threads)[0], alone)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("classes", "dim", "batch_size"), [(2, 5, 600), (34, 48, 256), (101, 16, 200), (7, 1_100, 300), (3, 2_100, 64)]
)
def test_sizes(classes, dim, batch_size, precision):
    """Whatever the classes, the width of an embedding and the batch, four heads by three threads are those alone."""
    train = scaled_clusters(rows=600, dim=dim, classes=classes)
    base = replace(BASE, batch_size=batch_size, matmul_precision=precision)
    configs = [replace(base, lr=lr) for lr in (0.01, 0.1, 0.5, 2.0)]
    torch.set_num_threads(3)
    together = train_heads(train, None, configs)
    torch.set_num_threads(1)
    for head, config in zip(together, configs, strict=True):
        assert_same_bits(head, train_heads(train, None, [config])[0])


def test_members_score_in_memory_of_their_own(monkeypatch):
    """No member that scores writes where another does, in a short batch at the end either: none waits for another."""
    run, written = ThreadTeam.run, defaultdict(set)

    def run_one_after_another(team, task):
        if task.func.__name__ != "_score_rows":
            return run(team, task)
        batch = task.args[0].batch
        for member in range(team.members):
            before = batch.copy()
            batch[:, : TRAIN.x.shape[1]] = np.nan
            task(member)
            written[member].update(np.flatnonzero(~np.isnan(batch[:, 0])).tolist())
            batch[:] = before
        return None

    monkeypatch.setattr(ThreadTeam, "run", run_one_after_another)
    trained([BASE], 3)
    assert sum(map(len, written.values())) == len(set().union(*written.values())) == BASE.batch_size
