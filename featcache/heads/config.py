"""HeadConfig: how one linear head is trained. Plain values; no torch."""

import math
from dataclasses import dataclass, fields

from featcache.errors import UsageError
from featcache.recipe import HeadSettings, declared_settings
from featcache.text import value_text

SETTINGS = declared_settings(HeadSettings)
_LATER = ("normalize", "views")  # settings that head.json did not have from the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig(HeadSettings):
    """The settings of one head, checked. They are declared in `featcache.recipe.head`.

    Raises:
        UsageError: a setting is out of its range; every problem is named.
    """

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value_text(getattr(self, name))}, expected {setting.expected}"
            for name, setting in SETTINGS.items()
            if not setting.accepts(getattr(self, name))
        ]
        if not problems and self.warmup >= self.epochs:
            problems.append(f"warmup is {self.warmup!r}, expected fewer epochs than `epochs`, {self.epochs}")
        if problems:
            raise UsageError("; ".join(problems) + ".")

    @property
    def name(self) -> str:
        """The learning rate, then whatever differs from the defaults: `lr0.003`, `lr0.01-wd0.0001-seed1`."""
        others = [_named(name, value) for name, value in self.changed.items() if name != "lr"]
        return "-".join([f"lr{_text(self.lr)}", *others])

    def steps(self, rows: int) -> int:
        """Return the steps of a training: epochs x ceil(rows / batch_size), a partial one counts.

        Args:
            rows: how many rows are trained on.
        """
        return self.epochs * math.ceil(rows / self.batch_size)

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of one step, before any plateau.

        lr (step + 1) / w in the w steps of the warm-up; then, for the cosine, half a wave over the rest, from `lr` to
        just above 0: lr / 2 (1 + cos(pi (step - w) / (steps - w))), torch's CosineAnnealingLR with T_max = steps - w.

        Args:
            step: from 0 to steps - 1, over all epochs.
            steps: of the whole training, as `steps()` gives them.
        """
        warm = round(self.warmup * steps / self.epochs)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule != "cosine":
            return self.lr
        return self.lr / 2 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What decides which rows a step sees, and how: heads that agree in it train on the same batches."""
        return (self.batch_size, self.epochs, self.seed, self.sampler, self.standardize, self.normalize, self.views)

    @property
    def recorded(self) -> dict[str, object]:
        """The settings as head.json has them: one that came later is left out at its default, as old heads lack it."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _LATER or getattr(self, field.name) != field.default
        }

    @property
    def changed(self) -> dict[str, object]:
        """The settings that differ from the defaults, and the learning rate: a new setting renames no old head."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name == "lr" or getattr(self, field.name) != field.default
        }


def _named(name: str, value: object) -> str:
    """Return a setting as it stands in a head's name: `wd0.0001`, `adamw`, `standardize`."""
    short = SETTINGS[name].declaration.short
    return name if value is True else f"{name if short is None else short}{_text(value)}"


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value).lower()
