"""Rows, settings and torch's own way of training, for the tests of the trainer."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import LinearHead
from featcache.heads.training.losses import class_weights
from featcache.heads.training.samplers import sampled, shuffled
from tests.builders import scaled_clusters

TRAIN, VAL = scaled_clusters(), scaled_clusters(seed=1)


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


CONFIGS = [
    HeadConfig(epochs=8, batch_size=64),
    HeadConfig(epochs=8, batch_size=64, lr=0.3),
    HeadConfig(epochs=8, batch_size=64, lr=0.1, weight_decay=0.01, clip_norm=0.2),
    HeadConfig(epochs=8, batch_size=64, lr=0.1, momentum=0.0, clip_norm=None),
]


def torchs_training(train: Features, config: HeadConfig) -> tuple[np.ndarray, np.ndarray]:
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
    for order in sampled(y, config):
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


def torchs_sgd(train: Features, config: HeadConfig) -> tuple[torch.nn.Linear, list[tuple[float, float, float]]]:
    """nn.Linear, autograd, torch.optim.SGD, clip_grad_norm_, CosineAnnealingLR; and its running history."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    layer = torch.nn.Linear(x.shape[1], len(train.classes))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": config.weight_decay}, {"params": [layer.bias]}]
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.steps(len(y)))
    history = []
    for order in shuffled(len(y), config.epochs, config.seed):
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


def plain_macro_recall(truth, predicted) -> float:
    """scikit-learn's balanced_accuracy_score, which warns where a class without rows is predicted."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def apart(head: LinearHead, weight, bias) -> float:
    """The distance in relative norm, weights and bias together."""
    mine = np.column_stack([head.weight, head.bias]).astype(np.float64)
    other = np.column_stack([weight, bias]).astype(np.float64)
    return float(np.linalg.norm(mine - other) / np.linalg.norm(other))
