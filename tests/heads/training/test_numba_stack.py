"""Heads by our own loops are those by torch's operations, whatever the settings and however many threads take part."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads.config import SETTINGS, HeadConfig
from featcache.heads.training import numba_stack
from featcache.heads.training.kernels import HAS_BFLOAT16
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.optimizers import ADAM_OPTIMIZERS, OPTIMIZER_CLASSES, STACK_ORDER, Adam
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.builders import scaled_clusters
from tests.heads.conftest import share_every_step, steps_by
from tests.heads.training.problems import BASE, TRAIN, VAL, a_config, apart
from tests.heads.training.ways import trained


@settings(max_examples=25, deadline=None)
@given(
    configs=st.lists(a_config, min_size=1, max_size=5),
    members=st.integers(1, 5),
    # Where a slope is 0 but for rounding, Adam takes a whole step: on a batch of all rows, standardised, or with a
    # fifth of its rows in a class.
    rows=st.integers(70, 300).filter(lambda rows: rows % 64 % 5),
)
def test_equal_torchs_operations(configs, members, rows):
    """Any stack, on any number of rows, shared by one to five threads: weights to 2e-5, and the same history."""
    train = scaled_clusters(rows=rows)
    with steps_by(TorchStack):
        by_torch = train_heads(train, VAL, configs)
    for head, other in zip(trained(configs, members, train), by_torch, strict=True):
        assert apart(head, other.weight, other.bias) < 2e-5  # Adam's first steps magnify the last bit
        assert (head.best_epoch, len(head.history)) == (other.best_epoch, len(other.history))
        for one, two in zip(head.history, other.history, strict=True):
            assert one.train.loss == pytest.approx(two.train.loss, rel=1e-5, abs=1e-6)
            assert one.val.loss == pytest.approx(two.val.loss, rel=1e-5, abs=1e-6)
            assert one.train.accuracy == pytest.approx(two.train.accuracy, abs=2 / rows)


@pytest.mark.parametrize("unordered", [True, False])
def test_an_optimizer_without_a_loop_is_refused(monkeypatch, unordered):
    """A new optimizer is trained by no other one's loop: neither unordered in a stack, nor after Adam's columns."""
    config = replace(BASE)
    object.__setattr__(config, "optimizer", "lion")
    if not unordered:
        monkeypatch.setattr("featcache.heads.training.stack.STACK_ORDER", (*STACK_ORDER, "lion"))
    with pytest.raises(ValueError, match="not in tuple" if unordered else "no optimizer lion"):
        trained([config], 1, TRAIN)


def test_every_declared_optimizer_has_its_place():
    """Those of the declaration are those that the stacks know, Adam's before all others."""
    assert set(STACK_ORDER) == set(OPTIMIZER_CLASSES) == set(SETTINGS["optimizer"].choices)
    assert STACK_ORDER[: len(ADAM_OPTIMIZERS)] == ADAM_OPTIMIZERS
    assert [name for name in STACK_ORDER if OPTIMIZER_CLASSES[name] is Adam] == list(ADAM_OPTIMIZERS)


@pytest.mark.parametrize("standardize", [False, True])
def test_threads_change_nothing(standardize):
    """By three threads, whose slices differ by a block of rows, a head has the bits that it has by one; and again."""
    config = HeadConfig(
        epochs=4, batch_size=256, lr=0.1, class_weights="balanced", label_smoothing=0.1, standardize=standardize
    )
    train = scaled_clusters(rows=1_000)
    (one,), (three,), (again,) = (trained([config], members, train) for members in (1, 3, 3))
    np.testing.assert_array_equal(three.weight, one.weight)
    np.testing.assert_array_equal(three.bias, one.bias)
    assert three.history == one.history
    np.testing.assert_array_equal(three.weight, again.weight)
    assert three.history == again.history


def test_more_threads_than_rows():
    """A last batch of two rows for five threads, and weights of fewer rows than threads."""
    train = scaled_clusters(rows=66, dim=1)
    (one,), (five,) = (trained([replace(BASE, clip_norm=None)], members, train, None) for members in (1, 5))
    np.testing.assert_array_equal(five.weight, one.weight)
    np.testing.assert_array_equal(five.bias, one.bias)


def test_calls_of_one_step(monkeypatch):
    """Asked for step by step, heads have the bits that they have when a whole epoch is asked for."""
    configs = [BASE, replace(BASE, optimizer="adam", standardize=True)]
    if HAS_BFLOAT16:
        configs.append(replace(BASE, matmul_precision="bf16"))
    whole = trained(configs, 2, val=None)
    monkeypatch.setattr("featcache.heads.training.numba_stack.CALL_MULTIPLICATIONS", 1)
    for head, other in zip(trained(configs, 2, val=None), whole, strict=True):
        np.testing.assert_array_equal(head.weight, other.weight)
        assert head.history == other.history


@pytest.mark.parametrize("at", [1e30, np.inf, np.nan])
def test_rows_that_no_number_fits(at):
    """A value that overflows ends in a diverged head, by the loops as by torch's operations."""
    x = TRAIN.x.copy()
    x[17, 3] = at
    spoilt = replace(TRAIN, x=x)
    with steps_by(TorchStack):
        (by_torch,) = train_heads(spoilt, None, [replace(BASE, clip_norm=None)])
    (head,) = trained([replace(BASE, clip_norm=None)], 2, spoilt, None)
    assert by_torch.diverged
    assert head.diverged


def test_a_member_that_fails(monkeypatch):
    """What one member's share raises is raised, though the others wait for it in the middle of a step."""
    train_steps = numba_stack.train_steps

    def fails(member, *rest):
        if member == 1 and rest[-3]:
            raise MemoryError("of member 1")
        train_steps(member, *rest)

    monkeypatch.setattr(numba_stack, "train_steps", fails)
    with pytest.raises(MemoryError, match="of member 1"):
        trained([BASE], 3)


def test_trainings_in_several_threads_at_once():
    """Each has the bits that it has alone."""
    configs = [replace(BASE, seed=seed) for seed in range(3)]
    alone = [trained([config], 2)[0] for config in configs]
    with pytest.MonkeyPatch.context() as patch, steps_by(NumbaStack), ThreadPoolExecutor(3) as pool:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        share_every_step(patch)
        together = list(pool.map(lambda config: train_heads(TRAIN, VAL, [config])[0], configs))
    for head, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(head.weight, other.weight)
