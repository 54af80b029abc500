"""Every model of a data set in one order, best first: `featcache compare` shows it, and `best` is the first of it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, FeatcacheError
from featcache.heads import Scores
from featcache.heads.saved.folders import heads_folder
from featcache.heads.saved.kinds import describe_model
from featcache.heads.saved.run_log import FitRun, list_handles, newest_checks, read_runs
from featcache.store import FeatureStore, ListingKey, ListingLine, read_listing, read_listing_origin

_NAMED = 5  # heads in a note


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model of the log of runs, as its folder describes it; the model itself is not held."""

    name: str
    number: int  # of its handle, "#3"
    given_name: str  # that a person gave it; "" where nobody did
    folder: Path
    store: FeatureStore
    run: FitRun  # the newest that made it
    check: Mapping[str, Any] | None  # the newest that was made of it
    selected_by: str  # what chose it among those of a run; "" where nothing did
    kind: str  # "linear", "knn", "sklearn.svm:SVC"
    settings: Mapping[str, Any]  # those that differ from the defaults
    train: Scores | None
    val: Scores | None
    classes: tuple[str, ...]  # that it tells apart; or labels, or numbers
    train_listing: str  # the sha256 of the listing that it was trained on
    val_listing: str  # the sha256 of the listing that it was scored on; "" where it was not
    has_diverged: bool
    is_head: bool  # whether `featcache fit-head` trained it

    @property
    def has_val_score(self) -> bool:
        """Whether its score on val can be compared with others'."""
        return self.sort_key[0] == 0

    @property
    def sort_key(self) -> tuple[float, ...]:
        """Its place in the order of merit, see `merit_key`."""
        is_best = self.run.best == self.name
        return merit_key(self.val, diverged=self.has_diverged, at=self.run.at, is_best=is_best)


def merit_key(val: Scores | None, *, diverged: bool, at: int, is_best: bool) -> tuple[float, ...]:
    """Return the key that sorts models by merit: the chief metric on val, then the lower loss, then the newest.

    What has no score on val comes after all that have one, the newest run first and of a run its best; a head that
    diverged comes last.

    Args:
        val: The scores on val as they were measured when the model was made.
        diverged: Whether its weights mean nothing.
        at: When the run that made it ended, in nanoseconds.
        is_best: Whether it is the best of that run.
    """
    if diverged:
        return 2, 0.0, 0.0, -at, not is_best
    if val is None or not math.isfinite(val.figure(val.chief)):
        return 1, 0.0, 0.0, -at, not is_best
    return 0, -val.figure(val.chief), val.loss if math.isfinite(val.loss) else math.inf, -at, not is_best


def rank_models(request: DatasetRequest) -> tuple[list[Candidate], list[str]]:
    """Return every model of a data set in the stores that are meant, best first; and notes on what was left out.

    Args:
        request: The data set, its cache, and the stores that are meant.

    Raises:
        UsageError: no such recipe, or a faulty one.
        CacheError: a log of runs is damaged; or stores hold the data set, and none of them is meant.
    """
    candidates: list[Candidate] = []
    notes: list[str] = []
    for store in request.stores():
        candidates += _of_these_columns(request, list(_candidates(request, store, notes)), notes)
    return sorted(candidates, key=lambda candidate: candidate.sort_key), notes


def _of_these_columns(
    request: DatasetRequest, candidates: Sequence[Candidate], notes: list[str]
) -> Sequence[Candidate]:  # fmt: skip
    """Return the models of one store without those whose labels stood in other columns of the table than now.

    A note names these. Their classes are others too; of a model whose listing is gone, nothing shows its columns.
    """
    key = request.key("train")
    now = candidates[0].store.listings.get(key) if candidates else None
    known = {candidate.classes for candidate in candidates if now is not None and candidate.train_listing == now.sha256}
    if now is None or not known:
        return candidates
    columns = _columns_of_labels(candidates[0].store, key, now.sha256)
    of_listing = {
        sha256: _columns_of_labels(candidates[0].store, key, sha256)
        for sha256 in {candidate.train_listing for candidate in candidates if candidate.classes not in known}
    }
    others = [one for one in candidates if of_listing.get(one.train_listing, columns) not in (columns, ())]
    if others:
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        names = ", ".join(candidate.name for candidate in others[:_NAMED])
        notes.append(
            f"left out, since they were trained on labels of another column than {request.recipe.name} has now: "
            f"{names}{more}"
        )
    return [candidate for candidate in candidates if candidate not in others]


