"""What fit-head trains where nobody gives a learning rate: a small grid, on batches that suit the number of rows.

`bench/default.py` measured which grid; docs/decisions/105 has the choice. Where a learning rate is given, by a flag, in
`--grid` or in a recipe, or a list of anything else, nothing here applies: every other setting is then what it says, or
its declared default.
"""

import math
from collections.abc import Mapping
from typing import Any

from featcache.heads.config import SETTINGS
from featcache.heads.grid import GRID_KEYS, head_configs
from featcache.recipe import LINEAR, HeadSection
from featcache.text import counted

STEPS_PER_EPOCH = 10  # at least
# By optimizer: of embeddings whose rows have a length of 10 to 40, with the gradient clipped at 1.
LEARNING_RATES: Mapping[str, tuple[float, ...]] = {
    "sgd": (0.001, 0.01, 0.1, 0.3),
    "adam": (0.0001, 0.001, 0.01),
    "adamw": (0.0001, 0.001, 0.01),
}
# Of heads that are torch modules, whose first weights are not zero.
MODULE_LEARNING_RATES: Mapping[str, tuple[float, ...]] = {
    "sgd": (0.01, 0.03, 0.1),
    "adam": (0.0001, 0.0003, 0.001),
    "adamw": (0.0001, 0.0003, 0.001),
}
LEAST_MODULE_BATCH = 64  # rows: a step of a module takes nearly as long on 16
WEIGHT_DECAYS = (0.0, 0.001, 0.1)
MANY_ROWS = 50_000  # from here on one weight decay will do: rows enough hold the weights, and each head costs seconds
WITHOUT_VAL = {"sgd": 0.003, "adam": 0.001, "adamw": 0.001}  # of the one head, where nothing can choose


def fill_in_defaults(section: HeadSection, rows: int, *, has_val: bool) -> tuple[HeadSection, str]:
    """Return the head section with a grid and a batch where no learning rate is given, and what that is, in a sentence.

    Args:
        section: the recipe's, with the flags and `--grid` in it.
        rows: how many rows are trained on.
        has_val: whether there is a split to choose by; without one, one head is trained.

    Returns:
        The section itself and "" where a learning rate is given, or a grid of other settings.
    """
    if "lr" in section.model_fields_set or any(len(getattr(section, name)) > 1 for name in GRID_KEYS):
        return section, ""
    optimizers = section.optimizer if has_val else section.optimizer[:1]
    is_linear = section.head == LINEAR
    by_optimizer = LEARNING_RATES if is_linear else MODULE_LEARNING_RATES
    if has_val:
        rates = sorted({rate for optimizer in optimizers for rate in by_optimizer[optimizer]})
    else:
        rates = [WITHOUT_VAL[optimizers[0]]]
    settings: dict[str, Any] = {"lr": tuple(rates)}
    if "weight_decay" not in section.model_fields_set and has_val and is_linear and rows < MANY_ROWS:
        settings["weight_decay"] = WEIGHT_DECAYS
    if "batch_size" not in section.model_fields_set:
        settings["batch_size"] = default_batch_size(rows, section.head)
    filled = section.model_copy(update=settings)
    return filled, _describe(filled, rows)


def default_batch_size(rows: int, head: str = LINEAR) -> int:
    """Return the rows of a batch: the declared default, or the power of two that gives ten steps an epoch or more.

    Of a head that is a torch module, at least `LEAST_MODULE_BATCH`.

    Args:
        rows: how many rows are trained on.
        head: as `--head` has it.
    """
    usual: int = SETTINGS["batch_size"].default
    least = 1 if head == LINEAR else LEAST_MODULE_BATCH
    return min(usual, max(least, 1 << max(0, (rows // STEPS_PER_EPOCH).bit_length() - 1)))


def _describe(section: HeadSection, rows: int) -> str:
    """Return what was chosen because no learning rate was given, in a sentence."""
    heads = len(head_configs(section))
    decays = f", each with weight decay {_enumerate(section.weight_decay)}" if len(section.weight_decay) > 1 else ""
    trained = f"{heads} heads were trained, with learning rates" if heads > 1 else "one head was trained, with rate"
    steps = math.ceil(rows / section.batch_size)
    return (
        f"no --lr was given: {trained} {_enumerate(section.lr)}{decays}, on batches of "
        f"{counted(section.batch_size, 'row')} ({counted(steps, 'step')} an epoch)"
    )


def _enumerate(values: tuple[float, ...]) -> str:
    *others, last = [f"{value:g}" for value in values]
    return f"{', '.join(others)} and {last}" if others else last
