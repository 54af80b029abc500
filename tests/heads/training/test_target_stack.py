"""Heads on several labels a row, and on numbers: each is what a plain loop of torch makes, alone and in a stack."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.modules.clips import features_by_clip
from featcache.heads.training.samplers import sampled
from featcache.heads.training.train import train_heads
from featcache.listing.targets import RowTargets
from tests.builders import features

LABELS = HeadConfig(loss="binary_cross_entropy", lr=0.1, epochs=5, batch_size=16)
NUMBERS = HeadConfig(loss="squared_error", lr=0.05, epochs=5, batch_size=16)


def with_targets(kind: str, rows: int = 70, seed: int = 0, width: int = 8, outputs: int = 3) -> Features:
    """Rows whose labels or numbers are linear in them, but for noise; numbers of very different units."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, width))
    z = x @ np.random.default_rng(9).standard_normal((width, outputs)) + 0.3 * rng.standard_normal((rows, outputs))
    values = (z > [0, 1, -2]).astype(float) if kind == "labels" else z * [1e-3, 1, 1e4] + [5, -1, 1e5]
    return features(x, np.zeros(rows), outputs, split="train", targets=RowTargets(kind, values))


def plain_loop(config: HeadConfig, train: Features) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a linear layer that starts at zero, by torch's own losses, optimizer and clipping."""
    x, t = torch.from_numpy(train.x), torch.from_numpy(train.targets.values).float()
    mean, deviation = torch.zeros(t.shape[1]), torch.ones(t.shape[1])
    if config.targets == "value":
        mean, deviation = t.double().mean(0).float(), t.double().std(0, correction=0).float()
    has = t.sum(0)
    weight = (len(t) - has) / has if config.class_weights == "balanced" else None
    loss = {
        "binary_cross_entropy": nn.BCEWithLogitsLoss(pos_weight=weight, reduction="none"),
        "squared_error": nn.MSELoss(reduction="none"),
        "huber": nn.HuberLoss(delta=config.huber_delta, reduction="none"),
    }[config.loss]
    layer = nn.Linear(x.shape[1], t.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": config.weight_decay}, {"params": [layer.bias]}]
    optimizer = (
        torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        if config.optimizer == "sgd"
        else torch.optim.Adam(groups, lr=config.lr)
    )
    step, steps = 0, config.steps(len(x))
    for order in sampled(torch.zeros(len(x)), config):
        for start in range(0, len(x), config.batch_size):
            rows = order[start : start + config.batch_size]
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step, steps)
            optimizer.zero_grad()
            loss(layer(x[rows]), (t[rows] - mean) / deviation).sum(1).mean().backward()
            nn.utils.clip_grad_norm_(layer.parameters(), config.clip_norm or np.inf)
            optimizer.step()
            step += 1
    with torch.no_grad():
        return (layer.weight * deviation[:, None]).numpy(), (layer.bias * deviation + mean).numpy()


@pytest.mark.parametrize(
    "config",
    [
        LABELS,
        replace(LABELS, class_weights="balanced", weight_decay=0.1, clip_norm=None),
        replace(LABELS, optimizer="adam", lr=0.01),
        NUMBERS,
        replace(NUMBERS, loss="huber", huber_delta=0.5, weight_decay=0.01),
    ],
)
def test_a_linear_head_is_what_a_plain_loop_of_torch_makes(config):
    """Weights and biases within 1e-5 of their norm, for every loss, weighted or not."""
    train = with_targets("labels" if config.targets == "labels" else "value")
    (head,) = train_heads(train, None, [config])
    weight, bias = plain_loop(config, train)
    for found, expected in ((head.weight, weight), (head.bias, bias)):
        for ours, theirs in zip(found, expected, strict=True):  # each number has its own unit
            assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs) + 1e-9


