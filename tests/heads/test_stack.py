"""Every option of a head: equal to torch's own way, equal alone and side by side, and disturbed by no neighbour."""

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
from featcache.heads.linear import LinearHead
from featcache.heads.training.losses import class_weights
from featcache.heads.training.samplers import draws
from featcache.heads.training.train import train_heads
from tests.builders import scaled_clusters

pytestmark = pytest.mark.usefixtures("either")


TRAIN, VAL = scaled_clusters(), scaled_clusters(seed=1)


def the_usual_way(train: Features, config: HeadConfig) -> tuple[np.ndarray, np.ndarray]:
    """nn.Linear, autograd, torch.optim, F.cross_entropy and the schedulers of torch, one option at a time."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    if config.standardize:
        x = ((x.double() - mean) / std).float()
    counts = np.bincount(train.y, minlength=len(train.classes))
    prior = torch.from_numpy(np.maximum(counts, 1) / len(train.y)).float().log()
    weight = torch.from_numpy(class_weights(config, counts)).float()
    layer = torch.nn.Linear(x.shape[1], len(train.classes))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": config.weight_decay}, {"params": [layer.bias]}]
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    elif config.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, lr=config.lr)
    else:
        groups[1]["weight_decay"] = 0.0
        optimizer = torch.optim.AdamW(groups, lr=config.lr)
    steps = config.steps(len(y))
    warm = round(config.warmup * steps / config.epochs)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        half = math.cos(math.pi * (step - warm) / (steps - warm))
        return (1 + half) / 2 if config.schedule == "cosine" else 1.0

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for order in draws(y, config):
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            logits = layer(x[rows]) + config.logit_adjustment * prior
            loss = torch.nn.functional.cross_entropy(
                logits, y[rows], weight=weight, label_smoothing=config.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(layer.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
    w, b = layer.weight.detach().double(), layer.bias.detach().double()
    if config.standardize:
        w = w / std
        b = b - w @ mean
    return w.numpy(), b.numpy()


def apart(head: LinearHead, weight, bias) -> float:
    """The distance in relative norm, weights and bias together."""
    mine = np.column_stack([head.weight, head.bias]).astype(np.float64)
    other = np.column_stack([weight, bias]).astype(np.float64)
    return float(np.linalg.norm(mine - other) / np.linalg.norm(other))


BASE = HeadConfig(epochs=6, batch_size=64, lr=0.05)
OPTIONS = {
    "adam": {"optimizer": "adam", "weight_decay": 0.01},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "constant": {"schedule": "constant"},
    "warm-up": {"warmup": 2.5},
    "warm-up, constant": {"warmup": 1.0, "schedule": "constant"},
    "class weights": {"class_weights": "balanced"},
    "smoothing": {"label_smoothing": 0.2},
    "weights and smoothing": {"class_weights": "balanced", "label_smoothing": 0.1},
    "balanced draws": {"sampler": "balanced"},
    "adjustment": {"logit_adjustment": 1.5},
    "standardised": {"standardize": True, "weight_decay": 0.01},
    "all": {
        "optimizer": "adamw", "weight_decay": 0.1, "warmup": 1.0, "class_weights": "balanced",
        "label_smoothing": 0.1, "logit_adjustment": 0.5, "standardize": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_equals_torch(option):
    """A head with this option equals the same head trained by torch.optim and F.cross_entropy, to 1e-6."""
    config = replace(BASE, **OPTIONS[option])
    (head,) = train_heads(TRAIN, None, [config])
    bound = 1e-5 if config.standardize else 1e-6  # torch's own standardised rows are rounded before it begins
    assert apart(head, *the_usual_way(TRAIN, config)) < bound


a_config = st.builds(
    HeadConfig,
    lr=st.sampled_from([0.001, 0.01, 0.1]),
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    weight_decay=st.sampled_from([0.0, 0.01]),
    schedule=st.sampled_from(["cosine", "constant", "plateau"]),
    warmup=st.sampled_from([0.0, 1.5]),
    plateau_epochs=st.just(1),
    patience=st.sampled_from([None, 1, 2]),
    class_weights=st.sampled_from(["none", "balanced"]),
    sampler=st.sampled_from(["uniform", "balanced"]),
    logit_adjustment=st.sampled_from([0.0, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    standardize=st.booleans(),
    clip_norm=st.sampled_from([None, 0.1, 1.0]),
    batch_size=st.just(64),
    epochs=st.just(4),
    seed=st.integers(0, 1),
)


@settings(max_examples=25, deadline=None)
@given(configs=st.lists(a_config, min_size=2, max_size=6), flip=st.randoms(use_true_random=False))
def test_stacked_equals_alone_and_permuting_heads_permutes_results(configs, flip):
    """Whatever heads stand side by side, and in whatever order, each equals itself trained alone, history included."""
    order = list(range(len(configs)))
    flip.shuffle(order)
    together = train_heads(TRAIN, VAL, configs)
    permuted = train_heads(TRAIN, VAL, [configs[index] for index in order])
    for place, index in enumerate(order):
        (alone,) = train_heads(TRAIN, VAL, [configs[index]])
        for head in (together[index], permuted[place]):
            assert head.config == configs[index]
            assert apart(head, alone.weight, alone.bias) < 2e-5  # Adam's first steps magnify the last bit
            assert (head.best_epoch, len(head.history)) == (alone.best_epoch, len(alone.history))
            np.testing.assert_allclose(
                [row.train.loss for row in head.history], [row.train.loss for row in alone.history], rtol=1e-5
            )


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


def test_heads_of_other_batches_train_in_passes_of_their_own():
    """Seeds, samplers, batch sizes and epochs may differ; progress counts the epochs of all passes."""
    changes = ({}, {"seed": 1}, {"sampler": "balanced"}, {"batch_size": 32}, {"epochs": 3})
    configs = [replace(BASE, **change) for change in changes]
    told = []
    heads = train_heads(TRAIN, None, configs, progress=lambda *at: told.append(at))
    assert [head.config for head in heads] == configs
    for head, config in zip(heads, configs, strict=True):
        (alone,) = train_heads(TRAIN, None, [config])
        np.testing.assert_array_equal(head.weight, alone.weight)
    assert told == [(done, 27) for done in range(1, 28)]


def test_balanced_draws():
    """Every class that has rows is drawn equally often, only by its own rows, and another seed draws others."""
    y = torch.from_numpy(scaled_clusters(rows=20_000).y)
    (first, second) = draws(y, HeadConfig(epochs=2, sampler="balanced"))
    share = torch.bincount(y[first], minlength=5) / len(y)
    np.testing.assert_allclose(share, [0.25, 0.25, 0.25, 0, 0.25], atol=0.02)
    assert not torch.equal(first, second)
    assert len(first) == len(y)
    rows_of_one = torch.bincount(first[y[first] == 1], minlength=len(y))[y == 1]
    assert (rows_of_one > 0).float().mean() > 0.5


def test_patience_keeps_the_best_epoch():
    """A head that gets worse on val stops after its patience and keeps the weights of its best epoch."""
    config = replace(BASE, lr=3.0, schedule="constant", clip_norm=None, epochs=40, patience=3)
    (head,) = train_heads(TRAIN, VAL, [config])
    recalls = [(row.val.macro_recall, -row.val.loss) for row in head.history]
    assert head.best_epoch == 1 + max(range(len(recalls)), key=lambda epoch: recalls[epoch])
    assert len(head.history) == head.best_epoch + 3 < 40
    assert head.steps == len(head.history) * 5
    assert head.val.macro_recall == pytest.approx(recalls[head.best_epoch - 1][0])
    (whole,) = train_heads(TRAIN, VAL, [replace(config, patience=None, epochs=head.best_epoch)])
    np.testing.assert_array_equal(head.weight, whole.weight)
    with pytest.raises(UsageError, match="patience"):
        train_heads(TRAIN, None, [config])


def test_plateau_is_torchs():
    """The pace of a head on a plateau is that of torch's ReduceLROnPlateau, epoch by epoch."""
    from featcache.heads.linear import Scores
    from featcache.heads.training.stopping import Course

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
    course = Course(replace(BASE, schedule="plateau", plateau_epochs=2), "macro_recall")
    losses = [3, 2, 2, 2, 2, 1.99999, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.4]
    for epoch, loss in enumerate(losses, start=1):
        course.after(epoch, Scores(0, 0, 9.0), Scores(0, 0, loss))
        torchs.step(loss)
        assert course.pace == pytest.approx(optimizer.param_groups[0]["lr"])
    assert course.pace < 0.1


def test_a_watch_stops_heads():
    """A watch sees every head's val scores after each epoch; a head that it names keeps what it has."""
    seen = []

    def watch(epoch, found):
        seen.append(len([score for score in found if score is not None]))
        return [1] if epoch == 2 else []

    configs = [BASE, replace(BASE, lr=0.1, schedule="constant")]
    heads = train_heads(TRAIN, VAL, configs, watch=watch)
    assert [len(head.history) for head in heads] == [6, 2]
    (short,) = train_heads(TRAIN, VAL, [replace(configs[1], epochs=2)])
    assert apart(heads[1], short.weight, short.bias) < 1e-6
    assert seen == [2] * 6


def test_constant_dimensions_standardise_to_nothing():
    """A dimension that never changes has no part in a head that standardises, and no nan comes of it."""
    x = TRAIN.x.copy()
    x[:, 3] = 7
    (head,) = train_heads(replace(TRAIN, x=x), None, [replace(BASE, standardize=True)])
    assert np.isfinite(head.weight).all()
    assert np.abs(head.weight[:, 3]).max() < 1e-5
