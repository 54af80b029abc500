"""Linear heads: equal to torch's own optimizer, equal to themselves alone, and honestly scored."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import EpochRow, LinearHead, Scores, best_of, scores
from featcache.heads.training.samplers import orders
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters

pytestmark = pytest.mark.usefixtures("either")


def plain_macro_recall(truth, predicted) -> float:
    """scikit-learn's balanced_accuracy_score, which warns where a class without rows is predicted."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def the_usual_way(train: Features, config: HeadConfig) -> tuple[torch.nn.Linear, list[tuple[float, float, float]]]:
    """nn.Linear, autograd, torch.optim.SGD, clip_grad_norm_, CosineAnnealingLR; and its running history."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    layer = torch.nn.Linear(x.shape[1], len(train.classes))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": config.weight_decay}, {"params": [layer.bias]}]
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.steps(len(y)))
    history = []
    for order in orders(len(y), config.epochs, config.seed):
        predicted, loss_sum = torch.empty(len(y), dtype=torch.int64), 0.0
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            logits = layer(x[rows])
            loss = torch.nn.functional.cross_entropy(logits, y[rows])
            predicted[rows] = logits.argmax(1)
            loss_sum += loss.item() * len(rows)
            optimizer.zero_grad()
            loss.backward()
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(layer.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
        macro = plain_macro_recall(train.y, predicted.numpy())
        history.append((loss_sum / len(y), (predicted == y).double().mean().item(), macro))
    return layer, history


def apart(head: LinearHead, weight, bias) -> float:
    """The distance in relative norm, weights and bias together."""
    mine = np.column_stack([head.weight, head.bias]).astype(np.float64)
    other = np.column_stack([weight, bias]).astype(np.float64)
    return float(np.linalg.norm(mine - other) / np.linalg.norm(other))


CONFIGS = [
    HeadConfig(epochs=8, batch_size=64),
    HeadConfig(epochs=8, batch_size=64, lr=0.3),
    HeadConfig(epochs=8, batch_size=64, lr=0.1, weight_decay=0.01, clip_norm=0.2),
    HeadConfig(epochs=8, batch_size=64, lr=0.1, momentum=0.0, clip_norm=None),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_equals_torch_optim(config):
    """A head equals nn.Linear trained by torch.optim.SGD, cosine and clip_grad_norm_ on the same batches."""
    train = uneven_clusters()
    (head,) = train_heads(train, None, [config])
    layer, _ = the_usual_way(train, config)
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


def test_equals_torch_optim_over_many_steps():
    """After 1,000 steps at the recipe's width, a head still equals torch's own to 1e-6."""
    train = uneven_clusters(rows=2_000, dim=768, classes=34)
    config = HeadConfig(batch_size=160, epochs=77)
    assert config.steps(2_000) == 1_001
    (head,) = train_heads(train, None, [config])
    layer, _ = the_usual_way(train, config)
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


def test_bias_has_no_decay():
    """Weight decay leaves the bias free: rows without content still learn the class shares."""
    train = uneven_clusters()
    blank = replace(train, x=np.zeros_like(train.x))
    # Each alone: side by side, BLAS adds the columns further right in another order.
    heads = [train_heads(blank, None, [replace(CONFIGS[1], weight_decay=w)])[0] for w in (0.0, 10.0)]
    np.testing.assert_array_equal(heads[0].bias, heads[1].bias)
    assert np.ptp(heads[1].bias) > 0.5


@settings(max_examples=25, deadline=None)
@given(
    lrs=st.lists(st.sampled_from([0.001, 0.01, 0.1]), min_size=1, max_size=4),
    decay=st.sampled_from([0.0, 0.01]),
    clip=st.sampled_from([None, 0.1, 1.0]),
    rows=st.integers(1, 90),
    batch=st.integers(8, 40),
    seed=st.integers(0, 5),
)
def test_side_by_side_equals_alone(lrs, decay, clip, rows, batch, seed):
    """Heads trained side by side equal the same heads trained alone, whatever their settings."""
    train = uneven_clusters(rows=rows)
    configs = [HeadConfig(lr=lr, batch_size=batch, epochs=3, seed=seed) for lr in lrs]
    configs.append(HeadConfig(lr=0.05, batch_size=batch, epochs=3, seed=seed, weight_decay=decay, clip_norm=clip))
    for head, config in zip(train_heads(train, None, configs), configs, strict=True):
        (alone,) = train_heads(train, None, [config])
        assert head.config == config
        assert apart(head, alone.weight, alone.bias) < 1e-6


def test_order_of_heads_does_not_matter():
    """Heads given in another order come back in that order, with the same weights."""
    train = uneven_clusters()
    there, back = train_heads(train, None, CONFIGS), train_heads(train, None, CONFIGS[::-1])
    for one, other in zip(there, back[::-1], strict=True):
        assert apart(one, other.weight, other.bias) < 1e-6


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


def test_partial_batch_is_kept():
    """Rows of a last, smaller batch are learnt from, and weigh as a batch of their own size."""
    train = uneven_clusters(rows=65)
    config = HeadConfig(lr=0.1, batch_size=64, epochs=1)
    (head,) = train_heads(train, None, [config])
    layer, _ = the_usual_way(train, config)
    assert head.steps == 2
    assert apart(head, layer.weight.detach().numpy(), layer.bias.detach().numpy()) < 1e-6


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_running_history_is_the_usual_one(config):
    """Train history is loss, accuracy and macro recall of each step's logits before its update."""
    train = uneven_clusters()
    (head,) = train_heads(train, None, [config])
    _, expected = the_usual_way(train, config)
    found = [(row.train.loss, row.train.accuracy, row.train.macro_recall) for row in head.history]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [row.epoch for row in head.history] == list(range(1, config.epochs + 1))
    assert all(row.val is None for row in head.history)


