"""Find the model that is meant: the best on val, the newest run's best, or one by its name or the start of it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.arguments import nearest_name
from featcache.dataset import (
    DatasetRequest,
    describe_division,
    lead_to_divisions,
    list_other_divisions,
    refuse_missing_folder,
)
from featcache.errors import CacheError, FeatcacheError
from featcache.heads.saved.folders import heads_folder
from featcache.heads.saved.handles import Handles, is_number
from featcache.heads.saved.ranking import Candidate, notes_on_changed_val, rank_models, selection_of
from featcache.heads.saved.run_log import FitRun, list_handles, newest_checks, read_runs
from featcache.listing import USUAL_SPLITS
from featcache.store import FeatureStore, describe_broken_stores, find_concatenations, find_stores
from featcache.text import METRIC_WORDS, metric_text

BEST, LATEST = "best", "latest"  # words that stand for a head wherever one is named; no word is BEST
_LISTED = 10  # heads in a message


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChosenHead:
    """The model that is meant, where it is kept, and why it was chosen."""

    folder: Path
    store: FeatureStore  # that it was trained on
    run: FitRun  # the newest that made it
    handle: str  # "#3 lr0.1-1a2b3c4d", with the name that a person gave it
    check: Mapping[str, Any] | None  # the newest that was made of it
    selected_by: str  # what chose it among others; "" where nothing did
    reason: str = ""  # where a word stood for it: which head that is and why, in one sentence
    next_best: str = ""  # where `best` stood for it: the head that comes after it
    notes: tuple[str, ...] = ()  # heads that could not be considered, or not as they are now

    @property
    def sentence(self) -> str:
        """Which head it is and, where a word stood for it, why."""
        return self.reason or f"head {self.handle}"

    @contextlib.contextmanager
    def explain_choice_in_errors(self) -> Iterator[None]:
        """Return a context that adds to an error how this head was chosen, and which one is next.

        Where no word stood for the head, the error stays as it is.

        Raises:
            FeatcacheError: the one that was raised inside.
        """
        try:
            yield
        except FeatcacheError as error:
            if self.reason:
                following = f"; the next on val is {self.next_best}: name it" if self.next_best else ""
                error.args = (f"{error}. It was not named, but chosen: {self.reason}{following}".replace("..", "."),)
            raise


def find_head(request: DatasetRequest, head: str | None) -> ChosenHead:
    """Return the model that is meant.

    Args:
        request: The data set, its cache, and the stores that are meant.
        head: "best" (None is the same), "latest", a number ("#3" or "3"), the name that a person gave, the name of the
            model, or the start of one that no other has.

    Raises:
        UsageError: no such recipe, or a faulty one.
        CacheError: there is none, several fit, every one that a word may stand for diverged, or the log of runs is
            damaged.
    """
    data_set, variant, folder = request.recipe.name, request.variant, request.folder
    by_word = head in (None, BEST, LATEST)
    runs = [(run, store) for store in request.stores() for run in read_runs(store, data_set, variant, newest=by_word)]
    runs.sort(key=lambda pair: pair[0].at)
    if not runs:
        raise no_head_error(request)
    if head is None or by_word:
        return (_find_latest if head == LATEST else _find_best)(request, *runs[-1])
    stores = {name: store for run, store in runs for name in run.heads}
    handles = list_handles(runs[0][1], data_set, variant)
    matching = handles.matches(head, stores)
    if len(matching) != 1:
        broken = describe_broken_stores(folder, request.stat_log)
        reason = _ambiguous_or_unknown(head, matching, handles, list(stores))
        listed = f"`{request.command_line('compare')}` lists all {len(stores):,}"
        error = CacheError(f"{folder}: {reason}{'' if reason.endswith('?') else ';'} {listed}{broken}")
        nearest = [] if matching or is_number(head) else handles.nearest(head, stores)
        meant = _nearest_word(head, handles) or (handles.handle(nearest[0]).removeprefix("#") if nearest else None)
        raise error if matching or is_number(head) or meant is None else error.correct(head, meant)
    name, store = matching[0], stores[matching[0]]
    return _find_named(request, name, store, [run for run, its_store in runs if its_store is store])


def no_head_error(request: DatasetRequest) -> CacheError:
    """Return the error that no store holds a head of the data set; it names the stores that cannot be opened.

    Where heads were trained on the data set in another division into splits, it leads to them.

    Args:
        request: The data set, its cache, and the stores that are meant.

    Raises:
        UsageError: no such recipe, or a faulty one.
        CacheError: the cache cannot be read.
    """
    if not request.cached_splits:
        refuse_missing_folder(request)
    broken = describe_broken_stores(request.folder, request.stat_log)
    if others := [division for division in list_other_divisions(request) if _has_heads(request, division.variant)]:
        section = request.recipe.data.split
        divided = "with its own splits" if section is None else f"divided by {describe_division(section)}"
        none = CacheError(f"{request.folder}: there is no head for {request.recipe.name} {divided}")
        error = lead_to_divisions(none, request, others)
        error.args = (f"{error}{broken}",)
        return error
    extract = "" if request.cached_splits else f"`{request.command_line('extract')}` and "
    return CacheError(
        f"{request.folder}: no head of {request.recipe.name} in this cache; run {extract}"
        f"`{request.command_line('fit-head')}` first{broken}"
    )


def _has_heads(request: DatasetRequest, variant: str) -> bool:
    """Return whether a store of the cache has models of a variant of the data set."""
    stores = find_stores(request.folder, request.stat_log)
    every = [*stores, *find_concatenations(request.folder, request.stat_log)]
    return any(read_runs(store, request.recipe.name, variant, newest=False) for store in every)


def _ambiguous_or_unknown(head: str, matching: Sequence[str], handles: Handles, names: Sequence[str]) -> str:
    """Return why a word stands for no single model, and which ones it may mean."""
    if matching:
        some = [handles.describe(name) for name in matching[:_LISTED]]
        more = f" and {len(matching) - _LISTED:,} more" if len(matching) > _LISTED else ""
        return (
            f"{len(matching):,} heads start with {head!r}: {', '.join(some)}{more}; type more of the name, or a number"
        )
    if is_number(head):
        return f"there is no head #{head.removeprefix('#')}; there are {handles.ranges(names)}"
    if word := _nearest_word(head, handles):
        return f"no head is called {head!r}; did you mean {word}?"
    if head in USUAL_SPLITS and not handles.nearest(head, names):
        return f"no head is called {head!r}, which is a split: name it behind --split, and a head, {BEST} or {LATEST}"
    nearest = ", ".join(handles.describe(name) for name in handles.nearest(head, names))
    return f"no head is called {head!r}; {f'the nearest: {nearest}; or' if nearest else 'expected'} {BEST}, or {LATEST}"


def _nearest_word(head: str, handles: Handles) -> str | None:
    """Return best or latest where one is misspelt, and no name that a person gave; the name of a split is neither."""
    is_other = head in USUAL_SPLITS or nearest_name(head, handles.given) is not None
    return None if is_other else nearest_name(head, (BEST, LATEST))


def _find_best(request: DatasetRequest, newest: FitRun, _: FeatureStore) -> ChosenHead:
    candidates, notes = rank_models(request)
    usable = [candidate for candidate in candidates if not candidate.has_diverged]
    if not usable:
        raise CacheError(_nothing_usable(request, candidates, notes))
    best = usable[0]
    scored = [candidate for candidate in usable if candidate.has_val_score]
    handles = _handles(request, best.store)
    reason = f"head {handles.describe(best.name)}: {_why_best(best, len(scored))}"
    if newest.best is None:
        reason += "; every head of the newest run diverged"
    elif newest.best != best.name:
        reason += f"; `{LATEST}` is {handles.describe(newest.best)}, the best of the newest run"
    return ChosenHead(
        folder=best.folder,
        handle=handles.describe(best.name),
        store=best.store,
        run=best.run,
        check=best.check,
        selected_by=f"{_chief(best)} on val" if len(scored) > 1 else best.selected_by,
        reason=reason,
        next_best=handles.describe(usable[1].name) if len(usable) > 1 else "",
        notes=(*notes, *notes_on_changed_val(request, scored)),
    )


def _find_latest(request: DatasetRequest, newest: FitRun, store: FeatureStore) -> ChosenHead:
    if newest.best is None:
        raise CacheError(
            f"{request.folder}: every head of the newest run of {request.recipe.name} diverged; run it again with a "
            f"lower --lr, or name an older head, or `{BEST}`"
        )
    usable = [candidate for candidate in rank_models(request)[0] if not candidate.has_diverged]
    latest = _find_named(request, newest.best, store, read_runs(store, request.recipe.name, request.variant))
    handles = _handles(request, store)
    reason = f"head {handles.describe(newest.best)}: the best of the newest run"
    if usable and usable[0].name != newest.best:
        scored = sum(candidate.has_val_score for candidate in usable)
        reason += f"; `{BEST}` is {handles.describe(usable[0].name)}, {_why_best(usable[0], scored)}"
    return ChosenHead(
        folder=latest.folder,
        handle=latest.handle,
        store=store,
        run=newest,
        check=latest.check,
        selected_by=latest.selected_by,
        reason=reason,
    )


def _find_named(request: DatasetRequest, name: str, store: FeatureStore, runs: Sequence[FitRun]) -> ChosenHead:
    """Return a model by its whole name; `runs` are all of its store, oldest first."""
    return ChosenHead(
        folder=heads_folder(store, request.recipe.name, request.variant) / name,
        handle=_handles(request, store).describe(name),
        store=store,
        run=[run for run in runs if name in run.heads][-1],
        check=newest_checks(runs).get(name),
        selected_by=selection_of(name, runs),
    )


def _handles(request: DatasetRequest, store: FeatureStore) -> Handles:
    return list_handles(store, request.recipe.name, request.variant)


def _why_best(best: Candidate, scored: int) -> str:
    if best.val is None or not best.has_val_score:
        return "the best of the newest run, since no head has a score on val"
    figure = f"({_chief(best)} {metric_text(best.val.chief, best.val.figure(best.val.chief))})"
    return f"the best of {scored:,} on val {figure}" if scored > 1 else f"the only one with a score on val {figure}"


def _chief(best: Candidate) -> str:
    """Return the metric that `best` is chosen by, in words."""
    return METRIC_WORDS["macro_recall" if best.val is None else best.val.chief]


def _nothing_usable(request: DatasetRequest, candidates: Sequence[Candidate], notes: Sequence[str]) -> str:
    lower = request.command_line("fit-head", "--lr", "0.003")
    diverged = f"all of them diverged; run `{lower}`, or a lower --lr" if candidates else ""
    reasons = "; ".join(filter(None, [diverged, *notes]))
    return f"{request.folder}: no head of {request.recipe.name} in this cache can be used: {reasons}"
