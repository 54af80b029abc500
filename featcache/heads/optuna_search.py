"""`featcache search`: Bayesian search over the settings of a head (Optuna: TPE), pruned on val, kept, and resumed.

Trials are asked for in rounds and trained stacked: one read of a batch for all heads of a round. The study is a journal
file beside the heads, one for each trunk, listing and search space: the same command again goes on where it was, and
`trials` counts what the study holds, old ones included. Where no batch size is given, batches are those of fit-head
without a learning rate, ten steps an epoch or more; a study that was begun with the declared default goes on with it.
"""

import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.files.objects import refuse_remote
from featcache.heads.check_seconds import CHECK_SECONDS, refuse_check_of_module, refuse_check_seconds
from featcache.heads.config import SETTINGS, HeadConfig
from featcache.heads.default_grid import default_batch_size
from featcache.heads.fit_linear import COMPILING, keep_heads
from featcache.heads.fit_result import Fit
from featcache.heads.given_settings import head_section
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.linear import Scores, merit
from featcache.heads.optuna_study import open_study
from featcache.heads.preparation import TrainingPreparation
from featcache.heads.saved import heads_folder
from featcache.heads.splits import Splits, read_splits, splits_by_clip
from featcache.heads.target_settings import fit_to_targets, refuse_check_of_targets, settings_of_classes
from featcache.heads.tokens import count_tokens
from featcache.heads.training_device import choose_training_device
from featcache.recipe import LABEL, TEMPORAL, HeadKeywords, StoreOptions, pick_options

if TYPE_CHECKING:
    import optuna

ROUND = 8  # heads that are trained side by side
MOST_TRIALS = 100_000
REPORTS = 10  # that the pruner gets of one trial on its way
WORST = -1e9  # the merit of a head that diverged: Optuna knows no nan


def _suggest_choice(trial: "optuna.trial.BaseTrial", name: str) -> Any:
    """Return one of the choices that the declaration of a setting lists."""
    return trial.suggest_categorical(name, SETTINGS[name].choices)