@pytest.mark.parametrize("config", [LABELS, NUMBERS, replace(LABELS, head="mlp", hidden="6", dropout=0.2)])
def test_a_head_in_a_stack_is_itself_alone(config):
    """Whatever stands beside it, to the bit, thresholds and scores included."""
    kind = config.targets
    train, val = with_targets(kind), with_targets(kind, 40, 1)
    configs = [replace(config, lr=lr, weight_decay=decay) for lr in (0.01, 0.1) for decay in (0.0, 0.1)]
    for one, head in zip(configs, train_heads(train, val, configs, select="loss"), strict=True):
        (alone,) = train_heads(train, val, [one], select="loss")
        assert all(np.array_equal(value, alone.tensors[name]) for name, value in head.tensors.items())
        np.testing.assert_equal(asdict(head.val), asdict(alone.val))  # for which nan equals nan
        assert head.targets == alone.targets


def test_a_label_is_learnt_as_if_it_were_alone():
    """Without clipping, no label of a head knows of the others: a weight is that of a head on its label alone."""
    train = with_targets("labels")
    config = replace(LABELS, clip_norm=None)
    (head,) = train_heads(train, None, [config])
    for label in range(3):
        values = train.targets.values[:, [label]]
        single = replace(train, classes=("one",), targets=RowTargets("labels", values))
        (alone,) = train_heads(single, None, [config])
        assert np.allclose(alone.weight[0], head.weight[label], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_number_comes_back_in_its_own_unit(standardize):
    """Of numbers a thousandth, one and ten thousand wide, each is learnt as well as the others."""
    train, val = with_targets("value", 400), with_targets("value", 200, 1)
    config = replace(NUMBERS, epochs=40, standardize=standardize)
    (head,) = train_heads(train, val, [config], select="r2")
    error = np.abs(head.logits(val.x) - val.targets.values).mean(axis=0)
    assert (error < 0.35 * val.targets.values.std(axis=0)).all()
    assert head.val.metrics["r2"] > 0.9
    assert head.val.metrics["mae"] == pytest.approx(error.mean(), rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "mlp", "hidden": "16", "batch_norm": True},
        {"head": "attention", "tokens": 4, "queries": 0},
        {"head": "attention", "tokens": 4, "queries": 2},
        *({"head": "temporal", "frames": 3, "over_time": kind} for kind in ("mean", "attention", "convolution")),
    ],
)
@pytest.mark.parametrize("kind", ["labels", "value"])
def test_every_kind_of_head_learns_them(kind, settings):
    """What is learnt lies above chance, in the number's own unit, and comes from the module that is kept."""
    base = LABELS if kind == "labels" else NUMBERS
    config = replace(base, optimizer="adam", lr=0.01, epochs=25, **settings)
    train, val = with_targets(kind, 240), with_targets(kind, 120, 1)
    if config.is_over_clips:
        train, val = (
            features_by_clip(replace(split, clips=tuple(f"c{row}" for row in range(len(split.y)))), 3)
            for split in (train, val)
        )
    if config.head == "attention":  # which knows no order of its tokens: all of them say the same
        train, val = (replace(split, x=np.tile(split.x, 4)) for split in (train, val))
    (head,) = train_heads(train, val, [config], select="loss")
    metrics = head.val.metrics
    assert metrics["r2"] > 0.4 if kind == "value" else metrics["mean_average_precision"] > 0.85
    assert np.allclose(head.module()(torch.from_numpy(val.x)).numpy(), head.logits(val.x), rtol=1e-4, atol=1e-4)


def test_patience_keeps_the_best_epoch_by_a_metric_of_its_targets():
    """The kept epoch is the best of the history, and its row has the scores of the head that is saved."""
    train, val = with_targets("labels", 40), with_targets("labels", 40, 1)
    config = replace(LABELS, lr=3.0, epochs=20, patience=3, schedule="constant")
    (head,) = train_heads(train, val, [config], select="mean_average_precision")
    best = max(row.val.metrics["mean_average_precision"] for row in head.history)
    kept = head.history[head.best_epoch - 1].val
    assert kept == head.val
    assert kept.metrics["mean_average_precision"] == pytest.approx(best)
