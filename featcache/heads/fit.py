"""Stage two: train linear heads on cached embeddings, choose one, and hold it against the optimum."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from featcache.asked import Asked
from featcache.errors import CacheError, DataError, UsageError
from featcache.features import RANDOM_TRUNK, Features, behind, features_of
from featcache.heads import saved
from featcache.heads.check import Check, check_head
from featcache.heads.config import HeadConfig
from featcache.heads.linear import best_of
from featcache.heads.saved import SavedHead
from featcache.listing import cuts
from featcache.recipe import HeadSection
from featcache.where import Stored

CHECK_SECONDS = 30.0
LONGEST_CHECK = 86_400.0
SELECTED_BY = "macro recall on val"


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What one fit-head made."""

    heads: tuple[SavedHead, ...]  # in the order of the learning rates
    best: SavedHead | None  # None where every head diverged
    selected_by: str  # "" where nothing chose
    check: Check | None  # of the best head; None where it was left out
    train_rows: int
    val_rows: int | None
    seconds: float  # of the training, val passes included
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line's contract."""
        return {
            "heads": [
                {
                    "name": found.name,
                    "lr": found.head.config.lr,
                    "steps": found.head.steps,
                    "epochs": found.head.config.epochs,
                    "train": saved.scores_json(found.head.train),
                    "val": saved.scores_json(found.head.val),
                    "folder": str(found.folder),
                }
                for found in self.heads
            ],
            "check": None if self.check is None else saved.check_json(self.check),
            "best": None if self.best is None else self.best.name,
            "selected_by": self.selected_by or None,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def fit_head(
    lr: float | Sequence[float] | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    check_seconds: float | None = CHECK_SECONDS,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **where: Unpack[Stored],
) -> Fit:
    """Train one head a learning rate, side by side, on the cached train split; choose by macro recall on val.

    What is None comes from the recipe. `check_seconds=None` leaves the check out. `progress` gets the stage
    ("reading", "training", "checking"), the epochs done and the epochs to do.

    Raises:
        UsageError: a setting or the recipe.
        CacheError: the train split is not in the cache; or several learning rates, and no val split to choose by.
        DataError: a single class, or a split without rows.
    """
    if check_seconds is not None and not 0 < check_seconds <= LONGEST_CHECK:
        raise UsageError(f"--check-seconds: found {check_seconds}, expected above 0 and at most {LONGEST_CHECK:,.0f}")
    asked = Asked(**where)
    section = asked.recipe.override(
        "head", lr=lr, epochs=epochs, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay,
        clip_norm=clip_norm, seed=seed,
    ).head  # fmt: skip
    progress("reading", 0, section.epochs)
    source = asked.store_of("train")
    train = features_of(source, asked.key("train"))
    val = features_of(source, asked.key("val")) if asked.key("val") in source.listings else None
    _refuse_unfit(train, val, section)
    splits = ("train",) if val is None else ("train", "val")
    stale = [found for split in splits if (found := behind(source, asked.recipe, split))]

    from featcache.heads.sgd import train_heads  # torch is imported where it is needed
    from featcache.trunks.registry import choose_device

    begun = time.monotonic()
    trained = train_heads(
        train,
        val,
        configs_of(section),
        device=choose_device(device),
        progress=lambda done, epochs: progress("training", done, epochs),
    )
    seconds = time.monotonic() - begun
    heads = tuple(saved.save(source, head, train, val) for head in trained)
    chosen = best_of(trained)
    best = None if chosen is None else heads[chosen]
    selected_by = SELECTED_BY if len(heads) > 1 and best is not None else ""
    check = None
    if best is not None and check_seconds is not None:
        progress("checking", section.epochs, section.epochs)
        check = check_head(best.head, train, val, seconds=check_seconds)
    saved.record_run(source, train, heads, None if best is None else best.name, selected_by, check, seconds)
    return Fit(
        heads=heads,
        best=best,
        selected_by=selected_by,
        check=check,
        train_rows=len(train.y),
        val_rows=None if val is None else len(val.y),
        seconds=seconds,
        notes=(
            *stale,
            *(str(cut) for cut in cuts([train] if val is None else [train, val])),
            *_notes(train, val, heads),
        ),
    )


def configs_of(section: HeadSection) -> list[HeadConfig]:
    """A recipe's head section, one config a learning rate; a repeated one is trained once."""
    settings = section.model_dump(exclude={"lr"})
    base = HeadConfig(**settings)
    return [replace(base, lr=float(lr)) for lr in dict.fromkeys(section.lr)]


def _refuse_unfit(train: Features, val: Features | None, section: HeadSection) -> None:
    seen = np.unique(train.y)
    if len(seen) < 2:
        found = f"only class {train.classes[seen[0]]!r}" if len(seen) else "no row"
        raise DataError(
            f"{train.source['root']}: split 'train' has {found} with an embedding; a classifier needs two classes. "
            f"Add images of another class and run `featcache extract --split train` again."
        )
    if val is not None and not len(val.y):
        raise DataError(f"{train.source['root']}: no image of split 'val' has an embedding; mend or remove the split")
    if val is not None and val.source["root"] != train.source["root"]:
        raise CacheError(
            f"{train.source['data_set']}: train was extracted from {train.source['root']}, val from "
            f"{val.source['root']}. Run `featcache extract` (without --split): it embeds only what is new."
        )
    if val is not None and val.classes != train.classes:
        raise CacheError(
            f"{train.source['data_set']}: train was extracted with {len(train.classes)} classes, val with "
            f"{len(val.classes)}: the folder changed in between. Run `featcache extract` (without --split) again; "
            f"it embeds only what is new."
        )
    if val is None and len(set(section.lr)) > 1:
        raise CacheError(
            f"{train.source['data_set']}: {len(set(section.lr))} learning rates and no val split in the cache to "
            f"choose by (test is for the report alone). Run `featcache extract --split val`, or name one --lr."
        )


def _notes(train: Features, val: Features | None, heads: Sequence[SavedHead]) -> tuple[str, ...]:
    notes = []
    if train.source["weights"] == "random":
        notes.append(RANDOM_TRUNK)
    for split in (train, val):
        if split is not None and split.part:
            notes.append(
                f"split {split.split!r} is a part of its folder ({split.part}); extract it again for all of it"
            )
        if split is not None and split.failed:
            notes.append(f"{split.failed:,} images of split {split.split!r} have no embedding and are left out")
    absent = [name for label, name in enumerate(train.classes) if not (train.y == label).any()]
    if absent:
        notes.append(f"no training image of {len(absent)} of {len(train.classes)} classes: {', '.join(absent[:5])}")
    if val is None:
        notes.append(
            "no val split in the cache: nothing chose this head, and no figure here was measured on unseen images"
        )
    notes += [f"{head.name} diverged: its loss is not finite; lower --lr" for head in heads if head.head.diverged]
    return tuple(notes)
