"""What a reader of trained heads must know beside their scores: which diverged, and what had no effect."""

from collections.abc import Sequence
from dataclasses import replace

from featcache.features import Features, Streamed
from featcache.heads.saved import SavedHead
from featcache.heads.splits import notes_of_splits


def notes_of_heads(train: Features | Streamed, val: Features | None, heads: Sequence[SavedHead]) -> tuple[str, ...]:
    """Return what a reader of these heads must know beside their scores."""
    diverged = [
        f"{saved.name} diverged: its loss grew without bounds{_lower_lr_advice(saved, heads)}"
        for saved in heads
        if saved.head.diverged
    ]
    warmups = sorted({saved.head.config.warmup for saved in heads if _is_warmup_within_a_step(saved)})
    slow = [f"warmup {epochs:g} is less than one step: the learning rate does not rise" for epochs in warmups]
    return (*notes_of_splits(train, val), *diverged, *slow)


def _lower_lr_advice(diverged: SavedHead, heads: Sequence[SavedHead]) -> str:
    """Return what to do about a head that diverged; where a lower rate of the same run did well, that it did."""
    config = diverged.head.config
    sound = [
        saved.head.config.lr
        for saved in heads
        if not saved.head.diverged and saved.head.config == replace(config, lr=saved.head.config.lr)
    ]
    lower = [lr for lr in sound if lr < config.lr]
    return f"; with --lr {max(lower):g} it did not" if lower else "; lower --lr"


def _is_warmup_within_a_step(saved: SavedHead) -> bool:
    config = saved.head.config
    return config.warmup > 0 and not round(config.warmup * saved.head.steps / config.epochs)