SPACE: dict[str, Callable[["optuna.trial.BaseTrial"], Any]] = {
    "optimizer": lambda trial: _suggest_choice(trial, "optimizer"),
    "lr": lambda trial: trial.suggest_float("lr", 1e-4, 1.0, log=True),
    "weight_decay": lambda trial: trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    "class_weights": lambda trial: _suggest_choice(trial, "class_weights"),
    "logit_adjustment": lambda trial: trial.suggest_float("logit_adjustment", 0.0, 1.5, step=0.25),
    "label_smoothing": lambda trial: trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.05),
    "standardize": lambda trial: trial.suggest_categorical("standardize", [False, True]),
    "hidden": lambda trial: trial.suggest_categorical("hidden", ["256", "512", "1024", "2048"]),
    "dropout": lambda trial: trial.suggest_float("dropout", 0.0, 0.7, step=0.1),
}


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """How far a search has come, and the fit of the best settings that it knows."""

    fit: Fit
    trials: int  # in the study, earlier ones included
    new: int
    pruned: int
    study: Path

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache search --json`: fit-head's keys, and what the search did."""
        return {
            **self.fit.to_json(),
            "trials": self.trials,
            "new_trials": self.new,
            "pruned": self.pruned,
            "study": str(self.study),
        }


@dataclass(frozen=True, slots=True)
class _SearchSpace:
    """The settings that are searched, and what all others are."""

    base: HeadConfig
    searched: tuple[str, ...]
    select: str  # the metric on val

    def suggest(self, trial: "optuna.trial.BaseTrial") -> HeadConfig:
        """Return the config that a trial stands for; numbers have three digits, as a person would type them."""
        values: dict[str, Any] = {name: SPACE[name](trial) for name in self.searched}
        rounded: dict[str, Any] = {name: float(f"{v:.3g}") if isinstance(v, float) else v for name, v in values.items()}
        return replace(self.base, **rounded)

    def study_file(self, folder: Path, sources: Sequence[object]) -> Path:
        """Return where the study of this space is kept, of these features: its name says both."""
        fixed = {name: value for name, value in self.base.changed.items() if name not in self.searched}
        text = json.dumps([fixed, list(self.searched), self.select, sources], sort_keys=True)
        return folder / f"search-{hashlib.sha256(text.encode()).hexdigest()[:8]}.log"

    def merit(self, scores: Scores) -> float:
        """Return what the study maximises; not finite where a head diverged."""
        return merit(scores, self.select)[0]


@checked
def search(
    trials: int = 50,
    *,
    device: str = "auto",
    check_seconds: float | str | None = CHECK_SECONDS,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> Search:
    """Search learning rate, weight decay, optimizer, class weights, logit adjustment, smoothing and standardisation.

    Of an mlp, the units of one hidden layer and dropout, too. What is about classes alone is not searched for several
    labels or numbers.

    The best on val is trained once more, saved and checked as fit-head does it.

    Args:
        trials: How many the study shall hold in the end, earlier ones included.
        device: Where the heads are trained: "auto", "cpu", "cuda", "cuda:N" or "mps".
        check_seconds: How long the check against the optimum may take; "auto": 5 s, or a quarter of the search where
            that is more; None leaves it out.
        progress: Gets the stage, the trials done and the trials to do.
        **settings: Which features, and settings of the recipe's head section; one that is given is held fixed.
            `select` is the metric on val that chooses.

    Returns:
        How far the search has come, and the fit of the best settings: their head is saved.

    Raises:
        UsageError: the recipe; a setting out of its range, or with several values; every trial diverged; or Optuna is
            not installed.
        CacheError: train or val is not in the cache, or a file of it is damaged; or the study's file is no study.
        DataError: a single class, or a split without rows.
        MachineError: no such device, or memory or disk are full.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise UsageError(f"--trials: found {trials}, expected 1 to {MOST_TRIALS:,}").correct("--trials", "50")
    refuse_check_seconds(check_seconds)
    _require_optuna()
    options, flags = pick_options(settings, StoreOptions), pick_options(settings, HeadKeywords)
    request = DatasetRequest(**options)
    refuse_remote(request.folder, "search", "its study")
    kind, targets = flags.get("head") or request.recipe.head.head, request.recipe.data.target_kind
    refuse_check_of_targets(targets, check_seconds, CHECK_SECONDS)
    of_classes = settings_of_classes(targets)
    searched = tuple(
        name for name in SPACE if flags.get(name) is None and SETTINGS[name].applies_to(kind) and name not in of_classes
    )
    given = [name for name, value in flags.items() if value is not None]
    section = fit_to_targets(head_section(request.recipe, None, flags, searched=searched), targets, given)
    refuse_check_of_module(section.head, check_seconds)
    (base, *others) = head_configs(section.model_copy(update={"lr": section.lr[:1]}))
    if others:
        raise UsageError("search chooses one head: give a setting one value to hold it fixed, or none to search it")
    preparation = TrainingPreparation()
    splits = read_splits(request, with_views=base.views, augment=section.augment, any_targets=True)
    if section.head == TEMPORAL:
        splits = splits_by_clip(splits, section.frames)
    if SETTINGS["tokens"].applies_to(section.head):
        base = replace(base, tokens=count_tokens(section, splits.source).tokens)
    if splits.val is None:
        raise CacheError(
            f"{splits.train.source['data_set']}: a search needs a val split to choose by; "
            f"{request.advise_extract('val')}."
        )

    on = choose_training_device(device, exact=section.exact)
    folder = heads_folder(splits.source, request.recipe.name, request.variant)
    sources = [splits.train.source, splits.val.source]
    space = _SearchSpace(base, searched, section.select)
    if "batch_size" not in section.model_fields_set and not space.study_file(folder, sources).exists():
        space = replace(space, base=replace(base, batch_size=default_batch_size(len(splits.train.y), base.head)))
    path = space.study_file(folder, sources)
    study = open_study(path, seed=base.seed, startup_trials=ROUND, warmup_epochs=max(1, base.epochs // 10))
    earlier = len([trial for trial in study.trials if trial.state.is_finished()])
    if targets == LABEL:
        preparation.wait(lambda: progress(COMPILING, earlier, trials))
    begun, done, pruned = time.monotonic(), earlier, 0
    while done < trials:
        count = min(ROUND, trials - done)
        pruned += _run_round(study, space, splits, count, on, lambda: progress(COMPILING, earlier, trials))
        done += count
        progress("searching", done, trials)
    return Search(
        fit=_fit_best(study, space, splits, on, check_seconds, begun),
        trials=done,
        new=done - earlier,
        pruned=pruned,
        study=path,
    )


def _run_round(
    study: "optuna.Study", space: _SearchSpace, splits: Splits, count: int, device: str, on_compile: Callable[[], None]
) -> int:  # fmt: skip
    """Train `count` trials side by side and tell the study how they did; return how many of them were pruned."""
    import optuna

    from featcache.heads.training import train_heads

    trials = [study.ask() for _ in range(count)]
    pruned: set[int] = set()
    report_every = max(1, space.base.epochs // REPORTS)

    def watch(epoch: int, scores: Sequence[Scores | None]) -> Collection[int]:
        if epoch % report_every:
            return pruned
        for index, (trial, on_val) in enumerate(zip(trials, scores, strict=True)):
            if index in pruned or on_val is None:
                continue
            value = space.merit(on_val)
            trial.report(value if math.isfinite(value) else WORST, epoch)
            if not math.isfinite(value) or trial.should_prune():
                pruned.add(index)
        return pruned

    configs = [space.suggest(trial) for trial in trials]
    heads = train_heads(
        splits.in_memory, splits.val, configs, select=space.select, device=device, watch=watch, on_compile=on_compile
    )
    for index, (trial, head) in enumerate(zip(trials, heads, strict=True)):
        if index in pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif head.val is not None:
            value = space.merit(head.val)
            study.tell(trial, value if math.isfinite(value) else WORST)
    return len(pruned)


def _fit_best(
    study: "optuna.Study",
    space: _SearchSpace,
    splits: Splits,
    device: str,
    check_seconds: float | str | None,
    begun: float,
) -> Fit:
    """Train the best settings once more, alone, so that they are what fit-head makes of them; save and check."""
    import optuna

    from featcache.heads.training import train_heads

    try:
        best_trial = study.best_trial
    except ValueError:
        raise UsageError("no trial finished: all of them diverged; raise --trials, or --epochs") from None
    config = space.suggest(optuna.trial.FixedTrial(best_trial.params))
    training_begun = time.monotonic()
    trained = train_heads(splits.in_memory, splits.val, [config], select=space.select, device=device)
    return keep_heads(
        splits,
        trained,
        space.select,
        is_choice=True,
        check_seconds=check_seconds,
        train_seconds=time.monotonic() - training_begun,
        device=device,
        begun=begun,
    )


def _require_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("featcache search needs Optuna: pip install 'featcache[search]'")
