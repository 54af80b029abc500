"""Scores of a training: running, after each epoch, and those that the saved head has."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.features.in_memory import Features
from featcache.heads.scoring import score_split
from featcache.heads.training.kernels.softmax import _column_max
from featcache.heads.training.samplers import sampled, shuffled
from featcache.heads.training.train import train_heads
from tests.builders import features, uneven_clusters
from tests.heads.training.problems import CONFIGS, plain_macro_recall, torchs_sgd
from tests.heads.training.ways import a_way, an_optimizer, by, clusters, expected, few, make_config


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_running_history_is_the_usual_one(config):
    """Train history is loss, accuracy and macro recall of each step's logits before its update."""
    train = uneven_clusters()
    (head,) = train_heads(train, None, [config])
    _, expected = torchs_sgd(train, config)
    found = [(row.train.loss, row.train.accuracy, row.train.macro_recall) for row in head.history]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [row.epoch for row in head.history] == list(range(1, config.epochs + 1))
    assert all(row.val is None for row in head.history)


@pytest.mark.usefixtures("either")
def test_val_history_is_scored_after_each_epoch():
    """An epoch's val entry scores the weights after that epoch; the last one is the head's own."""
    train, val = uneven_clusters(), uneven_clusters(seed=1, present=[0, 2, 3])
    (head,) = train_heads(train, val, [replace(CONFIGS[3], epochs=6)])
    weights = []
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    weight, bias = torch.zeros(5, 12), torch.zeros(5)
    config, step = replace(CONFIGS[3], epochs=6), 0
    for order in shuffled(len(y), 6, 0):
        for start in range(0, len(y), 64):
            rows = order[start : start + 64]
            g = torch.softmax(x[rows] @ weight.T + bias, 1)
            g[torch.arange(len(rows)), y[rows]] -= 1
            lr = config.lr_at(step, config.steps(len(y)))
            weight -= lr * g.T @ x[rows] / len(rows)
            bias -= lr * g.mean(0)
            step += 1
        weights.append((weight.clone(), bias.clone()))
    for row, (w, b) in zip(head.history, weights, strict=True):
        logits = torch.from_numpy(val.x) @ w.T + b
        assert row.val is not None
        assert row.val.loss == pytest.approx(
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.y)).item(), rel=1e-5
        )
        assert row.val.macro_recall == pytest.approx(plain_macro_recall(val.y, logits.argmax(1).numpy()))
    assert head.history[-1].val == head.val == score_split(head.logits, val)
    assert head.train.accuracy == score_split(head.logits, train).accuracy
    assert head.train.loss == pytest.approx(score_split(head.logits, train).loss, rel=1e-6)


@pytest.mark.usefixtures("either")
def test_long_val_pass_in_blocks(monkeypatch):
    """A val split that takes several blocks scores as it does in one."""
    train, val = uneven_clusters(), uneven_clusters(rows=200, seed=1)
    whole = train_heads(train, val, CONFIGS)
    monkeypatch.setattr("featcache.heads.training.torch_stack.MAX_SCORED_LOGITS", 7 * 4 * 5)
    monkeypatch.setattr("featcache.heads.training.numba_stack.CALL_MULTIPLICATIONS", 7 * 16 * 4 * 5)
    blocks = train_heads(train, val, CONFIGS)
    for one, other in zip(whole, blocks, strict=True):
        for a, b in zip(one.history, other.history, strict=True):
            assert a.val.accuracy == b.val.accuracy
            assert a.val.loss == pytest.approx(b.val.loss, rel=1e-6)


@few
@given(an_optimizer, st.booleans(), a_way)
def test_running_scores(optimizer, standardize, way):
    """The history's train columns are the reference's running loss and hits, the first batch's included."""
    train, of = clusters(), make_config(**optimizer, standardize=standardize)
    with by(way):
        (head,) = train_heads(train, None, [of])
    orders = [order.numpy() for order in sampled(torch.from_numpy(train.y), of)]
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
    of = make_config(**optimizer, standardize=standardize, batch_size=batch_size)
    with by(way):
        (head,) = train_heads(both, both, [of])
    assert head.train.accuracy == head.val.accuracy == pytest.approx(1 / classes)
    assert all(row.val.accuracy == pytest.approx(1 / classes) for row in head.history)


@few
@given(st.lists(an_optimizer, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, 1, 2]), a_way)
def test_scores_are_those_of_the_saved_head(optimizers, standardize, patience, way):
    """Final scores, and the history's row of the weights that were kept, are to the last bit what the head answers."""
    train, val = clusters(), clusters(seed=1)
    configs = [make_config(**one, standardize=standardize, patience=patience, epochs=6) for one in optimizers]
    with by(way):
        heads = train_heads(train, val, configs)
    for head in heads:
        assert head.train == score_split(head.logits, train)
        assert head.val == score_split(head.logits, val)
        assert head.history[(head.best_epoch or len(head.history)) - 1].val == head.val


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]), min_size=3, max_size=3)))
def test_the_answer_is_numpys_argmax(rows):
    """The first of equals, and nan above all numbers: by the loops, by torch's operations and by NumPy."""
    z = np.array(rows, np.float32).reshape(-1, 3)
    top, place = np.empty(len(z), np.float32), np.empty(len(z), np.int32)
    _column_max(np.ascontiguousarray(z.T), 0, 3, 0, top, place)
    assert place.tolist() == z.argmax(axis=1).tolist() == torch.from_numpy(z).argmax(1).tolist()
    np.testing.assert_array_equal(top, z.max(axis=1))
