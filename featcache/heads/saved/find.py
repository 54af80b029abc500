"""Which head is meant: the best on val, the newest run's best, or one by its name or the start of it.

One order serves all: `featcache compare` shows heads in it, and `best` is the first of them.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.dataset import Asked
from featcache.errors import CacheError, FeatcacheError
from featcache.heads import Scores
from featcache.heads.saved import linear, model, run_log
from featcache.heads.saved.classifier import SavedClassifier
from featcache.heads.saved.run_log import Run
from featcache.store import FeatureStore, ListingLine, describe_broken_stores, read_listing

BEST, LATEST = "best", "latest"  # words that stand for a head wherever one is named; no word is BEST
METRIC = "macro recall on val"  # that `best` is chosen by
_NAMED = 5  # heads in a note


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A head or classifier of the log of runs, as its folder describes it; its model is not held."""

    name: str
    folder: Path
    store: FeatureStore
    run: Run  # the newest that made it
    check: Mapping[str, Any] | None  # the newest that was made of it
    selected_by: str  # what chose it among those of a run; "" where nothing did
    classifier: str  # "linear", "knn", "sklearn.svm:SVC"
    settings: Mapping[str, Any]  # those that differ from the defaults
    train: Scores | None
    val: Scores | None
    val_listing: str  # the sha256 of the listing that it was scored on; "" where it was not
    diverged: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Which:
    """The head that is meant."""

    folder: Path
    store: FeatureStore  # that it was trained on
    run: Run  # the newest that made it
    check: Mapping[str, Any] | None  # the newest that was made of it
    selected_by: str  # what chose it among others; "" where nothing did
    chosen: str = ""  # where a word stood for it: which head that is and why, in one sentence
    next_best: str = ""  # where `best` stood for it: the head that comes after it
    notes: tuple[str, ...] = ()  # heads that could not be considered, or not as they are now

    @property
    def sentence(self) -> str:
        """Who answers, and where a word stood for it, why."""
        return self.chosen or f"head {self.folder.name}"

    @contextlib.contextmanager
    def refused_with_the_next(self) -> Iterator[None]:
        """Add to an error inside, where a word stood for this head, how it was chosen and which one is next."""
        try:
            yield
        except FeatcacheError as error:
            if self.chosen:
                following = f"; the next on val is {self.next_best}: name it" if self.next_best else ""
                error.args = (f"{error}. It was not named, but chosen: {self.chosen}{following}".replace("..", "."),)
            raise


def rank(val: Scores | None, *, diverged: bool, at: int, is_best: bool) -> tuple[float, ...]:
    """The order of merit, lowest first: macro recall on val; of equals the lower loss, then the newest.

    What has no score on val comes after all that have one, the newest run first and of a run its best; a head that
    diverged comes last.

    Args:
        val: the scores on val as they were measured when the head was made.
        diverged: whether its weights mean nothing.
        at: when the run that made it ended, in nanoseconds.
        is_best: whether it is the best of that run.
    """
    if diverged:
        return 2, 0.0, 0.0, -at, not is_best
    if val is None or not math.isfinite(val.macro_recall):
        return 1, 0.0, 0.0, -at, not is_best
    return 0, -val.macro_recall, val.loss if math.isfinite(val.loss) else math.inf, -at, not is_best


def ranked(asked: Asked) -> tuple[list[Candidate], list[str]]:
    """Every head and classifier of a data set in the stores that are meant, best first; and what was left out, why.

    Raises:
        CacheError: a log of runs is damaged.
    """
    found: list[Candidate] = []
    notes: list[str] = []
    for store in asked.stores():
        found += _candidates(asked, store, notes)
    return sorted(found, key=_rank), notes


def on_another_val(asked: Asked, heads: Sequence[Candidate]) -> list[str]:
    """Say which heads were scored on other rows than those that val has now: their scores are not comparable."""
    rows: dict[tuple[str, str], bytes] = {}

    def rows_of(store: FeatureStore, sha256: str) -> bytes:
        if (store.name, sha256) not in rows:
            try:
                data_set, cut, split = asked.key("val")
                line = ListingLine(data_set=data_set, variant=cut, split=split, sha256=sha256)
                found = read_listing(store.cache, line)
                text = json.dumps([found.listing.classes, found.listing.labels.tolist()]).encode()
                rows[store.name, sha256] = text + found.digests.tobytes()
            except (CacheError, ValueError):  # it is gone: nothing shows that it was the same
                rows[store.name, sha256] = sha256.encode()
        return rows[store.name, sha256]

    other = []
    for one in heads:
        now = one.store.listings.get(asked.key("val"))
        if not _has_score(one) or not one.val_listing or now is None or now.sha256 == one.val_listing:
            continue
        if rows_of(one.store, one.val_listing) != rows_of(one.store, now.sha256):
            other.append(one.name)
    if not other:
        return []
    shown = ", ".join(other[:_NAMED]) + (f" and {len(other) - _NAMED:,} more" if len(other) > _NAMED else "")
    return [
        f"val has changed since these were scored on it: {shown}; `featcache compare --split val` scores every head "
        f"on the val of now"
    ]


