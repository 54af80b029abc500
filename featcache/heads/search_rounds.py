"""What a search tries, and a round of it: trials that are asked for, trained and judged together."""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.heads.cluster_training import HeadCluster
from featcache.heads.config import SETTINGS, HeadConfig
from featcache.heads.linear import Scores, merit
from featcache.heads.modules import TrainedHead
from featcache.heads.splits import Splits

if TYPE_CHECKING:
    import optuna

ROUND = 8  # heads that are trained side by side
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


@dataclass(frozen=True, slots=True)
class SearchSpace:
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


def run_round(
    study: "optuna.Study", space: SearchSpace, splits: Splits, count: int, device: str, on_compile: Callable[[], None]
) -> int:  # fmt: skip
    """Return how many of `count` trials were pruned, once they are trained side by side and told to the study.

    Args:
        study: Who chooses the trials' settings.
        space: What is searched.
        splits: The rows.
        count: How many trials.
        device: Where they are trained.
        on_compile: Called where the loops have to be compiled first.
    """
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
    _tell(study, space, trials, heads, pruned)
    return len(pruned)


def run_round_on_cluster(study: "optuna.Study", space: SearchSpace, workers: HeadCluster, count: int) -> None:
    """Have `count` trials trained to their end by the workers of a cluster, and tell the study how they did.

    Args:
        study: Who chooses the trials' settings.
        space: What is searched.
        workers: Who trains.
        count: How many trials.
    """
    trials = [study.ask() for _ in range(count)]
    _tell(study, space, trials, workers.train([space.suggest(trial) for trial in trials]), ())


def _tell(
    study: "optuna.Study", space: SearchSpace, trials: "Sequence[optuna.Trial]", heads: Sequence[TrainedHead],
    pruned: Collection[int],
) -> None:  # fmt: skip
    """Tell a study how its trials did."""
    import optuna

    for index, (trial, head) in enumerate(zip(trials, heads, strict=True)):
        if index in pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif head.val is not None:
            value = space.merit(head.val)
            study.tell(trial, value if math.isfinite(value) else WORST)