def test_val_history_is_scored_after_each_epoch():
    """An epoch's val entry scores the weights after that epoch; the last one is the head's own."""
    train, val = uneven_clusters(), uneven_clusters(seed=1, present=[0, 2, 3])
    (head,) = train_heads(train, val, [replace(CONFIGS[3], epochs=6)])
    weights = []
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    weight, bias = torch.zeros(5, 12), torch.zeros(5)
    config, step = replace(CONFIGS[3], epochs=6), 0
    for order in orders(len(y), 6, 0):
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
    assert head.history[-1].val == head.val == scores(head.logits, val)
    assert head.train.accuracy == scores(head.logits, train).accuracy
    assert head.train.loss == pytest.approx(scores(head.logits, train).loss, rel=1e-6)


def test_long_val_pass_in_blocks(monkeypatch):
    """A val split that takes several blocks scores as it does in one."""
    train, val = uneven_clusters(), uneven_clusters(rows=200, seed=1)
    whole = train_heads(train, val, CONFIGS)
    monkeypatch.setattr("featcache.heads.training.torch_stack.PASS_LOGITS", 7 * 4 * 5)
    monkeypatch.setattr("featcache.heads.training.numba_stack.CALL", 7 * 16 * 4 * 5)
    blocks = train_heads(train, val, CONFIGS)
    for one, other in zip(whole, blocks, strict=True):
        for a, b in zip(one.history, other.history, strict=True):
            assert a.val.accuracy == b.val.accuracy
            assert a.val.loss == pytest.approx(b.val.loss, rel=1e-6)


def test_val_changes_no_weight():
    """A head trained with a val split has the bits of one trained without."""
    train = uneven_clusters()
    (blind,), (seeing,) = (train_heads(train, val, CONFIGS[:1]) for val in (None, uneven_clusters(seed=1)))
    np.testing.assert_array_equal(blind.weight, seeing.weight)


def test_class_without_rows_keeps_its_index():
    """A class that the training split lacks keeps its row of weights, and the classes behind it theirs."""
    train = uneven_clusters(present=[0, 1, 3, 4])
    (head,) = train_heads(train, None, [CONFIGS[1]])
    assert head.weight.shape == (5, 12)
    assert head.train.accuracy > 0.5
    assert not (head.logits(train.x).argmax(1) == 2).any()
    assert head.train.macro_recall == pytest.approx(plain_macro_recall(train.y, head.logits(train.x).argmax(1)))


def test_memory_mapped_features_are_read_only_and_train():
    """Read-only arrays, as a store gives them, train without a warning and without being written to."""
    train = uneven_clusters()
    frozen = replace(train, x=train.x.copy(), y=train.y.copy())
    frozen.x.flags.writeable = frozen.y.flags.writeable = False
    (one,), (other,) = (train_heads(t, None, CONFIGS[:1]) for t in (train, frozen))
    np.testing.assert_array_equal(one.weight, other.weight)


