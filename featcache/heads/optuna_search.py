"""`featcache search`: Bayesian search over the settings of a head (Optuna: TPE), pruned on val, kept, and resumed.

Trials are asked for in rounds and trained stacked: one read of a batch for all heads of a round. The study is a journal
file beside the heads, one for each trunk, listing and search space: the same command again goes on where it was, and
`trials` counts what the study holds, old ones included.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError, MachineError, UsageError
from featcache.files import AppendLog, describe_kind, parse_json
from featcache.heads.config import HeadConfig
from featcache.heads.fit_linear import CHECK_SECONDS, Fit, notes_of, refuse_seconds, section_of
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.linear import Scores, best_of, merit
from featcache.heads.saved import head_folder, record_run, save_head
from featcache.heads.splits import Splits, read_splits
from featcache.recipe import HeadKeywords, StoreOptions, pick_options

if TYPE_CHECKING:
    import optuna

ROUND = 8  # heads that are trained side by side
MOST_TRIALS = 100_000
REPORTS = 10  # of a trial's way, to the pruner


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What one search made, with the fit of its best settings."""

    fit: Fit
    trials: int  # in the study, earlier ones included
    new: int
    pruned: int
    study: Path

    def to_json(self) -> dict[str, Any]:
        """fit-head's keys, and what the search did."""
        return {
            **self.fit.to_json(),
            "trials": self.trials,
            "new_trials": self.new,
            "pruned": self.pruned,
            "study": str(self.study),
        }


