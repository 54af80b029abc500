"""What a reader of trained heads must know beside their scores: which diverged, and what had no effect."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from featcache.errors import FeatcacheError
from featcache.features import Features, Streamed
from featcache.heads.linear import Scores, merit
from featcache.heads.saved import Handles, SavedHead, describe_model, heads_folder, read_runs
from featcache.heads.splits import notes_of_splits
from featcache.heads.target_settings import note_on_targets
from featcache.recipe import LABEL, LINEAR
from featcache.store import FeatureStore
from featcache.text import metric_in_words, metric_text


def notes_of_heads(train: Features | Streamed, val: Features | None, heads: Sequence[SavedHead]) -> tuple[str, ...]:
    """Return what a reader of these heads must know beside their scores."""
    diverged = [
        f"{saved.name} diverged: its loss grew without bounds{_lower_lr_advice(saved, heads)}"
        for saved in heads
        if saved.head.diverged
    ]
    warmups = sorted({saved.head.config.warmup for saved in heads if _is_warmup_within_a_step(saved)})
    slow = [f"warmup {epochs:g} is less than one step: the learning rate does not rise" for epochs in warmups]
    of_targets = note_on_targets(train, val, heads[0].head.targets) if isinstance(train, Features) and heads else []
    return (*notes_of_splits(train, val), *of_targets, *diverged, *slow)


def compare_with_linear(
    best: SavedHead | None, linear: tuple[str, Scores | None], handles: Handles
) -> tuple[str, ...]:  # fmt: skip
    """Return what stands in for the check of a head that is a torch module: the best linear head on the same val.

    Args:
        best: the best head of a run; None where every head diverged.
        linear: what `best_linear` found beside it.
        handles: the short names of all models of the data set.
    """
    if best is None or best.kind == LINEAR:
        return ()
    is_of_classes = best.head.config.targets == LABEL
    reason = f"no check: a head of kind {best.kind} has no single optimum to be held against" * is_of_classes
    reason = reason or f"a head of kind {best.kind} has to be better than a linear one to be worth it"
    name, scores = linear
    if best.val is None:
        return (f"{reason}, and there is no val split to compare it with a linear head on",)
    if scores is None:
        return (
            f"{reason}, and these embeddings have no linear head yet to compare it with: fit-head without --head "
            f"trains one",
        )
    if best.head.config.is_over_clips:
        return (f"{reason}; `featcache report {best.name} --against {name} --split val --by clip` compares it with the "
                f"vote of the best linear head over the frames of a clip",)  # fmt: skip
    metric = best.val.chief
    ours, theirs = (metric_text(metric, of_head.figure(metric)) for of_head in (best.val, scores))
    leads = merit(best.val, metric)[0] - merit(scores, metric)[0]
    verdict = "they are equal on val" if not leads else f"{'this' if leads > 0 else 'the linear'} head is ahead on val"
    return (
        f"{reason}; on val its {metric_in_words(metric)} is {ours}, that of the best linear head, "
        f"{handles.describe(name)}, {theirs}: {verdict}",
    )


def best_linear(store: FeatureStore, beside: SavedHead | None) -> tuple[str, Scores | None]:
    """Return the name and the val scores of the best linear head that was scored on the same val; ("", None) if none.

    Args:
        store: whose heads are looked at.
        beside: the head whose data set, variant and val are meant; none is looked for beside a linear one, or None.
    """
    if beside is None or beside.kind == LINEAR:
        return "", None
    source, listing = beside.sources["train"], beside.sources.get("val", {}).get("listing")
    folder = heads_folder(store, source["data_set"], source["variant"])
    scored: dict[str, Scores] = {}
    for name in dict.fromkeys(name for run in read_runs(store, source["data_set"], source["variant"], newest=False)
                              for name in run.heads):  # fmt: skip
        with contextlib.suppress(FeatcacheError):
            model = describe_model(folder / name)
            if model.kind == LINEAR and model.val is not None and model.sources["val"]["listing"] == listing:
                scored[name] = model.val
    best = max(scored, key=lambda name: merit(scored[name], scored[name].chief), default="")
    return best, scored.get(best)


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
