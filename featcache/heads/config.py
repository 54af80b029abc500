"""HeadConfig: how one linear head is trained. Plain values; no torch."""

import math
from dataclasses import dataclass, fields

from featcache.errors import UsageError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "constant", "plateau")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLERS = ("uniform", "balanced")

_SHORT = {
    "weight_decay": "wd", "clip_norm": "clip", "batch_size": "batch", "optimizer": "", "schedule": "",
    "plateau_epochs": "plateau", "class_weights": "weights", "logit_adjustment": "adjust",
    "label_smoothing": "smooth",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """The recipe of one head. The defaults are the ViT paper's for transfer, with 90 epochs.

    Raises:
        UsageError: a setting is out of its range; every problem is named.
    """

    optimizer: str = "sgd"
    lr: float = 0.003  # at the first step; the schedule takes it from there
    momentum: float = 0.9
    weight_decay: float = 0.0  # on the weights; the bias stays free
    schedule: str = "cosine"  # plateau: a tenth, after `plateau_epochs` epochs without a lower loss on val
    warmup: float = 0.0  # epochs over which the learning rate rises in a line; the schedule takes the rest
    plateau_epochs: int = 10
    patience: int | None = None  # epochs without a better val score until the head stops and keeps its best epoch
    class_weights: str = "none"  # balanced: each class weighs the same in the loss, rows / (classes x its rows)
    sampler: str = "uniform"  # balanced: each draw takes a class at random, then one of its rows
    logit_adjustment: float = 0.0  # tau: train on the logits + tau log(class share) (Menon et al. 2021)
    label_smoothing: float = 0.0
    standardize: bool = False  # train on (x - mean) / std of the training rows; folded into the weights at the end
    clip_norm: float | None = 1.0  # of a head's whole gradient, weights and bias together; None: no clipping
    batch_size: int = 1024
    epochs: int = 90
    seed: int = 0  # of the order in which rows are drawn; the weights start at zero

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)!r}, expected {expected}"
            for name, expected, fits in (
                ("optimizer", " or ".join(OPTIMIZERS), self.optimizer in OPTIMIZERS),
                ("lr", "a number above 0", _number(self.lr) and self.lr > 0),
                ("momentum", "a number from 0 to below 1", _number(self.momentum) and 0 <= self.momentum < 1),
                ("weight_decay", "a number from 0 up", _number(self.weight_decay) and self.weight_decay >= 0),
                ("schedule", " or ".join(SCHEDULES), self.schedule in SCHEDULES),
                ("warmup", "epochs from 0 to below `epochs`", _number(self.warmup) and 0 <= self.warmup < self.epochs),
                (
                    "plateau_epochs",
                    "a whole number from 1 up",
                    _whole(self.plateau_epochs) and self.plateau_epochs >= 1,
                ),
                (
                    "patience",
                    "a whole number from 1 up, or None",
                    self.patience is None or (_whole(self.patience) and self.patience >= 1),
                ),
                ("class_weights", " or ".join(CLASS_WEIGHTS), self.class_weights in CLASS_WEIGHTS),
                ("sampler", " or ".join(SAMPLERS), self.sampler in SAMPLERS),
                (
                    "logit_adjustment",
                    "a number from 0 up",
                    _number(self.logit_adjustment) and self.logit_adjustment >= 0,
                ),
                (
                    "label_smoothing",
                    "a number from 0 to below 1",
                    _number(self.label_smoothing) and 0 <= self.label_smoothing < 1,
                ),
                ("standardize", "true or false", isinstance(self.standardize, bool)),
                (
                    "clip_norm",
                    "a number above 0, or None",
                    self.clip_norm is None or (_number(self.clip_norm) and self.clip_norm > 0),
                ),
                ("batch_size", "a whole number from 1 up", _whole(self.batch_size) and self.batch_size >= 1),
                ("epochs", "a whole number from 1 up", _whole(self.epochs) and self.epochs >= 1),
                ("seed", "a whole number from 0 to 2^63 - 1", _whole(self.seed) and 0 <= self.seed < 2**63),
            )
            if not fits
        ]
        if problems:
            raise UsageError("; ".join(problems) + ".")

    @property
    def name(self) -> str:
        """The learning rate, then whatever differs from the defaults: `lr0.003`, `lr0.01-wd0.0001-seed1`."""
        changed = [
            name if value is True else _SHORT.get(name, name) + _text(value)
            for name, value in self.changed.items()
            if name != "lr"
        ]
        return "-".join([f"lr{_text(self.lr)}", *changed])

    def steps(self, rows: int) -> int:
        """The steps of a training on `rows` rows: epochs x ceil(rows / batch_size), a partial one counts."""
        return self.epochs * math.ceil(rows / self.batch_size)

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps - 1, before any plateau.

        lr (step + 1) / w in the w steps of the warm-up; then, for the cosine, half a wave over the rest, from `lr` to
        just above 0: lr / 2 (1 + cos(pi (step - w) / (steps - w))), torch's CosineAnnealingLR with T_max = steps - w.
        """
        warm = round(self.warmup * steps / self.epochs)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule != "cosine":
            return self.lr
        return self.lr / 2 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    @property
    def batches(self) -> tuple[object, ...]:
        """What decides which rows a step sees, and how: heads that agree in it train on the same batches."""
        return self.batch_size, self.epochs, self.seed, self.sampler, self.standardize

    @property
    def changed(self) -> dict[str, object]:
        """The settings that differ from the defaults, and the learning rate: a new setting renames no old head."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name == "lr" or getattr(self, field.name) != field.default
        }


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value).lower()
