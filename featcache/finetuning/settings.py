"""The settings of a fine-tuning, as its head records them and as its name has them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from featcache.errors import UsageError
from featcache.heads import HeadConfig
from featcache.recipe import FROM_HEAD, FinetuneSection, FinetuneSettings, Recipe, declared_settings

SETTINGS = declared_settings(FinetuneSettings)
_OF_HEADS = (
    "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "plateau_epochs", "patience", "class_weights",
    "label_smoothing", "clip_norm", "batch_size", "epochs", "seed",
)  # fmt: skip


def finetune_section(recipe: Recipe, flags: Mapping[str, object]) -> FinetuneSection:
    """Return the recipe's [finetune] section, with what the flags say in its place.

    Args:
        recipe: The recipe.
        flags: Settings by name; None where one was not given.

    Raises:
        UsageError: a setting out of its range, or one that has no effect.
    """
    section = recipe.override("finetune", **flags).finetune
    if flags.get("momentum") is not None and section.optimizer != "sgd":
        raise UsageError(f"--momentum has no effect with {section.optimizer}: it is a setting of sgd").correct(
            "--momentum", None
        )
    if flags.get("plateau_epochs") is not None and section.schedule != "plateau":
        raise UsageError(
            f"--plateau-epochs has no effect with --schedule {section.schedule}; it belongs to --schedule plateau"
        ).correct("--plateau-epochs", None)
    if flags.get("layer_decay") not in (None, 1.0) and section.unfreeze == 0:
        raise UsageError("--layer-decay has no effect with --unfreeze 0: the head alone is trained").correct(
            "--layer-decay", None
        )
    return section


def head_config(section: FinetuneSection, normalize: str, loss: str) -> HeadConfig:
    """Return the settings that a fine-tuning shares with a linear head.

    Args:
        section: How the network is trained.
        normalize: "l2" where the head reads vectors of length 1.
        loss: Which says what is learnt: one class an image, several labels, or numbers.
    """
    shared: dict[str, Any] = {name: getattr(section, name) for name in _OF_HEADS}
    return HeadConfig(**shared, normalize=normalize, loss=loss)  # type: ignore[arg-type]


def recorded_settings(
    section: FinetuneSection, *, head: str = "", weights: str = "", augment: str = ""
) -> dict[str, Any]:
    """Return what head.json says of a fine-tuning beside the settings of a head: what differs from the defaults.

    Args:
        section: How the network is trained.
        head: The name of the head that it started from; "" where there was none.
        weights: How the first weights were named; "" where they were random, or a head's.
        augment: What was done to the training images; "" where that was nothing.
    """
    start = f"{FROM_HEAD} {head}" if head else section.start
    own = {name: getattr(section, name) for name in SETTINGS if name not in (*_OF_HEADS, "start")}
    changed = {name: value for name, value in own.items() if value != SETTINGS[name].default}
    named = {"weights": weights, "augment": augment}
    return {"start": start, **{name: words for name, words in named.items() if words}, **changed}


def training_name(made_from: Mapping[str, Any]) -> str:
    """Return a name that stands for all that a training is made of, for its checkpoint.

    Args:
        made_from: JSON values.
    """
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