def test_progress():
    """Progress is told after every epoch, as epochs done and all epochs."""
    told = []
    train_heads(uneven_clusters(), None, CONFIGS[:2], progress=lambda *at: told.append(at))
    assert told == [(epoch, 8) for epoch in range(1, 9)]


def test_splits_that_do_not_fit():
    """No heads, no rows, a val of other classes or of another trunk: each is refused."""
    train = uneven_clusters()
    nothing = uneven_clusters(rows=1)
    nothing = replace(nothing, x=nothing.x[:0], y=nothing.y[:0], paths=(), clips=(), subjects=())
    with pytest.raises(UsageError, match="no heads"):
        train_heads(train, None, [])
    with pytest.raises(UsageError, match="training split has 0 rows"):
        train_heads(nothing, None, CONFIGS[:1])
    with pytest.raises(UsageError, match="val split has 0 rows"):
        train_heads(train, nothing, CONFIGS[:1])
    with pytest.raises(UsageError, match="6 classes, train 5"):
        train_heads(train, uneven_clusters(classes=6), CONFIGS[:1])
    with pytest.raises(UsageError, match="embeddings of 13, train of 12"):
        train_heads(train, uneven_clusters(dim=13), CONFIGS[:1])


def test_logits_of_another_trunk():
    """Embeddings of another width are refused with both shapes."""
    with pytest.raises(ValueError, match=r"\(2, 5\).*\(rows, 4\)"):
        head_with().logits(np.zeros((2, 5), dtype=np.float32))


def test_scores_match_scikit_learn(monkeypatch):
    """Scores are accuracy, balanced accuracy and mean cross-entropy, in one block or in many."""
    val = uneven_clusters(present=[0, 1, 3])
    (head,) = train_heads(uneven_clusters(), None, [CONFIGS[1]])
    logits = torch.from_numpy(head.logits(val.x))
    for block in (16_384, 7):
        monkeypatch.setattr("featcache.heads.linear.BLOCK_ROWS", block)
        found = scores(head.logits, val)
        assert found.macro_recall == pytest.approx(plain_macro_recall(val.y, logits.argmax(1).numpy()))
        assert found.accuracy == pytest.approx((logits.argmax(1).numpy() == val.y).mean())
        expected = torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(val.y)).item()
        assert found.loss == pytest.approx(expected, rel=1e-9)


def head_with(val=None, train=None) -> LinearHead:
    train = train or Scores(0.5, 0.5, 1.0)
    zero = np.zeros((3, 4), dtype=np.float32)
    return LinearHead(HeadConfig(), zero, zero[:, 0], 1, (EpochRow(1, train, val),), train, val)


def test_best_is_highest_macro_recall():
    """Macro recall on val decides, then the lower loss, then the first; accuracy does not."""
    a, b, c = Scores(0.9, 0.3, 0.1), Scores(0.2, 0.4, 2.0), Scores(0.1, 0.4, 1.0)
    assert best_of([head_with(a), head_with(b)]) == 1
    assert best_of([head_with(b), head_with(c), head_with(a)]) == 1
    assert best_of([head_with(c), head_with(c)]) == 0


def test_nan_never_wins():
    """A diverged head never wins, whatever its recall; where all diverged, none is best."""
    wild, calm = Scores(0.9, 0.9, math.nan), Scores(0.1, 0.1, 3.0)
    assert best_of([head_with(wild), head_with(calm)]) == 1
    assert best_of([head_with(wild), head_with(wild)]) is None


def test_a_loss_without_bounds_is_diverged():
    """Clipped steps of an absurd size leave finite weights; the head is called diverged all the same."""
    (head,) = train_heads(uneven_clusters(), None, [replace(CONFIGS[0], lr=1e30)])
    assert np.isfinite(head.weight).all()
    assert head.diverged
    assert not train_heads(uneven_clusters(), None, CONFIGS[:1])[0].diverged


def test_nothing_chooses_without_val():
    """One head needs no val split; several without one cannot be chosen among."""
    assert best_of([head_with()]) == 0
    with pytest.raises(ValueError, match="without a val split"):
        best_of([head_with(), head_with()])
    with pytest.raises(ValueError, match="no heads"):
        best_of([])
