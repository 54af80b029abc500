"""Heads that standardize, and what they make of constant features."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from featcache.features.in_memory import Features
from featcache.features.streamed import Streamed, open_streamed
from featcache.heads.config import HeadConfig
from featcache.heads.scoring import score_split
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.standardization import compute_statistics
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.builders import extracted, features, listing, new_store, reopen
from tests.heads.training.problems import BASE, TRAIN, VAL
from tests.heads.training.ways import (
    STRAY,
    a_way,
    an_optimizer,
    by,
    clusters,
    expected,
    few,
    hold,
    make_config,
    trained,
)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 300),
    centre=st.sampled_from([0.0, 3.7, 1e4, 1e6]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
    odd=st.booleans(),
    seed=st.integers(0, 9),
)
def test_moments(rows, centre, scale, odd, seed):
    """Mean and deviation are scikit-learn's StandardScaler's on the rows in float64, constants included."""
    x = (centre + scale * np.random.default_rng(seed).standard_normal((rows, 3))).astype(np.float32)
    x[0, 0] += odd
    statistics = compute_statistics(features(x, np.arange(rows) % 2, 2), [HeadConfig(standardize=True)])
    scaler = StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(statistics.mean, scaler.mean_, rtol=1e-12, atol=1e-12 * scale)  # sums of float64s round
    np.testing.assert_allclose(statistics.std, scaler.scale_, rtol=1e-9)


@few
@given(an_optimizer, st.sampled_from([0.0, 3.7, -1e3]), st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e15]), a_way)
def test_standardised(optimizer, centre, scale, way):
    """A head that standardises is the reference on StandardScaler's rows, whatever their scale and centre."""
    train = clusters()
    x = ((train.x + centre) * np.float32(scale)).astype(np.float32)
    hold(replace(train, x=x), make_config(**optimizer, standardize=True), way, scale=scale)


@pytest.mark.usefixtures("either")
def test_constant_dimensions_standardise_to_nothing():
    """A dimension that never changes has no part in a head that standardises, and no nan comes of it."""
    x = TRAIN.x.copy()
    x[:, 3] = 7
    (head,) = train_heads(replace(TRAIN, x=x), None, [replace(BASE, standardize=True)])
    assert np.isfinite(head.weight).all()
    assert np.abs(head.weight[:, 3]).max() < 1e-5


@few
@given(
    an_optimizer,
    st.sampled_from([3.7, -0.1, 1e-30, 1e4, 1e6, 16_777_217.0, 1e30]),
    st.integers(1, 400),
    st.sampled_from([16, 64, 1024]),
    a_way,
)
def test_what_is_constant_in_training_has_no_weight(optimizer, constant, rows, batch_size, way):
    """A feature that never changes in training has a weight of exactly 0 in a head that standardises."""
    train = clusters(rows=rows)
    x = train.x.copy()
    x[:, 4] = constant
    with by(way):
        (head,) = train_heads(
            replace(train, x=x), None, [make_config(**optimizer, standardize=True, batch_size=batch_size)]
        )
    assert (head.weight[:, 4] == 0).all()
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()


def on_disk(train: Features, cache) -> Streamed:
    """The same rows in a store, to be read in windows of about a hundred."""
    store = new_store(cache)
    names = np.random.default_rng(0).integers(0, 256, (len(train.y), 32), dtype=np.uint8)
    with store.writer() as writer:
        writer.append(names, train.x)
        writer.commit(extracted(listing(train.y, classes=train.classes), names))
    return open_streamed(reopen(store), ("toy", "all", "train"), window_bytes=4_000)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("kind", [TorchStack, NumbaStack])
def test_what_is_constant_on_disk_has_no_weight(optimizer, kind, tmp_path):
    """Read from disk, a feature that never changes has a weight of exactly 0, and the scores are the saved head's."""
    train = clusters(rows=300, classes=3)
    train.x[:, 4] = 3.7
    streamed = on_disk(train, tmp_path)
    with by((kind, 2)):
        (head,) = train_heads(streamed, None, [make_config(optimizer=optimizer, standardize=True)])
    assert (head.weight[:, 4] == 0).all()
    assert head.train.accuracy == score_split(head.logits, train).accuracy
    assert head.train.loss == pytest.approx(score_split(head.logits, train).loss, rel=1e-6)


@few
@given(an_optimizer, st.sampled_from([0.0, 3.7, 1e4]), a_way)
def test_what_is_constant_but_for_one_row(optimizer, constant, way):
    """A feature that differs in one row of 400 is standardised as it is, and not as rounding leaves it."""
    train = clusters(rows=400)
    x = train.x.copy()
    x[:, 4] = constant
    x[17, 4] += 1
    spoilt, of = replace(train, x=x), make_config(**optimizer, standardize=True)
    with by(way):
        (head,) = train_heads(spoilt, None, [of])
    other = expected(spoilt, of)
    std = StandardScaler().fit(x.astype(np.float64)).scale_
    # The bias on rows as they are is a float32 of 1e4 times a weight: held without it.
    apart = np.linalg.norm((head.weight - other.weight) * std) / np.linalg.norm(other.weight * std)
    assert apart < STRAY


def test_val_changes_no_weight_of_a_head_that_standardises():
    """A head that is scored on val after each epoch has the bits of one that is not."""
    config = replace(BASE, standardize=True)
    (blind,), (seeing,) = (trained([config], 2, TRAIN, val) for val in (None, VAL))
    np.testing.assert_array_equal(blind.weight, seeing.weight)
    np.testing.assert_array_equal(blind.bias, seeing.bias)
