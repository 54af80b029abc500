"""Every head is what its formulas give in float64, by torch's operations and by our loops, whatever the threads."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads.training.train import train_heads
from tests.builders import features
from tests.heads.training.ways import STRAY, a_way, an_optimizer, by, clusters, few, hold, make_config


@few
@given(an_optimizer, st.sampled_from(["cosine", "constant"]), st.sampled_from([0.0, 1.0, 2.5]), a_way)
def test_optimizers_and_schedules(optimizer, schedule, warmup, way):
    """Every optimizer under every schedule and warm-up takes the reference's steps."""
    hold(clusters(), make_config(**optimizer, schedule=schedule, warmup=warmup), way)


@few
@given(
    an_optimizer,
    st.sampled_from(["none", "balanced"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(["uniform", "balanced"]),
    a_way,
)
def test_losses(optimizer, weights, adjustment, smoothing, sampler, way):
    """Every loss, with every optimizer, has the reference's gradient."""
    of = make_config(
        **optimizer, class_weights=weights, logit_adjustment=adjustment, label_smoothing=smoothing, sampler=sampler
    )
    hold(clusters(absent=(2,)), of, way)


@few
@given(an_optimizer, st.sampled_from([None, 1e-3, 0.1, 1.0, 1e6]), a_way)
def test_clipping(optimizer, clip_norm, way):
    """A head's gradient is clipped by its whole norm, or not at all."""
    hold(clusters(), make_config(**optimizer, clip_norm=clip_norm), way)


@few
@given(an_optimizer, st.sampled_from([(1, 64), (65, 64), (129, 64), (3, 1), (64, 64), (50, 1024)]), a_way)
def test_numbers_of_rows(optimizer, shape, way):
    """One row, a last batch of one row, batches of one row, one whole batch and less than one train as any others."""
    rows, batch_size = shape
    hold(clusters(rows=rows), make_config(**optimizer, batch_size=batch_size), way)


@few
@given(an_optimizer, st.sampled_from([1, 2, 15, 16, 17, 31]), st.booleans(), a_way)
def test_widths(optimizer, dim, standardize, way):
    """One dimension, and as many as fill a vector less or more one, train as any others."""
    hold(clusters(dim=dim), make_config(**optimizer, standardize=standardize), way)


@settings(max_examples=4, deadline=None)
@given(an_optimizer, st.sampled_from(["none", "balanced"]), a_way)
def test_a_thousand_classes(optimizer, weights, way):
    """A thousand classes, most of them without a row, are the reference's."""
    rng = np.random.default_rng(0)
    train = features(rng.standard_normal((130, 7)), rng.integers(0, 60, 130) * 16, 1_000)
    hold(train, make_config(**optimizer, class_weights=weights, epochs=2), way)


@few
@given(an_optimizer, st.sampled_from([1e4, 1e-4]), a_way)
def test_scales(optimizer, scale, way):
    """Features ten thousand times as large or as small, not standardised, take the reference's steps."""
    train = clusters()
    # At 1e4 logits are in the thousands: a float32 of 1,000 is good to 6e-5, p to as much, and there are 16 steps. Of
    # the 24 settings one hangs on a row whose two highest logits nearly tie: SGD at 0.01 without momentum, with decay.
    # There torch's own modules stray by 5e-4, these by 5e-4 to 3e-3; by at most 1e-4 everywhere else.
    close = optimizer["optimizer"] == "sgd" and optimizer["momentum"] == 0
    hold(
        replace(train, x=train.x * np.float32(scale)),
        make_config(**optimizer),
        way,
        bound=(1e-2 if close else 1e-3) if scale > 1 else STRAY,
        scale=scale,
    )


@few
@given(an_optimizer, st.booleans(), a_way)
def test_duplicate_and_constant_features(optimizer, standardize, way):
    """A feature that is there twice has its weights twice, and one that is constant is the reference's."""
    train = clusters()
    x = train.x.copy()
    x[:, 3], x[:, 5] = x[:, 1], 2.5
    of = make_config(**optimizer, standardize=standardize)
    hold(replace(train, x=x), of, way)
    with by(way):
        (head,) = train_heads(replace(train, x=x), None, [of])
    np.testing.assert_allclose(head.weight[:, 3], head.weight[:, 1], rtol=1e-4, atol=1e-6)
