"""`featcache search --finetune`: Bayesian search over the settings of a fine-tuning (Optuna: TPE), pruned on val.

The images are decoded once, for all trials. The study is a journal in the cache, one for each start, set of images and
search space: the same command again goes on where it was, and a trial that was stopped goes on from its checkpoint,
for what is drawn for a trial depends on the seed and on the trials before it alone. The weights of the best trial so
far stay in its checkpoint, so that it is not trained again at the end.
"""

import contextlib
import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from featcache.arguments import checked
from featcache.errors import CacheError, UsageError
from featcache.extraction import Placement
from featcache.files import hold_lock, make_folder
from featcache.files.objects import working_place
from featcache.finetuning.command import (
    Finetuned,
    FinetuneJob,
    FinetuneOptions,
    FinetuneProgress,
    prepare_job,
    refuse_bad_minutes,
    require_lightning,
)
from featcache.finetuning.search_space import FinetuneSpace, find_space
from featcache.heads import EpochRow, Scores, merit, open_study
from featcache.heads.saved import refuse_given_name
from featcache.trunks import FINETUNED_FOLDER, choose_device

if TYPE_CHECKING:
    import optuna

    from featcache.finetuning.images import SplitImages

MOST_TRIALS = 10_000
STARTUP_TRIALS = 4  # that end before any is pruned
WORST = -1e9  # the merit of a training that diverged: Optuna knows no nan


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneSearch:
    """How far a search has come, and the network with the best settings that it knows."""

    tuned: Finetuned
    settings: dict[str, Any]  # the best of those that were searched
    trials: int  # in the study, earlier ones included
    new: int
    pruned: int  # of the new ones
    study: Path

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache search --finetune --json`: finetune's keys, and what the search did."""
        return {
            **self.tuned.to_json(), "best_settings": self.settings, "trials": self.trials, "new_trials": self.new,
            "pruned": self.pruned, "study": str(self.study),
        }  # fmt: skip


@checked
def search_finetune(
    trials: int = 20,
    *,
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float | None = None,
    head_name: str | None = None,
    augment: str | None = None,
    progress: Callable[[FinetuneProgress], None] = lambda _: None,
    **options: Unpack[FinetuneOptions],
) -> FinetuneSearch:
    """Search the settings of a fine-tuning: optimizer, learning rate and its decay by layer, weight decay, smoothing.

    Of the network cnn, trained from scratch, its shape too; and where the recipe has augmentation, whether it is done.
    The best on val is kept as finetune keeps it.

    Args:
        trials: How many the study shall hold in the end, earlier ones included.
        device: Where the networks are trained: "auto", "cpu", "cuda", "cuda:N" or "mps".
        workers: Processes that read and decode; None: as many as there are cores.
        checkpoint_minutes: Minutes between checkpoints within an epoch; None: one after each epoch.
        head_name: A name for the head of the best network; None leaves it without one.
        augment: As for finetune; it is then done in every trial.
        progress: Called with where it stands.
        **options: As for finetune; a setting that is given is held fixed. `select` is the metric on val that chooses.

    Returns:
        How far the search has come, and the best network: its trunk and its head are kept.

    Raises:
        UsageError: a setting or the recipe; every trial diverged; or Optuna is not installed.
        CacheError: no val split, a study that is none, one that another process is at, or as finetune.
        DataError: no images, more than 1 % of them unreadable, or a single class.
        MachineError: as finetune.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise UsageError(f"--trials: found {trials}, expected 1 to {MOST_TRIALS:,}").correct("--trials", "20")
    refuse_given_name(head_name)
    refuse_bad_minutes(checkpoint_minutes)
    _require_optuna()
    require_lightning()
    job = prepare_job(options, augment)
    if job.splits.val is None:
        raise CacheError(
            f"{job.request.recipe.name}: a search needs a val split to choose by; --val 0.2 takes a fifth of the rows"
        )
    given = {**options, **(options.get("cnn") or {}), "augment": augment}
    run = _SearchRun.prepare(find_space(job, given), choose_device(device), workers, checkpoint_minutes, progress)
    with run.locked():
        earlier = run.begin()
        new, pruned = max(0, trials - earlier), 0
        for number in range(earlier, trials):
            pruned += run.run_trial(number, trials)
        return run.keep_best(earlier + new, new, pruned, head_name or "")


@dataclass(slots=True, eq=False)
class _SearchRun:
    """One process's work at a study."""

    space: FinetuneSpace
    images: "Sequence[SplitImages]"  # of train and val, for every trial
    path: Path  # of the study
    device: str
    workers: int | None
    checkpoint_minutes: float | None
    progress: Callable[[FinetuneProgress], None]
    _study: "optuna.Study | None" = None

    @classmethod
    def prepare(
        cls, space: FinetuneSpace, device: str, workers: int | None, checkpoint_minutes: float | None,
        progress: Callable[[FinetuneProgress], None],
    ) -> "_SearchRun":  # fmt: skip
        """Read the images, which say which study is meant."""
        from featcache.finetuning.identity import identify_training
        from featcache.finetuning.job import Stages, read_splits_of

        images = read_splits_of(space.base, Stages(progress), workers)
        fixed = identify_training(space.base, images)
        for name in space.names:  # what is searched, and what the recipe has in its place, is not what tells studies
            fixed["settings"].pop(name, None)
        if space.cnn:
            fixed["start"] = "cnn"
            fixed["cnn"] = space.base.network.model_dump(exclude={"cnn": set(space.cnn)})
        text = json.dumps([fixed, space.names], sort_keys=True, default=str)
        name = f"search-{hashlib.sha256(text.encode()).hexdigest()[:8]}.log"
        cache = space.base.request.folder
        path = working_place(cache / FINETUNED_FOLDER / name, cache)
        return cls(space, images, path, device, workers, checkpoint_minutes, progress)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from this study during the block.

        Raises:
            CacheError: another one is at it.
        """
        make_folder(self.path.parent)
        with hold_lock(self.path.with_suffix(".lock"), wait=0.0) as held:
            if not held:
                raise CacheError(f"{self.path}: another search is at work on this study; wait until it ends")
            yield

    @property
    def study(self) -> "optuna.Study":
        """The study, once it is open."""
        assert self._study is not None  # noqa: S101 (`begin` comes first)
        return self._study

    def begin(self) -> int:
        """Open the study, and return how many trials it holds; one that was stopped begins anew, at its checkpoint."""
        import optuna

        seed, epochs = self.space.base.section.seed, self.space.base.section.epochs
        self._study = open_study(
            self.path, seed=seed, startup_trials=STARTUP_TRIALS, warmup_epochs=max(1, epochs // 10)
        )
        for trial in self.study.trials:
            if not trial.state.is_finished():
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return sum(trial.state != optuna.trial.TrialState.FAIL for trial in self.study.trials)

    def run_trial(self, number: int, trials: int) -> bool:
        """Train the network once with the settings that the study proposes, and return whether it was given up."""
        import optuna

        from featcache.finetuning.job import Stages
        from featcache.finetuning.prepared import prepare_training

        self.study.sampler = optuna.samplers.TPESampler(seed=(self.space.base.section.seed + number) % 2**32)
        trial = self.study.ask()
        prepared = prepare_training(self.space.job(self.space.suggest(trial)), self.images)
        pruning = _Pruning(trial, self.space.base.select)
        stages = Stages(self.progress)
        if not pruning.gives_up(prepared.training.state.history):
            prepared.run(
                devices=[Placement(self.device)], checkpoint_minutes=self.checkpoint_minutes, gives_up=pruning.gives_up,
                progress=lambda stage, *counts: stages.show(f"trial {number + 1} of {trials}, {stage}", *counts),
            )  # fmt: skip
        if pruning.is_given_up:
            prepared.checkpoint.remove()
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return True
        before = self._best()
        value = _merit_of_kept(prepared.training.state.history, prepared.training.progress_of_head.best_epoch, pruning)
        self.study.tell(trial, value)
        if before is None or before.value is None or value > before.value:
            if before is not None:
                self._remove_checkpoint(before)
        else:
            prepared.checkpoint.remove()
        return False

    def _best(self) -> "optuna.trial.FrozenTrial | None":
        try:
            return self.study.best_trial
        except ValueError:  # none has finished yet
            return None

    def _job_of(self, trial: "optuna.trial.FrozenTrial") -> tuple[FinetuneJob, dict[str, Any]]:
        import optuna

        values = self.space.suggest(optuna.trial.FixedTrial(trial.params))
        return self.space.job(values), values

    def _remove_checkpoint(self, trial: "optuna.trial.FrozenTrial") -> None:
        from featcache.finetuning.prepared import checkpoint_of

        checkpoint_of(self._job_of(trial)[0], self.images).remove()

    def keep_best(self, trials: int, new: int, pruned: int, head_name: str) -> FinetuneSearch:
        """Keep the best network: its weights are in its checkpoint, else it is trained again."""
        from featcache.finetuning.job import run_job

        best = self._best()
        if best is None or best.value == WORST:
            raise UsageError("no trial finished: all of them diverged; raise --trials, or --epochs")
        job, values = self._job_of(best)
        tuned = run_job(
            job, device=self.device, workers=self.workers, checkpoint_minutes=self.checkpoint_minutes, restart=False,
            head_name=head_name, progress=self.progress, images=self.images,
        )  # fmt: skip
        return FinetuneSearch(tuned, values, trials, new, pruned, self.path)


@dataclass(slots=True, eq=False)
class _Pruning:
    """What a trial reports of its epochs, and whether it is given up."""

    trial: "optuna.Trial"
    select: str  # the metric on val
    reported: int = 0
    is_given_up: bool = False

    def merit(self, scores: Scores | None) -> float:
        """Return what the study maximises."""
        value = math.nan if scores is None else merit(scores, self.select)[0]
        return value if math.isfinite(value) else WORST

    def gives_up(self, history: Sequence[EpochRow]) -> bool:
        """Report the epochs that are new, and return whether the trial is not worth going on with."""
        for row in [row for row in history if row.epoch > self.reported]:
            self.reported = row.epoch
            value = self.merit(row.val)
            self.trial.report(value, row.epoch)
            self.is_given_up = self.is_given_up or value == WORST or self.trial.should_prune()
        return self.is_given_up


def _merit_of_kept(history: Sequence[EpochRow], best_epoch: int | None, pruning: _Pruning) -> float:
    """Return the merit of the epoch that is kept: the best where patience chose one, else the last."""
    kept = history[-1] if best_epoch is None else next(row for row in history if row.epoch == best_epoch)
    return pruning.merit(kept.val)


def _require_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("featcache search needs Optuna: pip install 'featcache[search]'")