def which_head(asked: Asked, head: str | None) -> Which:
    """The head that is meant: None and "best", "latest", or a name or the start of one.

    Raises:
        CacheError: there is none, or several fit.
    """
    data_set, variant, folder = asked.recipe.name, asked.variant, asked.folder
    by_word = head in (None, BEST, LATEST)
    every = [
        (run, store) for store in asked.stores() for run in run_log.read_runs(store, data_set, variant, newest=by_word)
    ]
    every.sort(key=lambda pair: pair[0].at)
    if not every:
        raise no_head(asked)
    if head is None or by_word:
        return (_latest if head == LATEST else _best)(asked, *every[-1])
    stores = {name: store for run, store in every for name in run.heads}
    fitting = [head] if head in stores else [name for name in stores if name.startswith(head)]
    if len(fitting) != 1:
        what = f"{len(fitting)} heads start with" if fitting else "no head is called"
        raise CacheError(
            f"{folder}: {what} {head!r}; there are: {', '.join(fitting or stores)}; or {BEST}, or {LATEST}"
            f"{describe_broken_stores(folder, asked.known)}"
        )
    name, store = fitting[0], stores[fitting[0]]
    return _named(asked, name, store, [run for run, its in every if its is store])


def no_head(asked: Asked) -> CacheError:
    """The error that no store holds a head of the data set; it names the stores that cannot be opened."""
    return CacheError(
        f"{asked.folder}: no head of {asked.recipe.name} in this cache; run `featcache fit-head` or `featcache fit` "
        f"first{describe_broken_stores(asked.folder, asked.known)}"
    )


def _best(asked: Asked, newest: Run, _: FeatureStore) -> Which:
    heads, notes = ranked(asked)
    usable = [one for one in heads if not one.diverged]
    if not usable:
        raise CacheError(_nothing(asked, heads, notes))
    best = usable[0]
    scored = [one for one in usable if _has_score(one)]
    chosen = f"head {best.name}: {_why_best(best, len(scored))}"
    if newest.best is None:
        chosen += "; every head of the newest run diverged"
    elif newest.best != best.name:
        chosen += f"; the newest run's best is {newest.best}: name it, or `{LATEST}`"
    return Which(
        folder=best.folder,
        store=best.store,
        run=best.run,
        check=best.check,
        selected_by=METRIC if len(scored) > 1 else best.selected_by,
        chosen=chosen,
        next_best=usable[1].name if len(usable) > 1 else "",
        notes=(*notes, *on_another_val(asked, scored)),
    )


def _latest(asked: Asked, newest: Run, store: FeatureStore) -> Which:
    if newest.best is None:
        raise CacheError(
            f"{asked.folder}: every head of the newest run of {asked.recipe.name} diverged; run it again with a "
            f"lower --lr, or name an older head, or `{BEST}`"
        )
    heads, _ = ranked(asked)
    best = next((one for one in heads if not one.diverged), None)
    found = _named(asked, newest.best, store, run_log.read_runs(store, asked.recipe.name, asked.variant))
    chosen = f"head {newest.best}: the newest run's best"
    if best is not None and best.name != newest.best:
        count = sum(_has_score(one) and not one.diverged for one in heads)
        chosen += f"; {_why_best(best, count)} is {best.name}: name it, or `{BEST}`"
    return Which(
        folder=found.folder, store=store, run=newest, check=found.check, selected_by=found.selected_by, chosen=chosen
    )


def _named(asked: Asked, name: str, store: FeatureStore, every: Sequence[Run]) -> Which:
    """A head by its whole name; `every` run on its store, oldest first."""
    return Which(
        folder=linear.head_folder(store, asked.recipe.name, asked.variant) / name,
        store=store,
        run=[run for run in every if name in run.heads][-1],
        check=run_log.checks(every).get(name),
        selected_by=_chosen_by(name, every),
    )


def _chosen_by(name: str, every: Sequence[Run]) -> str:
    """What chose a head in the newest run that chose it."""
    return next((run.selected_by for run in reversed(every) if run.best == name and run.selected_by), "")


def _why_best(best: Candidate, scored: int) -> str:
    if best.val is None or not _has_score(best):
        return "the newest run's best, since no head has a score on val"
    recall = f"(macro recall {100 * best.val.macro_recall:.1f} %)"
    return f"the best of {scored:,} on val {recall}" if scored > 1 else f"the only one with a score on val {recall}"


def _nothing(asked: Asked, heads: Sequence[Candidate], notes: Sequence[str]) -> str:
    where = f"{asked.folder}: no head of {asked.recipe.name} in this cache can be used"
    diverged = "all of them diverged; run `featcache fit-head` with a lower --lr" if heads else ""
    return f"{where}: {'; '.join(filter(None, [diverged, *notes]))}"


def _candidates(asked: Asked, store: FeatureStore, notes: list[str]) -> Iterator[Candidate]:
    """Each head of one store once, in the order in which they were first made; what cannot be read is a note."""
    every = run_log.read_runs(store, asked.recipe.name, asked.variant)
    last = {name: run for run in every for name in run.heads}
    checks = run_log.checks(every)
    folder = linear.head_folder(store, asked.recipe.name, asked.variant)
    for name, run in last.items():
        try:
            head = model.describe(folder / name)
        except FeatcacheError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        common: dict[str, Any] = {
            "name": name, "folder": head.folder, "store": store, "run": run, "check": checks.get(name),
            "selected_by": _chosen_by(name, every), "diverged": model.has_diverged(head),
            "val_listing": head.sources.get("val", {}).get("listing", ""),
        }  # fmt: skip
        if isinstance(head, SavedClassifier):
            yield Candidate(**common, classifier=head.kind, settings=head.settings, train=head.train, val=head.val)
        else:
            config = head.head.config
            settings = {"lr": config.lr, **config.changed}
            yield Candidate(**common, classifier="linear", settings=settings, train=head.head.train, val=head.head.val)


def _rank(one: Candidate) -> tuple[float, ...]:
    return rank(one.val, diverged=one.diverged, at=one.run.at, is_best=one.run.best == one.name)


def _has_score(one: Candidate) -> bool:
    return _rank(one)[0] == 0