def _columns_of_labels(store: FeatureStore, key: ListingKey, sha256: str) -> tuple[str, ...]:
    """Return the columns of the table that held the labels of a listing; () where it is gone, or of no table."""
    data_set, variant, split = key
    try:
        line = ListingLine(data_set=data_set, variant=variant, split=split, sha256=sha256)
        _, settings = read_listing_origin(store.cache, line)
    except (CacheError, ValueError):
        return ()
    return tuple(settings.get(name, "") for name in ("label_column", "target_columns") if settings)


def notes_on_changed_val(request: DatasetRequest, candidates: Sequence[Candidate]) -> list[str]:
    """Return a note that names the models whose scores on val are of other rows than val has now; none where all are.

    Their scores cannot be compared with the others'.

    Args:
        request: The data set, whose val split is looked up in each model's store.
        candidates: The models, as `rank_models` gives them.

    Raises:
        UsageError: no such recipe, or a faulty one.
    """
    rows: dict[tuple[str, str], bytes] = {}

    def rows_of(store: FeatureStore, sha256: str) -> bytes:
        if (store.name, sha256) not in rows:
            rows[store.name, sha256] = _val_rows(request, store, sha256)
        return rows[store.name, sha256]

    outdated = []
    for candidate in candidates:
        now = candidate.store.listings.get(request.key("val"))
        scored_on = candidate.val_listing
        if not candidate.has_val_score or not scored_on or now is None or now.sha256 == scored_on:
            continue
        if rows_of(candidate.store, scored_on) != rows_of(candidate.store, now.sha256):
            outdated.append(candidate.name)
    if not outdated:
        return []
    more = f" and {len(outdated) - _NAMED:,} more" if len(outdated) > _NAMED else ""
    return [
        f"val has changed since these were scored on it: {', '.join(outdated[:_NAMED])}{more}; `featcache compare "
        f"--split val` scores every head on val as it is now"
    ]


def selection_of(name: str, runs: Sequence[FitRun]) -> str:
    """Return what chose a model in the newest run that chose it; "" where nothing did. `runs` are oldest first."""
    return next((run.selected_by for run in reversed(runs) if run.best == name and run.selected_by), "")


def _val_rows(request: DatasetRequest, store: FeatureStore, sha256: str) -> bytes:
    """Return the classes, labels and digests of a listing of val as bytes that can be compared."""
    data_set, variant, split = request.key("val")
    try:
        line = ListingLine(data_set=data_set, variant=variant, split=split, sha256=sha256)
        extracted = read_listing(store.cache, line)
    except (CacheError, ValueError):  # it is gone: nothing shows that it was the same
        return sha256.encode()
    text = json.dumps([extracted.listing.classes, extracted.listing.labels.tolist()]).encode()
    targets = extracted.listing.targets
    return text + extracted.digests.tobytes() + (b"" if targets is None else targets.values.tobytes())


def _candidates(request: DatasetRequest, store: FeatureStore, notes: list[str]) -> Iterator[Candidate]:
    """Yield each model of one store once, in the order in which they were first made; what cannot be read is a note."""
    runs = read_runs(store, request.recipe.name, request.variant)
    newest_run = {name: run for run in runs for name in run.heads}
    handles = list_handles(store, request.recipe.name, request.variant)
    checks = newest_checks(runs)
    folder = heads_folder(store, request.recipe.name, request.variant)
    for name, run in newest_run.items():
        try:
            model = describe_model(folder / name)
        except FeatcacheError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        yield Candidate(
            name=name,
            number=handles.numbers[name],
            given_name=handles.given_name(name),
            folder=model.folder,
            store=store,
            run=run,
            check=checks.get(name),
            selected_by=selection_of(name, runs),
            kind=model.kind,
            settings=model.settings,
            train=model.train,
            val=model.val,
            classes=model.classes,
            train_listing=model.sources.get("train", {}).get("listing", ""),
            val_listing=model.sources.get("val", {}).get("listing", ""),
            has_diverged=model.has_diverged,
            is_head=model.layer is not None,
        )
