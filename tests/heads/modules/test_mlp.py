"""MLPs, trained side by side: each is itself alone, and what a plain loop of torch makes of the same settings."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from featcache.heads.config import HeadConfig
from featcache.heads.modules.dropout import Dropout, Perceptron
from featcache.heads.scoring import score_split
from featcache.heads.training.losses import class_weights
from featcache.heads.training.module_stack import clip_gradient
from featcache.heads.training.samplers import sampled
from featcache.heads.training.train import train_heads
from tests.builders import features, scaled_clusters

TRAIN, VAL = scaled_clusters(), scaled_clusters(seed=1)
BASE = HeadConfig(head="mlp", hidden="24", epochs=4, batch_size=64, lr=0.05)

an_mlp = st.builds(
    HeadConfig,
    head=st.just("mlp"),
    hidden=st.sampled_from(["8", "24", "17,9"]),
    activation=st.sampled_from(["relu", "gelu", "silu", "tanh"]),
    dropout=st.sampled_from([0.0, 0.3]),
    batch_norm=st.booleans(),
    lr=st.sampled_from([0.001, 0.05]),
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    weight_decay=st.sampled_from([0.0, 0.01]),
    schedule=st.sampled_from(["cosine", "plateau"]),
    plateau_epochs=st.just(1),
    patience=st.sampled_from([None, 1]),
    class_weights=st.sampled_from(["none", "balanced"]),
    logit_adjustment=st.sampled_from([0.0, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    standardize=st.booleans(),
    clip_norm=st.sampled_from([None, 0.1]),
    batch_size=st.just(64),
    epochs=st.just(3),
    seed=st.integers(0, 1),
)


def plain_training(config: HeadConfig) -> nn.Module:
    """nn.Sequential, autograd, torch.optim, F.cross_entropy, clip_grad_norm_ and a scheduler, as one writes them."""
    x, y = torch.from_numpy(TRAIN.x), torch.from_numpy(TRAIN.y)
    counts = np.bincount(TRAIN.y, minlength=len(TRAIN.classes))
    prior = torch.from_numpy(np.maximum(counts, 1) / len(TRAIN.y)).float().log()
    weight = torch.from_numpy(class_weights(config, counts)).float()
    widths = [x.shape[1], *map(int, config.hidden.split(","))]
    activation = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}[config.activation]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        layers = []
        for before, after in itertools.pairwise(widths):
            normalization = [nn.BatchNorm1d(after)] if config.batch_norm else []
            layers += [nn.Linear(before, after, bias=not config.batch_norm), *normalization, activation()]
        module = nn.Sequential(*layers, nn.Linear(widths[-1], len(TRAIN.classes)))
    matrices = [value for value in module.parameters() if value.ndim > 1]
    others = [value for value in module.parameters() if value.ndim == 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = {
        "sgd": lambda: torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum),
        "adam": lambda: torch.optim.Adam(groups, lr=config.lr),
        "adamw": lambda: torch.optim.AdamW(groups, lr=config.lr),
    }[config.optimizer]()
    steps = config.steps(len(y))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    for order in sampled(y, config):
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            logits = module(x[rows]) + config.logit_adjustment * prior
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                logits, y[rows], weight=weight, label_smoothing=config.label_smoothing
            ).backward()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
    return module.eval()


def distance(head, module: nn.Module) -> float:
    """The largest distance of any tensor in relative norm."""
    return max(
        float(np.linalg.norm(head.tensors[f"module.{name}"] - value.numpy()) / max(np.linalg.norm(value.numpy()), 1e-9))
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    )


def same_tensors(one, other) -> bool:
    """Whether two heads have the same tensors, bit for bit."""
    same = [value.tobytes() == other.tensors[name].tobytes() for name, value in one.tensors.items()]
    return one.tensors.keys() == other.tensors.keys() and all(same)


@settings(max_examples=12, deadline=None)
@given(st.lists(an_mlp, min_size=2, max_size=4, unique=True))
def test_a_head_in_a_stack_is_itself_alone(configs):
    """Whatever the heads beside it, a head has the bits, the history and the scores that it has alone, with dropout."""
    stacked = train_heads(TRAIN, VAL, configs)
    (alone,) = train_heads(TRAIN, VAL, configs[-1:])
    assert same_tensors(stacked[-1], alone)
    assert (stacked[-1].history, stacked[-1].val, stacked[-1].best_epoch) == (
        alone.history, alone.val, alone.best_epoch,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adam", "lr": 0.003, "hidden": "24,16", "activation": "gelu", "weight_decay": 0.01},
        {"optimizer": "adamw", "lr": 0.003, "batch_norm": True, "weight_decay": 0.1, "clip_norm": None},
        {"class_weights": "balanced", "label_smoothing": 0.1, "logit_adjustment": 0.5, "activation": "tanh"},
        {"sampler": "balanced", "activation": "silu", "seed": 3, "clip_norm": 0.1},
    ],
)
def test_a_head_is_what_a_plain_loop_of_torch_makes(changes):
    """After 100 steps without dropout every tensor is within 1e-5 of that of an independent loop."""
    config = replace(BASE, epochs=20, **changes)
    (head,) = train_heads(TRAIN, None, [config])
    assert head.steps == 100
    module = plain_training(config)
    assert distance(head, module) < 1e-5
    with torch.inference_mode():
        assert np.allclose(head.logits(VAL.x), module(torch.from_numpy(VAL.x)).numpy(), rtol=1e-4, atol=1e-4)


def test_val_is_scored_as_a_saved_head_scores_it():
    """A history's last row, and that of the best epoch under patience, has the scores of the head that is kept."""
    full, patient = train_heads(TRAIN, VAL, [BASE, replace(BASE, epochs=12, lr=0.3, patience=2, dropout=0.2)])
    for head in (full, patient):
        assert head.val == score_split(head.logits, VAL)
        assert head.history[(head.best_epoch or len(head.history)) - 1].val == head.val
    assert patient.best_epoch is not None
    assert patient.val.macro_recall == max(epoch.val.macro_recall for epoch in patient.history)


