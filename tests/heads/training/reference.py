"""A training as the documents describe it, in plain NumPy and float64, formula by formula. It calls nothing of
featcache: settings come as plain values, and the rows of each step as they were drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Epoch:
    """What one epoch of the reference was like."""

    loss: float  # running, nats
    answers: np.ndarray  # (rows,) running, in the order of the draws
    weight: np.ndarray  # (classes, dim) after it, on rows as they are
    bias: np.ndarray


@dataclass
class Reference:
    """A float64 training: final weights on rows as they are, and what each epoch was like."""

    weight: np.ndarray
    bias: np.ndarray
    epochs: list[Epoch] = field(default_factory=list)


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def train(x32: np.ndarray, y: np.ndarray, classes: int, orders: Sequence[np.ndarray], **setting) -> Reference:
    """Train one head.

    Args:
        x32: (rows, dim).
        y: (rows,) labels.
        classes: how many there are.
        orders: for each epoch, the rows in the order in which they are drawn.
        setting: the values of every setting of a head.
    """
    x, counts = x32.astype(np.float64), np.bincount(y, minlength=classes)
    mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if setting["standardize"]:
        mean = x.mean(axis=0)
        scale = np.sqrt(np.square(x - mean).mean(axis=0))
        scale[(x == x[0]).all(axis=0)] = 1  # as StandardScaler: what never changes is not divided
        mean = np.where((x == x[0]).all(axis=0), x[0], mean)
        x = (x - mean) / scale
    seen = counts > 0
    class_weight = np.ones(classes)
    if setting["class_weights"] == "balanced":
        class_weight = np.where(seen, len(y) / (seen.sum() * np.maximum(counts, 1)), 0.0)
    offset = setting["logit_adjustment"] * np.log(np.maximum(counts, 1) / len(y))
    smoothing, size = setting["label_smoothing"], setting["batch_size"]
    w, b = np.zeros((classes, x.shape[1])), np.zeros(classes)
    state = {name: (np.zeros_like(w), np.zeros_like(b)) for name in ("first", "second")}
    per_epoch = math.ceil(len(y) / size)
    steps = per_epoch * len(orders)
    warm, step, trained = round(setting["warmup"] * steps / len(orders)), 0, Reference(w, b)
    for order in orders:
        losses, answers = 0.0, []
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch, truth = x[rows], y[rows]
            z = batch @ w.T + b
            answers.append(z.argmax(axis=1))
            p = softmax(z + offset)
            shifted = z + offset - (z + offset).max(axis=1, keepdims=True)
            losses += (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(rows)), truth]).sum()
            # torch's cross_entropy(weight, label_smoothing): the mean of the rows weighs each by its class
            target = np.eye(classes)[truth]
            own = class_weight[truth][:, None]
            g = (1 - smoothing) * own * (p - target)
            g += smoothing / classes * (class_weight.sum() * p - class_weight)
            g /= own.sum()
            d_w, d_b = g.T @ batch, g.sum(axis=0)
            if setting["clip_norm"] is not None:
                norm = math.sqrt(np.square(d_w).sum() + np.square(d_b).sum())
                share = min(1.0, setting["clip_norm"] / (norm + 1e-6))
                d_w, d_b = d_w * share, d_b * share
            if step < warm:
                lr = setting["lr"] * (step + 1) / warm
            elif setting["schedule"] == "cosine":
                lr = setting["lr"] / 2 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
            else:
                lr = setting["lr"]
            step += 1
            w, b = _step(setting, state, step, lr, (w, b), (d_w, d_b))
        on_rows = w / scale
        trained.epochs.append(Epoch(losses / len(order), np.concatenate(answers), on_rows, b - on_rows @ mean))
    trained.weight, trained.bias = trained.epochs[-1].weight, trained.epochs[-1].bias
    return trained


def _step(setting, state, t, lr, values, gradients):
    """torch.optim's SGD, Adam and AdamW as their documentation has them; weight decay leaves the bias alone."""
    moved = []
    for which, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        decay = setting["weight_decay"] if which == 0 else 0.0
        if setting["optimizer"] == "adamw":
            value = value - lr * decay * value
        else:
            gradient = gradient + decay * value
        first, second = state["first"][which], state["second"][which]
        if setting["optimizer"] == "sgd":
            first[...] = setting["momentum"] * first + gradient
            moved.append(value - lr * first)
            continue
        first[...] = 0.9 * first + 0.1 * gradient
        second[...] = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        moved.append(value - lr * step)
    return moved
