"""The settings of a recipe as keywords of Python functions. Written by `python -m tests.recipe.write_keywords`."""

from collections.abc import Sequence
from typing import TypedDict

from featcache.recipe.network_object import NetworkName
from featcache.recipe.own_head import HeadWord


class HeadKeywords(TypedDict, total=False):
    """Settings of a recipe's [head] section; None: as the recipe has it."""

    head: HeadWord | None
    hidden: str | int | Sequence[str | int] | None
    activation: str | Sequence[str] | None
    dropout: float | Sequence[float] | None
    batch_norm: bool | Sequence[bool] | None
    queries: int | Sequence[int] | None
    tokens: int | None
    frames: int | None
    over_time: str | Sequence[str] | None
    optimizer: str | Sequence[str] | None
    momentum: float | None
    weight_decay: float | Sequence[float] | None
    schedule: str | None
    warmup: float | None
    plateau_epochs: int | None
    patience: int | None
    loss: str | None
    huber_delta: float | None
    class_weights: str | Sequence[str] | None
    sampler: str | Sequence[str] | None
    logit_adjustment: float | Sequence[float] | None
    label_smoothing: float | Sequence[float] | None
    standardize: bool | Sequence[bool] | None
    normalize: str | Sequence[str] | None
    views: bool | Sequence[bool] | None
    matmul_precision: str | Sequence[str] | None
    clip_norm: float | None
    batch_size: int | None
    epochs: int | None
    seed: int | Sequence[int] | None
    exact: bool | None
    augment: str | None
    select: str | None


class TrunkKeywords(TypedDict, total=False):
    """Settings of a recipe's [trunk] section; None: as the recipe has it."""

    arch: NetworkName | None
    weights: str | None
    layer: str | Sequence[str] | None
    image_size: int | None
    interpolate_positions: bool | None
    transform: str | None
    precision: str | None
    stored: str | None
    views: int | None
    augment: str | None
    decode: str | None


class FinetuneKeywords(TypedDict, total=False):
    """Settings of a recipe's [finetune] section; None: as the recipe has it."""

    start: str | None
    unfreeze: int | None
    optimizer: str | None
    lr: float | None
    layer_decay: float | None
    momentum: float | None
    weight_decay: float | None
    schedule: str | None
    warmup: float | None
    plateau_epochs: int | None
    patience: int | None
    class_weights: str | None
    label_smoothing: float | None
    clip_norm: float | None
    batch_size: int | None
    accumulate: int | None
    ema: float | None
    mixed: str | None
    epochs: int | None
    seed: int | None
