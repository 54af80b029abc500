"""Stage two: train linear heads on cached embeddings, choose one, and hold it against the optimum."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError, UsageError
from featcache.features import Features, Streamed
from featcache.heads.grid import HeadOptions, head_configs, parse_grid
from featcache.heads.linear import best_of
from featcache.heads.saved import SavedHead, check_json, record_run, save_head, scores_json
from featcache.heads.splits import notes_of_splits, read_splits
from featcache.recipe import HeadKeywords, HeadSection, Recipe, StoreOptions, pick_options

if TYPE_CHECKING:
    from featcache.heads.optimum import Check

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
                    "train": scores_json(found.head.train),
                    "val": scores_json(found.head.val),
                    "diverged": found.head.diverged,
                    "best_epoch": found.head.best_epoch,
                    "settings": found.head.config.changed,
                    "folder": str(found.folder),
                }
                for found in self.heads
            ],
            "check": None if self.check is None else check_json(self.check),
            "best": None if self.best is None else self.best.name,
            "selected_by": self.selected_by or None,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


@checked
def fit_head(
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    check_seconds: float | None = CHECK_SECONDS,
    from_disk: bool | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **asked: Unpack[HeadOptions],
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
    refuse_seconds(check_seconds)
    where, flags = pick_options(asked, StoreOptions), pick_options(asked, HeadKeywords)
    meant = Asked(**where)
    section = section_of(meant.recipe, grid, {"lr": lr, **flags})
    configs = head_configs(section)
    progress("reading", 0, section.epochs)
    splits = read_splits(meant, from_disk=from_disk)
    train, val = splits.train, splits.val
    unused = []
    if flags.get("select") is not None and len(configs) == 1 and configs[0].patience is None:
        unused.append(f"--select {section.select} chooses nothing: there is one head, and its last epoch is kept")
    if from_disk and check_seconds is not None:
        unused.append("the check needs the training rows in memory: it is left out with --from-disk")
    if val is None and (len(configs) > 1 or configs[0].patience):
        wants = f"{len(configs)} heads" if len(configs) > 1 else "patience"
        raise CacheError(
            f"{train.source['data_set']}: {wants} and no val split in the cache to choose by (test is for the report "
            f"alone). Run `featcache extract --split val`, or train one head, every epoch."
        )

    from featcache.heads.training import train_heads
    from featcache.trunks import choose_device

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
    heads = tuple(save_head(splits.source, head, train, val) for head in trained)
    chosen = best_of(trained, section.select)
    best = None if chosen is None else heads[chosen]
    selected_by = f"{section.select.replace('_', ' ')} on val" if len(heads) > 1 and best is not None else ""
    check = None
    if best is not None and check_seconds is not None and not isinstance(train, Streamed):
        from featcache.heads.optimum import check_and_advise

        progress("checking", section.epochs, section.epochs)
        check = check_and_advise(best.head, trained, train, val, check_seconds, seconds, choose_device(device))
    record_run(splits.source, train, heads, None if best is None else best.name, selected_by, check, seconds)
    return Fit(
        heads=heads,
        best=best,
        select=section.select,
        selected_by=selected_by,
        check=check,
        train_rows=len(train.y),
        val_rows=None if val is None else len(val.y),
        seconds=seconds,
        notes=(*unused, *splits.notes, *notes_of(train, val, heads)),
    )


def refuse_seconds(check_seconds: float | None) -> None:
    """Refuse a time for the check that is none.

    Raises:
        UsageError: it is not above 0, or longer than a day.
    """
    if check_seconds is not None and not 0 < check_seconds <= LONGEST_CHECK:
        raise UsageError(f"--check-seconds: found {check_seconds}, expected above 0 and at most {LONGEST_CHECK:,.0f}")


def section_of(
    recipe: Recipe, grid: str | None, flags: Mapping[str, object], *, searched: Collection[str] = ()
) -> HeadSection:
    """The recipe's head section, with what `--grid` and the flags say in its place.

    A setting that was given and has no effect on any head is refused; one that the recipe states is not. Those of
    `searched` may take any value later.

    Raises:
        UsageError: a setting out of its range, one that is given twice, or one that has no effect.
    """
    in_grid = {} if grid is None else parse_grid(grid)
    if twice := [name for name in in_grid if flags.get(name) is not None]:
        raise UsageError(f"{twice[0]} stands in --grid and in a flag of its own; give it once")
    section = recipe.override("head", **(dict(flags) | in_grid)).head
    if flags.get("momentum") is not None and "sgd" not in section.optimizer and "optimizer" not in searched:
        raise UsageError(f"--momentum has no effect with {' and '.join(section.optimizer)}: it is a setting of sgd")
    if flags.get("plateau_epochs") is not None and section.schedule != "plateau":
        raise UsageError(f"--plateau-epochs has no effect with --schedule {section.schedule}; it is one of plateau")
    return section


def notes_of(train: Features | Streamed, val: Features | None, heads: Sequence[SavedHead]) -> tuple[str, ...]:
    """What a reader of these heads must know."""
    lines = [f"{head.name} diverged: its loss is without bounds{_lower(head, heads)}" for head in heads
             if head.head.diverged]  # fmt: skip
    slow = {head.head.config.warmup for head in heads if _rises_within_a_step(head)}
    lines += [f"warmup {epochs:g} is less than one step: the learning rate does not rise" for epochs in sorted(slow)]
    return (*notes_of_splits(train, val), *lines)


def _lower(diverged: SavedHead, heads: Sequence[SavedHead]) -> str:
    """What to do about a head that diverged; where a lower rate of the same run did well, that it did."""
    config = diverged.head.config
    sound = [
        head.head.config.lr
        for head in heads
        if not head.head.diverged and head.head.config == replace(config, lr=head.head.config.lr)
    ]
    lower = [lr for lr in sound if lr < config.lr]
    return f"; with --lr {max(lower):g} it is not" if lower else "; lower --lr"


def _rises_within_a_step(head: SavedHead) -> bool:
    config = head.head.config
    return config.warmup > 0 and not round(config.warmup * head.head.steps / config.epochs)
