"""Every head is what its formulas give in float64, by torch's operations and by our loops, whatever the threads.

Bounds. A training in float32 strays from the one in float64: by some units in the last place a step where it is smooth
(SGD), by more where a gradient that is nearly 0 decides a whole step (Adam: a step is d / |d|, so that an entry of
which rounding leaves one digit moves a weight by a tenth of its step). So most tests hold a norm over all entries.
`STRAY` was found by running: the largest seen on these problems, with some room.
"""

from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.preprocessing import StandardScaler

from featcache.features.in_memory import Features
from featcache.features.streamed import Streamed, streamed_of
from featcache.heads.config import HeadConfig
from featcache.heads.linear import scores
from featcache.heads.optimum.check import check_head
from featcache.heads.training import kernels
from featcache.heads.training.numba_stack import FusedStack
from featcache.heads.training.samplers import draws
from featcache.heads.training.torch_stack import Stack
from featcache.heads.training.train import moments_of, train_heads
from tests.builders import extracted, features, listing, new_store, reopen, uneven_clusters
from tests.heads import reference
from tests.heads.conftest import steps_by

WAYS = [(kind, threads) for threads in (1, 2, 4) for kind in (Stack, FusedStack)]
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
        patch.setattr("featcache.heads.training.numba_stack.LEAST_SLICE", 1)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def clusters(rows=203, dim=9, classes=4, seed=0, absent=()) -> Features:
    """Gaussian clusters that overlap, of unequal size."""
    present = [label for label in range(classes) if label not in absent]
    return uneven_clusters(rows, dim, classes, seed, present=present, offset=0.3)


def config(**changes) -> HeadConfig:
    return HeadConfig(**{"epochs": 4, "batch_size": 64, "lr": 0.05, **changes})


def expected(train: Features, of: HeadConfig) -> reference.Reference:
    orders = [order.numpy() for order in draws(torch.from_numpy(train.y), of)]
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


@few
@given(an_optimizer, st.sampled_from(["cosine", "constant"]), st.sampled_from([0.0, 1.0, 2.5]), a_way)
def test_optimizers_and_schedules(optimizer, schedule, warmup, way):
    """Every optimizer under every schedule and warm-up takes the reference's steps."""
    hold(clusters(), config(**optimizer, schedule=schedule, warmup=warmup), way)


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
    of = config(
        **optimizer, class_weights=weights, logit_adjustment=adjustment, label_smoothing=smoothing, sampler=sampler
    )
    hold(clusters(absent=(2,)), of, way)


@few
@given(an_optimizer, st.sampled_from([None, 1e-3, 0.1, 1.0, 1e6]), a_way)
def test_clipping(optimizer, clip_norm, way):
    """A head's gradient is clipped by its whole norm, or not at all."""
    hold(clusters(), config(**optimizer, clip_norm=clip_norm), way)


@few
@given(an_optimizer, st.sampled_from([(1, 64), (65, 64), (129, 64), (3, 1), (64, 64), (50, 1024)]), a_way)
def test_numbers_of_rows(optimizer, shape, way):
    """One row, a last batch of one row, batches of one row, one whole batch and less than one train as any others."""
    rows, batch_size = shape
    hold(clusters(rows=rows), config(**optimizer, batch_size=batch_size), way)


@few
@given(an_optimizer, st.sampled_from([1, 2, 15, 16, 17, 31]), st.booleans(), a_way)
def test_widths(optimizer, dim, standardize, way):
    """One dimension, and as many as fill a vector less or more one, train as any others."""
    hold(clusters(dim=dim), config(**optimizer, standardize=standardize), way)


@settings(max_examples=4, deadline=None)
@given(an_optimizer, st.sampled_from(["none", "balanced"]), a_way)
def test_a_thousand_classes(optimizer, weights, way):
    """A thousand classes, most of them without a row, are the reference's."""
    rng = np.random.default_rng(0)
    train = features(rng.standard_normal((130, 7)), rng.integers(0, 60, 130) * 16, 1_000)
    hold(train, config(**optimizer, class_weights=weights, epochs=2), way)


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
        config(**optimizer),
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
    of = config(**optimizer, standardize=standardize)
    hold(replace(train, x=x), of, way)
    with by(way):
        (head,) = train_heads(replace(train, x=x), None, [of])
    np.testing.assert_allclose(head.weight[:, 3], head.weight[:, 1], rtol=1e-4, atol=1e-6)


