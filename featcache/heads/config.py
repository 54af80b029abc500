"""HeadConfig: how one linear head is trained. Plain values; no torch."""

import math
from dataclasses import dataclass, fields

from featcache.errors import UsageError

OPTIMIZERS = ("sgd",)
SCHEDULES = ("cosine",)

_SHORT = {"weight_decay": "wd", "clip_norm": "clip", "batch_size": "batch", "optimizer": "", "schedule": ""}


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
    schedule: str = "cosine"
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
            _SHORT.get(field.name, field.name) + _text(getattr(self, field.name))
            for field in fields(self)
            if field.name != "lr" and getattr(self, field.name) != field.default
        ]
        return "-".join([f"lr{_text(self.lr)}", *changed])

    def steps(self, rows: int) -> int:
        """The steps of a training on `rows` rows: epochs x ceil(rows / batch_size), a partial one counts."""
        return self.epochs * math.ceil(rows / self.batch_size)

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps - 1: half a cosine, from `lr` to just above 0.

        lr / 2 * (1 + cos(pi * step / steps)), which is torch's CosineAnnealingLR with T_max = steps.
        """
        return self.lr / 2 * (1 + math.cos(math.pi * step / steps))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value).lower()
