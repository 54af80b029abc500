"""`featcache search`: Bayesian search over the settings of a head (Optuna: TPE), pruned on val, kept, and resumed.

Trials are asked for in rounds and trained stacked: one read of a batch for all heads of a round. The study is a journal
file beside the heads, one for each trunk, listing and search space: the same command again goes on where it was, and
`trials` counts what the study holds, old ones included. Where no batch size is given, batches are those of fit-head
without a learning rate, ten steps an epoch or more; a study that was begun with the declared default goes on with it.
"""

import contextlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from featcache.arguments import checked
from featcache.cluster import ClusterOptions
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.files.objects import require_working_folder, working_place
from featcache.heads.check_seconds import CHECK_SECONDS, refuse_check_of_module, refuse_check_seconds
from featcache.heads.cluster_training import HeadCluster, SplitsRequest, describe_head_workers
from featcache.heads.config import SETTINGS
from featcache.heads.default_grid import default_batch_size
from featcache.heads.fit_linear import COMPILING, keep_heads
from featcache.heads.fit_result import Fit
from featcache.heads.given_settings import head_section
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.optuna_study import open_study
from featcache.heads.preparation import TrainingPreparation
from featcache.heads.saved import heads_folder
from featcache.heads.search_rounds import ROUND, SPACE, SearchSpace, run_round, run_round_on_cluster
from featcache.heads.splits import Splits
from featcache.heads.target_settings import fit_to_targets, refuse_check_of_targets, settings_of_classes
from featcache.heads.tokens import count_tokens
from featcache.heads.training import refuse_bfloat16
from featcache.heads.training_device import choose_training_device
from featcache.recipe import LABEL, HeadKeywords, StoreOptions, pick_options

if TYPE_CHECKING:
    import optuna

MOST_TRIALS = 100_000


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


@checked
def search(
    trials: int = 50,
    *,
    device: str = "auto",
    check_seconds: float | str | None = CHECK_SECONDS,
    cluster: ClusterOptions | None = None,
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
        cluster: A cluster of Ray: eight trials for each of its workers at a time, none of which is pruned; None: eight
            at a time, here.
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
    require_working_folder(request.folder, "search", "its study")
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
    refuse_bfloat16([base], device, exact=section.exact)
    if others:
        raise UsageError("search chooses one head: give a setting one value to hold it fixed, or none to search it")
    preparation = TrainingPreparation()
    rows = SplitsRequest(
        options=options, head=section.head, frames=section.frames, with_views=base.views, augment=section.augment
    )
    splits = rows.read()
    if SETTINGS["tokens"].applies_to(section.head):
        base = replace(base, tokens=count_tokens(section, splits.source).tokens)
    if splits.val is None:
        raise CacheError(
            f"{splits.train.source['data_set']}: a search needs a val split to choose by; "
            f"{request.advise_extract('val')}."
        )

    on = choose_training_device(device, exact=section.exact)
    folder = working_place(heads_folder(splits.source, request.recipe.name, request.variant), request.folder)
    sources = [splits.train.source, splits.val.source]
    space = SearchSpace(base, searched, section.select)
    if "batch_size" not in section.model_fields_set and not space.study_file(folder, sources).exists():
        space = replace(space, base=replace(base, batch_size=default_batch_size(len(splits.train.y), base.head)))
    path = space.study_file(folder, sources)
    study = open_study(path, seed=base.seed, startup_trials=ROUND, warmup_epochs=max(1, base.epochs // 10))
    earlier = len([trial for trial in study.trials if trial.state.is_finished()])
    if targets == LABEL:
        preparation.wait(lambda: progress(COMPILING, earlier, trials))
    begun, done, pruned = time.monotonic(), earlier, 0
    worker_settings = describe_head_workers(rows, splits, select=section.select, device=device, exact=section.exact)
    with contextlib.ExitStack() as exits:
        workers = None
        if cluster is not None and done < trials:
            workers = exits.enter_context(HeadCluster(cluster, worker_settings))
        while done < trials:
            count = min(ROUND * (workers.workers if workers else 1), trials - done)
            if workers is not None:
                run_round_on_cluster(study, space, workers, count)
            else:
                pruned += run_round(study, space, splits, count, on, lambda: progress(COMPILING, earlier, trials))
            done += count
            progress("searching", done, trials)
    return Search(
        fit=_fit_best(study, space, splits, on, check_seconds, begun),
        trials=done,
        new=done - earlier,
        pruned=pruned,
        study=path,
    )


def _fit_best(
    study: "optuna.Study",
    space: SearchSpace,
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