@few
@given(an_optimizer, st.sampled_from([0.0, 3.7, -1e3]), st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e15]), a_way)
def test_standardised(optimizer, centre, scale, way):
    """A head that standardises is the reference on StandardScaler's rows, whatever their scale and centre."""
    train = clusters()
    x = ((train.x + centre) * np.float32(scale)).astype(np.float32)
    hold(replace(train, x=x), config(**optimizer, standardize=True), way, scale=scale)


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
        (head,) = train_heads(replace(train, x=x), None, [config(**optimizer, standardize=True, batch_size=batch_size)])
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
    return streamed_of(reopen(store), ("toy", "all", "train"), window_bytes=4_000)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("kind", [Stack, FusedStack])
def test_what_is_constant_on_disk_has_no_weight(optimizer, kind, tmp_path):
    """Read from disk, a feature that never changes has a weight of exactly 0, and the scores are the saved head's."""
    train = clusters(rows=300, classes=3)
    train.x[:, 4] = 3.7
    streamed = on_disk(train, tmp_path)
    with by((kind, 2)):
        (head,) = train_heads(streamed, None, [config(optimizer=optimizer, standardize=True)])
    assert (head.weight[:, 4] == 0).all()
    assert head.train.accuracy == scores(head.logits, train).accuracy
    assert head.train.loss == pytest.approx(scores(head.logits, train).loss, rel=1e-6)


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from([1e-4, 1e-2]),
    st.sampled_from(["none", "balanced"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_the_check_reaches_scipys_optimum(decay, weights, adjustment, smoothing, standardize):
    """The optimum of every loss is the lowest value that scipy finds of the formula in float64."""
    train = clusters(absent=())
    of = config(
        weight_decay=decay, class_weights=weights, logit_adjustment=adjustment, label_smoothing=smoothing,
        standardize=standardize,
    )  # fmt: skip
    with by((Stack, 1)):
        (head,) = train_heads(train, None, [of])
    x, y = train.x.astype(np.float64), train.y
    x = StandardScaler().fit_transform(x) if standardize else x
    counts = np.bincount(y)
    weight = len(y) / (len(counts) * counts) if weights == "balanced" else np.ones(len(counts))
    offset = adjustment * np.log(counts / len(y))

    def objective(flat):
        w, b = flat[:-4].reshape(4, -1), flat[-4:]
        logs = np.log(reference.softmax(x @ w.T + b + offset))
        own = weight[y] * -logs[np.arange(len(y)), y]
        even = -(logs * weight).sum(axis=1) / 4
        return ((1 - smoothing) * own + smoothing * even).sum() / weight[y].sum() + decay / 2 * np.square(w).sum()

    lowest = minimize(objective, np.zeros(4 * x.shape[1] + 4), method="L-BFGS-B", options={"maxfun": 10**6}).fun
    assert check_head(head, train, None).objective == pytest.approx(lowest, abs=2e-5)


@few
@given(an_optimizer, st.sampled_from([0.0, 3.7, 1e4]), a_way)
def test_what_is_constant_but_for_one_row(optimizer, constant, way):
    """A feature that differs in one row of 400 is standardised as it is, and not as rounding leaves it."""
    train = clusters(rows=400)
    x = train.x.copy()
    x[:, 4] = constant
    x[17, 4] += 1
    spoilt, of = replace(train, x=x), config(**optimizer, standardize=True)
    with by(way):
        (head,) = train_heads(spoilt, None, [of])
    other = expected(spoilt, of)
    std = StandardScaler().fit(x.astype(np.float64)).scale_
    # The bias on rows as they are is a float32 of 1e4 times a weight: held without it.
    apart = np.linalg.norm((head.weight - other.weight) * std) / np.linalg.norm(other.weight * std)
    assert apart < STRAY


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
    moments = moments_of(features(x, np.arange(rows) % 2, 2), [HeadConfig(standardize=True)])
    scaler = StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(moments.mean, scaler.mean_, rtol=1e-12, atol=1e-12 * scale)  # sums of float64s round
    np.testing.assert_allclose(moments.std, scaler.scale_, rtol=1e-9)


@few
@given(an_optimizer, st.booleans(), a_way)
def test_running_scores(optimizer, standardize, way):
    """The history's train columns are the reference's running loss and hits, the first batch's included."""
    train, of = clusters(), config(**optimizer, standardize=standardize)
    with by(way):
        (head,) = train_heads(train, None, [of])
    orders = [order.numpy() for order in draws(torch.from_numpy(train.y), of)]
    for row, epoch, order in zip(head.history, expected(train, of).epochs, orders, strict=True):
        assert row.train.loss == pytest.approx(epoch.loss, rel=1e-5)
        right = epoch.answers == train.y[order]
        assert row.train.accuracy == pytest.approx(right.mean(), abs=2 / len(order))


def tied(rows=40, dim=8, classes=2) -> Features:
    """Pictures of whole numbers, each once under every label: no head is right on more than one of them."""
    x = np.random.default_rng(0).integers(-3, 3, (rows, dim)).astype(np.float32)
    return features(np.concatenate([x] * classes), np.repeat(np.arange(classes), rows), classes)


@few
@given(an_optimizer, st.booleans(), st.sampled_from([2, 3, 5]), st.sampled_from([1, 7, 64, 1024]), a_way)
def test_ties(optimizer, standardize, classes, batch_size, way):
    """Where every row is there under each label, no score counts more than one of them as right."""
    both = tied(classes=classes)
    of = config(**optimizer, standardize=standardize, batch_size=batch_size)
    with by(way):
        (head,) = train_heads(both, both, [of])
    assert head.train.accuracy == head.val.accuracy == pytest.approx(1 / classes)
    assert all(row.val.accuracy == pytest.approx(1 / classes) for row in head.history)


@few
@given(st.lists(an_optimizer, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, 1, 2]), a_way)
def test_scores_are_those_of_the_saved_head(optimizers, standardize, patience, way):
    """Final scores, and the history's row of the weights that were kept, are to the last bit what the head answers."""
    train, val = clusters(), clusters(seed=1)
    configs = [config(**one, standardize=standardize, patience=patience, epochs=6) for one in optimizers]
    with by(way):
        heads = train_heads(train, val, configs)
    for head in heads:
        assert head.train == scores(head.logits, train)
        assert head.val == scores(head.logits, val)
        assert head.history[(head.best_epoch or len(head.history)) - 1].val == head.val


@few
@given(an_optimizer, st.booleans(), st.sampled_from([1, 2]), a_way)
def test_patience_keeps_the_references_best_epoch(optimizer, standardize, patience, way):
    """The epoch that is kept is the best by the macro recall of float64 heads, and of equals the one of less loss."""
    train, val = clusters(), clusters(seed=1)
    of = config(**{**optimizer, "lr": 0.3}, standardize=standardize, patience=patience, schedule="constant", epochs=8)
    with by(way):
        (head,) = train_heads(train, val, [of])
    merits = []
    for epoch in expected(train, of).epochs[: len(head.history)]:
        z = val.x @ epoch.weight.T + epoch.bias
        right = z.argmax(axis=1) == val.y
        recall = np.mean([right[val.y == label].mean() for label in np.unique(val.y)])
        merits.append((recall, np.log(reference.softmax(z)[np.arange(len(z)), val.y]).mean()))
    best = max(merits)[0]
    # Where a row of val lies on the border, float32 and float64 may differ by it.
    assert merits[head.best_epoch - 1][0] >= best - 1.5 / np.bincount(val.y)[np.unique(val.y)].min()


@pytest.mark.parametrize("way", WAYS)
def test_a_watch_over_heads_of_which_some_standardise(way):
    """Heads that standardise and heads that do not are watched side by side, and each is what it is alone."""
    train, val = clusters(), clusters(seed=1)
    configs = [config(standardize=index % 2 == 0, lr=lr) for index, lr in enumerate((0.01, 0.02, 0.05, 0.1))]
    seen = []

    def watch(epoch, on_val):
        seen.append((epoch, [score.loss for score in on_val]))
        return [1, 2] if epoch == 2 else []

    with by(way):
        heads = train_heads(train, val, configs, watch=watch)
        alone = [train_heads(train, val, [one])[0] for one in configs]
    assert [len(head.history) for head in heads] == [4, 2, 2, 4]
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    for place, (head, other) in enumerate(zip(heads, alone, strict=True)):
        assert seen[0][1][place] == pytest.approx(other.history[0].val.loss, rel=1e-5)
        assert head.history[1].val.loss == pytest.approx(other.history[1].val.loss, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]), min_size=3, max_size=3)))
def test_the_answer_is_numpys_argmax(rows):
    """The first of equals, and nan above all numbers: by the loops, by torch's operations and by NumPy."""
    z = np.array(rows, np.float32).reshape(-1, 3)
    top, place = np.empty(len(z), np.float32), np.empty(len(z), np.int32)
    kernels._top(np.ascontiguousarray(z.T), top, place)
    assert place.tolist() == z.argmax(axis=1).tolist() == torch.from_numpy(z).argmax(1).tolist()
    np.testing.assert_array_equal(top, z.max(axis=1))
