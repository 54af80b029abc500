"""A head of a stack equals torch's own way and itself alone, and no neighbour disturbs it, whatever its settings."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads.config import HeadConfig
from featcache.heads.linear import best_of
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters
from tests.heads.training.problems import (
    BASE,
    CONFIGS,
    OPTIONS,
    TRAIN,
    VAL,
    a_config,
    apart,
    torchs_sgd,
    torchs_training,
)

pytestmark = pytest.mark.usefixtures("either")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_equals_torch_optim(config):
    """A head equals nn.Linear trained by torch.optim.SGD, cosine and clip_grad_norm_ on the same batches."""
    train = uneven_clusters()
    (head,) = train_heads(train, None, [config])
    layer, _ = torchs_sgd(train, config)
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


def test_equals_torch_optim_over_many_steps():
    """After 1,000 steps at the recipe's width, a head still equals torch's own to 1e-6."""
    train = uneven_clusters(rows=2_000, dim=768, classes=34)
    config = HeadConfig(batch_size=160, epochs=77)
    assert config.steps(2_000) == 1_001
    (head,) = train_heads(train, None, [config])
    layer, _ = torchs_sgd(train, config)
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


@pytest.mark.parametrize("option", OPTIONS)
def test_equals_torch(option):
    """A head with this option equals the same head trained by torch.optim and F.cross_entropy, to 1e-6."""
    config = replace(BASE, **OPTIONS[option])
    (head,) = train_heads(TRAIN, None, [config])
    bound = 1e-5 if config.standardize else 1e-6  # torch's own standardised rows are rounded before it begins
    assert apart(head, *torchs_training(TRAIN, config)) < bound


def test_bias_has_no_decay():
    """Weight decay leaves the bias free: rows without content still learn the class shares."""
    train = uneven_clusters()
    blank = replace(train, x=np.zeros_like(train.x))
    # Each alone: side by side, BLAS adds the columns further right in another order.
    heads = [train_heads(blank, None, [replace(CONFIGS[1], weight_decay=w)])[0] for w in (0.0, 10.0)]
    np.testing.assert_array_equal(heads[0].bias, heads[1].bias)
    assert np.ptp(heads[1].bias) > 0.5


def test_partial_batch_is_kept():
    """Rows of a last, smaller batch are learnt from, and weigh as a batch of their own size."""
    train = uneven_clusters(rows=65)
    config = HeadConfig(lr=0.1, batch_size=64, epochs=1)
    (head,) = train_heads(train, None, [config])
    layer, _ = torchs_sgd(train, config)
    assert head.steps == 2
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    lrs=st.lists(st.sampled_from([0.001, 0.01, 0.1]), min_size=1, max_size=4),
    decay=st.sampled_from([0.0, 0.01]),
    clip=st.sampled_from([None, 0.1, 1.0]),
    rows=st.integers(1, 90),
    batch=st.integers(8, 40),
    seed=st.integers(0, 5),
)
def test_side_by_side_equals_alone(either, lrs, decay, clip, rows, batch, seed):
    """Heads trained side by side equal the same heads trained alone, whatever their settings; by our loops, exactly."""
    train = uneven_clusters(rows=rows)
    configs = [HeadConfig(lr=lr, batch_size=batch, epochs=3, seed=seed) for lr in lrs]
    configs.append(HeadConfig(lr=0.05, batch_size=batch, epochs=3, seed=seed, weight_decay=decay, clip_norm=clip))
    for head, config in zip(train_heads(train, None, configs), configs, strict=True):
        (alone,) = train_heads(train, None, [config])
        assert head.config == config
        assert apart(head, alone.weight, alone.bias) <= (0 if either is NumbaStack else 1e-6)


@settings(max_examples=25, deadline=None)
@given(configs=st.lists(a_config, min_size=2, max_size=6), flip=st.randoms(use_true_random=False))
def test_stacked_equals_alone_and_permuting_heads_permutes_results(either, configs, flip):
    """Whatever heads stand side by side, and in whatever order, each equals itself trained alone, history included.

    By our loops, exactly.
    """
    order = list(range(len(configs)))
    flip.shuffle(order)
    together = train_heads(TRAIN, VAL, configs)
    permuted = train_heads(TRAIN, VAL, [configs[index] for index in order])
    for place, index in enumerate(order):
        (alone,) = train_heads(TRAIN, VAL, [configs[index]])
        for head in (together[index], permuted[place]):
            assert head.config == configs[index]
            assert (head.best_epoch, len(head.history)) == (alone.best_epoch, len(alone.history))
            if either is NumbaStack:
                assert (head.history, apart(head, alone.weight, alone.bias)) == (alone.history, 0)
            assert apart(head, alone.weight, alone.bias) < 2e-5  # Adam's first steps magnify the last bit
            np.testing.assert_allclose(
                [row.train.loss for row in head.history], [row.train.loss for row in alone.history], rtol=1e-5
            )


def test_order_of_heads_does_not_matter(either):
    """Heads given in another order come back in that order, with the same weights; by our loops, to the bit."""
    train = uneven_clusters()
    there, back = train_heads(train, None, CONFIGS), train_heads(train, None, CONFIGS[::-1])
    for one, other in zip(there, back[::-1], strict=True):
        assert apart(one, other.weight, other.bias) <= (0 if either is NumbaStack else 1e-6)


def test_diverging_neighbour_changes_nothing():
    """A head that diverges to nan is reported so, and its neighbours keep every bit."""
    train, val = uneven_clusters(), uneven_clusters(seed=1)
    calm, middle, wild = (
        CONFIGS[0],
        replace(CONFIGS[0], lr=0.01),
        replace(CONFIGS[3], lr=1e30, weight_decay=1.0),
    )
    usual = train_heads(train, val, [calm, replace(middle, weight_decay=1e-3), middle])
    beside = train_heads(train, val, [calm, wild, middle])
    assert math.isnan(beside[1].train.loss)
    assert math.isnan(beside[1].history[-1].train.loss)
    assert beside[1].diverged
    for one, other in ((usual[0], beside[0]), (usual[2], beside[2])):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
        assert one.history == other.history
    assert best_of(beside) in (0, 2)


@settings(max_examples=15, deadline=None)
@given(configs=st.lists(a_config, min_size=1, max_size=4), wild=a_config, place=st.integers(0, 4))
def test_a_diverging_head_changes_no_others_bits(configs, wild, place):
    """Beside a head that ends in nan every other one has the bits that it has beside that head when it is calm."""
    seed, sampler = configs[0].seed, configs[0].sampler
    configs = [replace(config, seed=seed, sampler=sampler) for config in configs]
    calm = replace(wild, seed=seed, sampler=sampler, patience=None)
    mad = replace(calm, lr=1e30, clip_norm=None, optimizer="sgd", weight_decay=1.0, schedule="constant")
    calm = replace(mad, lr=0.01)
    place = min(place, len(configs))
    beside_mad = train_heads(TRAIN, VAL, [*configs[:place], mad, *configs[place:]])
    beside_calm = train_heads(TRAIN, VAL, [*configs[:place], calm, *configs[place:]])
    assert beside_mad.pop(place).diverged
    assert not beside_calm.pop(place).diverged
    for one, other in zip(beside_mad, beside_calm, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
        assert one.history == other.history


def test_same_call_same_bits():
    """The same call gives the same bits, history included; another seed gives others."""
    train, val = uneven_clusters(), uneven_clusters(seed=1)
    once, again = (train_heads(train, val, CONFIGS) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
        assert one.history == other.history
    (reseeded,) = train_heads(train, val, [replace(CONFIGS[0], seed=1)])
    assert not np.array_equal(reseeded.weight, once[0].weight)