def test_rows_are_standardized_in_the_exported_module():
    """`module()` takes rows as they are, in a plain first layer: its logits are the head's to 1e-5."""
    (head,) = train_heads(TRAIN, None, [replace(BASE, standardize=True, batch_norm=True)])
    with torch.inference_mode():
        assert np.abs(head.module()(torch.from_numpy(VAL.x)).numpy() - head.logits(VAL.x)).max() < 1e-5


def test_a_row_has_the_same_logits_among_any_others():
    """One row, or three, have the bits that they have among all."""
    (head,) = train_heads(TRAIN, None, [BASE])
    logits = head.logits(VAL.x)
    assert np.array_equal(head.logits(VAL.x[7:8]), logits[7:8])
    assert np.array_equal(head.logits(VAL.x[:3]), logits[:3])


@pytest.mark.parametrize("rows", [1, 65])
def test_a_batch_of_one_row_trains_with_batch_norm(rows):
    """A last batch of one row, which has no deviation, is normalised by the running statistics."""
    some = features(TRAIN.x[:rows], TRAIN.y[:rows], TRAIN.classes)
    (head,) = train_heads(some, None, [replace(BASE, batch_norm=True, dropout=0.5)])
    assert np.isfinite(head.logits(VAL.x)).all()


def test_torchs_random_numbers_go_on_as_if_nothing_had_been_trained():
    """A training leaves torch's generator, its threads and its switch for gradients as they were."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train_heads(TRAIN, VAL, [replace(BASE, dropout=0.5)])
    assert torch.equal(torch.rand(3), expected)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, True)


def test_an_mlp_learns_what_no_linear_head_can():
    """Of two classes in opposite corners (exclusive or), a linear head stays near chance, an MLP has nearly all."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (600, 2)) + 0.2 * rng.standard_normal((600, 2))
    split = features(x, (x[:, 0] * x[:, 1] > 0).astype(int), 2)
    linear = HeadConfig(epochs=20, batch_size=64, lr=0.1)
    heads = train_heads(split, None, [linear, replace(linear, head="mlp", hidden="16")])
    assert heads[0].train.accuracy < 0.7
    assert heads[1].train.accuracy > 0.98


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.95), st.integers(0, 2**32))
def test_dropout_leaves_out_its_share_and_keeps_the_mean(share, seed):
    """Masks follow from the seed, leave out their share, and scale up the rest so that the sum keeps its mean."""
    layer = Dropout(share).train()
    layer.seed(seed, 0)
    mask = layer(torch.ones(200, 301))
    layer.seed(seed, 0)
    assert torch.equal(layer(torch.ones(200, 301)), mask)
    assert abs((mask == 0).double().mean() - share) < 0.02
    assert abs(mask.double().mean() - 1) < 5 * math.sqrt(share / (1 - share) / mask.numel())
    layer.seed(seed, 1)
    assert not torch.equal(layer(torch.ones(200, 301)), mask)


def test_relu_and_dropout_are_one_operation_with_the_same_gradient():
    """Outputs and gradients are those of the two layers one after the other."""
    x = torch.randn(50, 31, generator=torch.Generator().manual_seed(0))
    results = []
    for kind in (Perceptron, nn.Sequential):
        layers = kind(nn.Linear(31, 20), nn.ReLU(), Dropout(0.3), nn.Linear(20, 4)).train()
        for number, value in enumerate(layers.parameters()):
            nn.init.normal_(value, generator=torch.Generator().manual_seed(number))
        layers[2].seed(9, 0)
        output = layers(x)
        output.square().sum().backward()
        results.append([output, *(value.grad for value in layers.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_a_gradient_is_clipped_as_torch_clips_it(scale):
    """Within the bound it stays as it is, beyond it it has the bound's norm, bit for bit torch's."""
    one, other = (
        [nn.Parameter(torch.zeros(5, 7)), nn.Parameter(torch.zeros(5))],
        [nn.Parameter(torch.zeros(5, 7)), nn.Parameter(torch.zeros(5))],
    )
    for mine, theirs in zip(one, other, strict=True):
        mine.grad = scale * torch.randn(mine.shape, generator=torch.Generator().manual_seed(1))
        theirs.grad = mine.grad.clone()
    clip_gradient(one, 1.0)
    nn.utils.clip_grad_norm_(other, 1.0)
    assert all(torch.equal(mine.grad, theirs.grad) for mine, theirs in zip(one, other, strict=True))
