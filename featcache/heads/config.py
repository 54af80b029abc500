"""HeadConfig: which head is trained, and how. Plain values; no torch."""

import math
import re
from dataclasses import dataclass, fields

from featcache.errors import UsageError
from featcache.recipe import LABEL, LABELS, LINEAR, TEMPORAL, VALUE, HeadSettings, declared_settings, is_own_head
from featcache.text import value_text

SETTINGS = declared_settings(HeadSettings)
# Settings that head.json did not have from the beginning.
_LATER = (
    "normalize",
    "views",
    "head",
    "loss",
    "huber_delta",
    "matmul_precision",
    *(name for name, setting in SETTINGS.items() if not setting.applies_to(LINEAR)),
)
_LATER_THAN_MODULES = ("views", "loss", "huber_delta")  # and of heads that are modules


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig(HeadSettings):
    """The settings of one head, checked. They are declared in `featcache.recipe.head`.

    Raises:
        UsageError: a setting is out of its range; every problem is named.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", SETTINGS["hidden"].as_kept(self.hidden))  # 2048 is "2048"
        problems = [
            f"{name} is {value_text(getattr(self, name))}, expected {setting.expected}"
            for name, setting in SETTINGS.items()
            if not setting.accepts(getattr(self, name))
        ]
        if not problems and self.warmup >= self.epochs:
            problems.append(f"warmup is {self.warmup!r}, expected fewer epochs than `epochs`, {self.epochs}")
        if not problems and self.matmul_precision != "fp32" and not (self.is_linear and self.targets == LABEL):
            problems.append(
                f"matmul_precision is {self.matmul_precision!r}, expected 'fp32': only linear heads on one class a "
                f"row multiply in bfloat16"
            )
        if problems:
            raise UsageError("; ".join(problems) + ".")

    @property
    def name(self) -> str:
        """A module's kind, the learning rate, and whatever differs from the defaults: `lr0.003`, `mlp-lr0.01-wd0.1`.

        The kind of a head of one's own is the last word of its path.
        """
        usual = () if self.loss == "huber" else ("loss",)  # which follows from the targets, as the folder's name does
        others = [_named(name, value) for name, value in self.changed.items() if name not in ("lr", "head", *usual)]
        kind = re.split("[:.]", self.head.partition("@")[0])[-1] if self.is_own else self.head
        return "-".join([*([] if self.is_linear else [kind]), f"lr{_text(self.lr)}", *others])

    @property
    def is_linear(self) -> bool:
        """Whether the head is one linear layer; else it is a torch module."""
        return self.head == LINEAR

    @property
    def is_own(self) -> bool:
        """Whether the head is a torch module of one's own, named by its import path."""
        return is_own_head(self.head)

    @property
    def is_over_clips(self) -> bool:
        """Whether a row of the head is a clip, and not an image."""
        return self.head == TEMPORAL

    @property
    def targets(self) -> str:
        """What it predicts of a row: LABEL (one class), LABELS (several), or VALUE (numbers); its loss says it."""
        return {"cross_entropy": LABEL, "binary_cross_entropy": LABELS}.get(self.loss, VALUE)

    def row_width(self, width: int) -> int:
        """Return the numbers of one row of the head: an embedding, or the frames of a clip and how many there are.

        Args:
            width: of an embedding.
        """
        return self.frames * width + 1 if self.is_over_clips else width

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """The units of each hidden layer."""
        return tuple(map(int, self.hidden.split(",")))

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
        """What decides which rows a step sees, and as what: heads that agree in it train on the same batches."""
        return (
            self.head, self.batch_size, self.epochs, self.seed, self.sampler, self.standardize, self.normalize,
            self.views, self.matmul_precision,
        )  # fmt: skip

    @property
    def applicable(self) -> dict[str, object]:
        """The settings that this head has; what only other heads have is left out."""
        return {name: getattr(self, name) for name, setting in SETTINGS.items() if setting.applies_to(self.head)}

    @property
    def recorded(self) -> dict[str, object]:
        """The settings as head.json has them: one that came later is left out at its default, as old heads lack it."""
        later = _LATER if self.is_linear else _LATER_THAN_MODULES
        return {
            name: value
            for name, value in self.applicable.items()
            if name not in later or value != SETTINGS[name].default
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
    label = name if short is None else short
    return label if value is True else f"{label}{_text(value)}"


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value).lower().replace(",", "x")