@checked
def search(
    trials: int = 50,
    *,
    device: str = "auto",
    check_seconds: float | None = CHECK_SECONDS,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **asked: Unpack[HeadOptions],
) -> Search:
    """Search learning rate, weight decay, optimizer, class weights, logit adjustment, smoothing and standardisation.

    `trials` is how many the study shall hold in the end; a setting given as a flag is held fixed. The best on val, by
    `select`, is trained, saved and checked as fit-head does it.

    Raises:
        UsageError: `trials` or a flag is out of its range, or Optuna is not installed.
        CacheError: train or val is not in the cache.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise UsageError(f"--trials: found {trials}, expected 1 to {MOST_TRIALS:,}")
    refuse_seconds(check_seconds)
    optuna = _optuna()
    where, flags = pick_options(asked, StoreOptions), pick_options(asked, HeadKeywords)
    meant = Asked(**where)
    free = [setting for setting in SPACE if flags.get(setting) is None]
    section = section_of(meant.recipe, None, flags, searched=free)
    (base, *more) = head_configs(section.model_copy(update={"lr": section.lr[:1]}))
    if more:
        raise UsageError("search chooses one head: give a setting one value to hold it fixed, or none to search it")
    splits = read_splits(meant)
    train, val = splits.in_memory, splits.val
    if val is None:
        raise CacheError(
            f"{train.source['data_set']}: a search needs a val split to choose by. Run `featcache extract --split val`."
        )

    from featcache.heads.training import train_heads
    from featcache.trunks import choose_device

    on = choose_device(device)
    folder = head_folder(splits.source, meant.recipe.name, meant.variant)
    study = _study(optuna, folder, base, free, section.select, [train.source, val.source])
    held = len([trial for trial in study.trials if trial.state.is_finished()])
    every = max(1, base.epochs // REPORTS)
    begun, done, pruned = time.monotonic(), held, 0
    while done < trials:
        drawn = [study.ask() for _ in range(min(ROUND, trials - done))]
        configs = [_suggest(trial, base, free) for trial in drawn]
        stopped: set[int] = set()

        def watch(
            epoch: int, found: Sequence[Scores | None], drawn: Any = drawn, stopped: set[int] = stopped
        ) -> Collection[int]:
            if epoch % every:
                return stopped
            for index, (trial, scores) in enumerate(zip(drawn, found, strict=True)):
                if index in stopped or scores is None:
                    continue
                value = merit(scores, section.select)[0]
                trial.report(value if math.isfinite(value) else WORST, epoch)
                if not math.isfinite(value) or trial.should_prune():
                    stopped.add(index)
            return stopped

        heads = train_heads(train, val, configs, select=section.select, device=on, watch=watch)
        for index, (trial, head) in enumerate(zip(drawn, heads, strict=True)):
            if index in stopped:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            elif head.val is not None:
                value = merit(head.val, section.select)[0]
                study.tell(trial, value if math.isfinite(value) else WORST)
        pruned += len(stopped)
        done += len(drawn)
        progress("searching", done, trials)
    return Search(
        fit=_fit_of(study, base, free, splits, section.select, on, check_seconds, begun, train_heads),
        trials=done,
        new=done - held,
        pruned=pruned,
        study=folder / f"search-{study.study_name}.log",
    )


WORST = -1e9  # of a head that diverged: Optuna knows no nan
SPACE: dict[str, Callable[["optuna.trial.BaseTrial"], Any]] = {
    "optimizer": lambda trial: trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw"]),
    "lr": lambda trial: trial.suggest_float("lr", 1e-4, 1.0, log=True),
    "weight_decay": lambda trial: trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    "class_weights": lambda trial: trial.suggest_categorical("class_weights", ["none", "balanced"]),
    "logit_adjustment": lambda trial: trial.suggest_float("logit_adjustment", 0.0, 1.5, step=0.25),
    "label_smoothing": lambda trial: trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.05),
    "standardize": lambda trial: trial.suggest_categorical("standardize", [False, True]),
}


def _suggest(trial: "optuna.trial.BaseTrial", base: HeadConfig, free: Sequence[str]) -> HeadConfig:
    chosen: dict[str, Any] = {setting: SPACE[setting](trial) for setting in free}
    rounded: dict[str, Any] = {n: float(f"{v:.3g}") if isinstance(v, float) else v for n, v in chosen.items()}
    return replace(base, **rounded)


def _fit_of(
    study: "optuna.Study", base: HeadConfig, free: Sequence[str], splits: Splits, select: str, device: str,
    check_seconds: float | None, begun: float, train_heads: Callable[..., Any],
) -> Fit:  # fmt: skip
    """Train the best settings once more, alone, so that they are what fit-head makes of them; save and check."""
    import optuna

    from featcache.heads.optimum import check_and_advise

    try:
        best_trial = study.best_trial
    except ValueError:
        raise UsageError("no trial came to its end: all diverged; raise --trials, or --epochs") from None
    if splits.val is None:
        raise ValueError("a search has a val split")
    config = _suggest(optuna.trial.FixedTrial(best_trial.params), base, free)
    again = time.monotonic()
    trained = train_heads(splits.in_memory, splits.val, [config], select=select, device=device)
    took = time.monotonic() - again
    head = save_head(splits.source, trained[0], splits.in_memory, splits.val)
    best = None if best_of(trained, select) is None else head
    check = None
    if best is not None and check_seconds is not None:
        check = check_and_advise(head.head, trained, splits.in_memory, splits.val, check_seconds, took, device)
    selected_by = f"{select.replace('_', ' ')} on val" if best is not None else ""
    seconds = time.monotonic() - begun
    name = None if best is None else best.name
    record_run(splits.source, splits.in_memory, [head], name, selected_by, check, seconds)
    return Fit(
        heads=(head,),
        best=best,
        select=select,
        selected_by=selected_by,
        check=check,
        train_rows=len(splits.in_memory.y),
        val_rows=len(splits.val.y),
        seconds=seconds,
        notes=(*splits.notes, *notes_of(splits.in_memory, splits.val, [head])),
    )


def _study(
    optuna: Any, folder: Path, base: HeadConfig, free: Sequence[str], select: str, sources: Sequence[object]
) -> "optuna.Study":
    """The study of these features and this space, as far as it has come."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    from featcache.files import make_folder

    fixed = {name: value for name, value in base.changed.items() if name not in free}
    text = json.dumps([fixed, list(free), select, sources], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    make_folder(folder)
    path = folder / f"search-{key}.log"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _refuse_foreign(path)
    try:
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
        study: optuna.Study = optuna.create_study(
            storage=JournalStorage(backend),
            study_name=key,
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=base.seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=ROUND, n_warmup_steps=max(1, base.epochs // 10)),
        )
    except OSError as error:
        raise MachineError(f"{path}: the study cannot be kept: {error.strerror}") from None
    except Exception as error:  # Optuna replays what a file says, and raises whatever that makes it raise
        raise CacheError(
            f"{path}: this is no study: {type(error).__name__}: {error}; remove the file to begin a new one"
        ) from None
    return study  # type: ignore[no-any-return]


def _refuse_foreign(path: Path) -> None:
    """Hold a study's file against what it is before Optuna opens it: a regular file of lines of JSON.

    Raises:
        CacheError: a pipe, a link, a device, a folder stands in its place or in that of its lock; or it is no study.
    """
    way_out = "remove the file to begin a new study"
    lock = path.with_name(path.name + ".lock")
    if os.path.lexists(lock) and (kind := describe_kind(os.lstat(lock).st_mode)):
        raise CacheError(f"{lock}: it is {kind}, expected the lock of a study; remove it")
    try:
        for number, line in enumerate(AppendLog(path).iter_lines(), start=1):
            if line.data is None or (line.whole and not isinstance(parse_json(line.data), dict)):
                raise CacheError(f"{path}: this is no study: line {number} is no JSON object; {way_out}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{path}: this study cannot be read: {error.strerror}; {way_out}") from None
    except ValueError as error:
        raise CacheError(f"{path}: this is no study: {error}; {way_out}") from None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError("featcache search needs Optuna: pip install 'featcache[search]'") from None
    return optuna
