"""Stage two: train linear heads on cached embeddings, choose one, and hold it against the optimum."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from featcache.asked import Asked
from featcache.errors import CacheError, UsageError
from featcache.features import Features
from featcache.heads import runs, saved
from featcache.heads.grid import HeadAsked, configs_of, parse, parted
from featcache.heads.linear import best_of
from featcache.heads.saved import SavedHead
from featcache.heads.splits import notes_of_splits, read_splits
from featcache.recipe import HeadSection, Recipe
from featcache.streamed import Streamed

if TYPE_CHECKING:
    from featcache.heads.check import Check  # with it comes torch

CHECK_SECONDS = 30.0
LONGEST_CHECK = 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What one fit-head made."""

    heads: tuple[SavedHead, ...]  # in the order of the grid
    best: SavedHead | None  # None where every head diverged
    select: str  # macro_recall, accuracy or loss
    selected_by: str  # "" where nothing chose
    check: "Check | None"  # of the best head; None where it was left out
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
                    "diverged": found.head.diverged,
                    "best_epoch": found.head.best_epoch,
                    "settings": found.head.config.changed,
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
    grid: str | None = None,
    device: str = "auto",
    check_seconds: float | None = CHECK_SECONDS,
    from_disk: bool | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **asked: Unpack[HeadAsked],
) -> Fit:
    """Train a head for each learning rate, or each point of a grid, on the cached train split; choose on val.

    `grid` is what `--grid` takes, "lr=0.003,0.03 weight_decay=0,1e-4"; `asked` are settings of the recipe's head
    section, `select` (the metric on val that chooses: macro_recall, accuracy or loss) among them. What is None comes
    from the recipe. `check_seconds=None` leaves the check out. `from_disk` leaves the training rows on disk and reads
    them as they are needed; None does so where they do not fit into memory. `progress` gets the stage ("reading",
    "training", "checking"), the epochs done and the epochs to do.

    Raises:
        UsageError: a setting or the recipe.
        CacheError: the train split is not in the cache; or several heads, and no val split to choose by.
        DataError: a single class, or a split without rows.
    """
    if check_seconds is not None and not 0 < check_seconds <= LONGEST_CHECK:
        raise UsageError(f"--check-seconds: found {check_seconds}, expected above 0 and at most {LONGEST_CHECK:,.0f}")
    where, flags = parted(asked)
    meant = Asked(**where)
    section = section_of(meant.recipe, grid, {"lr": lr, **flags})
    configs = configs_of(section)
    progress("reading", 0, section.epochs)
    splits = read_splits(meant, from_disk=from_disk)
    train, val = splits.train, splits.val
    if val is None and (len(configs) > 1 or configs[0].patience):
        wants = f"{len(configs)} heads" if len(configs) > 1 else "patience"
        raise CacheError(
            f"{train.source['data_set']}: {wants} and no val split in the cache to choose by (test is for the report "
            f"alone). Run `featcache extract --split val`, or train one head, every epoch."
        )

    from featcache.heads.train import train_heads  # torch is imported where it is needed
    from featcache.trunks.hardware import choose_device

    begun = time.monotonic()
    trained = train_heads(
        train,
        val,
        configs,
        select=section.select,
        device=choose_device(device),
        progress=lambda done, epochs: progress("training", done, epochs),
    )
    seconds = time.monotonic() - begun
    heads = tuple(saved.save(splits.source, head, train, val) for head in trained)
    chosen = best_of(trained, section.select)
    best = None if chosen is None else heads[chosen]
    selected_by = f"{section.select.replace('_', ' ')} on val" if len(heads) > 1 and best is not None else ""
    check = None
    if best is not None and check_seconds is not None and not isinstance(train, Streamed):
        from featcache.heads.advice import check_and_advise

        progress("checking", section.epochs, section.epochs)
        check = check_and_advise(best.head, trained, train, val, check_seconds, seconds, choose_device(device))
    runs.record(splits.source, train, heads, None if best is None else best.name, selected_by, check, seconds)
    return Fit(
        heads=heads,
        best=best,
        select=section.select,
        selected_by=selected_by,
        check=check,
        train_rows=len(train.y),
        val_rows=None if val is None else len(val.y),
        seconds=seconds,
        notes=(*splits.notes, *notes_of(train, val, heads)),
    )


def section_of(recipe: Recipe, grid: str | None, flags: Mapping[str, object]) -> HeadSection:
    """The recipe's head section, with what `--grid` and the flags say in its place.

    Raises:
        UsageError: a setting out of its range, or one that is given twice.
    """
    in_grid = {} if grid is None else parse(grid)
    if twice := [name for name in in_grid if flags.get(name) is not None]:
        raise UsageError(f"{twice[0]} stands in --grid and in a flag of its own; give it once")
    return recipe.override("head", **(dict(flags) | in_grid)).head


def notes_of(train: Features | Streamed, val: Features | None, heads: Sequence[SavedHead]) -> tuple[str, ...]:
    """What a reader of these heads must know."""
    diverged = [head.name for head in heads if head.head.diverged]
    lines = [f"{name} diverged: its loss is without bounds; lower --lr" for name in diverged]
    return (*notes_of_splits(train, val), *lines)
