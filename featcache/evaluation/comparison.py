"""Every head and classifier of a data set in one table: settings, scores, distance to the optimum, seconds."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from featcache.arguments import checked, nearest_name
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, FeatcacheError, UsageError
from featcache.evaluation.json_parts import finite_or_none
from featcache.features import Features, read_features, targets_error
from featcache.heads import Scores
from featcache.heads.classifiers import HeadFunction, format_value, score_output
from featcache.heads.saved import (
    FUNCTION,
    Candidate,
    load_model,
    make_function_head,
    merit_key,
    no_head_error,
    notes_on_changed_val,
    predicts_targets,
    rank_models,
)
from featcache.metrics import LABEL_METRICS, LOWER_IS_BETTER, VALUE_FIGURES
from featcache.recipe import LABEL, LABELS, VALUE, KeptHeadOptions
from featcache.store import label_features, trunk_without_layer

SORTS = ("macro_recall", "accuracy", "loss", "gap", "seconds", "name", "newest")
_METRICS = {LABEL: SORTS[:2], LABELS: LABEL_METRICS, VALUE: VALUE_FIGURES}
_CHIEF = tuple(metrics[0] for metrics in _METRICS.values())
_DIVERGED = 2  # the first number of the order of merit of a head that diverged
_LOWEST_FIRST = ("loss", "gap", "seconds", *LOWER_IS_BETTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedHead:
    """One head or classifier of a comparison."""

    name: str
    number: int  # of its handle, "#3", which stands for it wherever a head is named; 0 for a function, which has none
    given_name: str  # that a person gave it with --head-name; "" where nobody did
    classifier: str  # "linear", "knn", "sklearn.svm:SVC"
    settings: str  # what differs from the defaults
    split: str  # whose scores these are
    scores: Scores | None  # None where there are none
    gap: float  # the share of the loss that is still to go to the optimum; nan where nobody checked
    seconds: float  # of the run that made it, over its heads
    at: int  # time.time_ns when that run ended
    store: str
    features: str  # as `--features` names them: "cls", "cls+mean"; where heads are of several trunks, "vit_b_16/cls"
    order: tuple[float, ...]  # the order of merit, see `heads.saved.merit_key`

    @property
    def has_diverged(self) -> bool:
        """Whether its weights are not finite, so that its predictions mean nothing."""
        return self.order[0] == _DIVERGED

    def figure(self, column: str) -> float:
        """Return a metric, the loss, the gap or the seconds; nan where it is not known.

        Args:
            column: Its name.
        """
        if column in ("gap", "seconds"):
            return float(getattr(self, column))
        return math.nan if self.scores is None else self.scores.figure(column)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of its scores, the one that chooses first; those of classes where there are no scores."""
        metrics = () if self.scores is None else tuple(self.scores.metrics)
        return metrics or ("macro_recall", "accuracy")


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All heads and classifiers of a data set, sorted."""

    data_set: str
    variant: str
    heads: tuple[ComparedHead, ...]
    notes: tuple[str, ...]
    is_rescored: bool = False  # on a split that was named: the order is not the one that "best" follows
    metrics: tuple[str, ...] = ("macro_recall", "accuracy")  # that the heads of this data set have, the chief first

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache compare --json`."""
        return {
            "data_set": self.data_set,
            "variant": self.variant,
            "heads": [
                {
                    "name": head.name,
                    "number": head.number or None,
                    "given_name": head.given_name or None,
                    "classifier": head.classifier,
                    "settings": head.settings,
                    "split": head.split,
                    **{column: finite_or_none(head.figure(column)) for column in (*self.metrics, "loss", "gap")},
                    "seconds": round(head.seconds, 3),
                    "store": head.store,
                    "features": head.features,
                }
                for head in self.heads
            ],
            "notes": list(self.notes),
        }


@checked
def compare(
    *,
    split: str | None = None,
    sort: str = "macro_recall",
    heads: Mapping[str, HeadFunction] | None = None,
    **options: Unpack[KeptHeadOptions],
) -> Comparison:
    """Compare every head and classifier of the data set.

    The first one that the cache holds, in the order of macro recall, is the head that "best" means in every command and
    function.

    Args:
        split: the split that each head predicts on now; None for the scores on val as they were measured when it was
            made. Nothing reads test unless it is named here.
        sort: the column to sort by, one of `SORTS`.
        heads: heads of your own to compare with, by the name that the table shows: functions from embeddings to scores,
            as `evaluate` takes them. They are evaluated now, on `split`, or on val.
        **options: the data set and its cache, as the flags of the command line name them.

    Returns:
        The heads, best first, and what could not be compared.

    Raises:
        UsageError: the recipe, or no such column; or a head of your own returns something else than scores.
        CacheError: no head, no such split, or a damaged log of runs.
        MachineError: the embeddings of the split do not fit into memory.
    """
    request = DatasetRequest(**options)
    kind = request.recipe.data.target_kind
    metrics = _METRICS[kind]
    sorts = (*metrics, *SORTS[2:])
    sort = metrics[0] if sort == SORTS[0] else sort  # the default
    if sort not in sorts:
        error = UsageError(f"--sort: found {sort!r}, expected {', '.join(sorts)}")
        raise error.correct("--sort", nearest_name(sort, sorts) or sorts[0])
    if heads and kind != LABEL:
        raise targets_error(kind, "compare(heads=…), with functions of your own,")
    candidates, notes = rank_models(request)
    features: dict[str, Features] = {}  # of `split`, by the store's name
    compared = [_compare_function(request, split or "val", name, head) for name, head in (heads or {}).items()]
    trunks = {trunk_without_layer(part.trunk.spec) for candidate in candidates for part in candidate.store.parts}
    for candidate in candidates:
        store = candidate.store
        # Whose heads these are, too.
        key = request.key_of(store, "train") if split is None else request.require_key(store, split)
        if split is None:
            scored_on, scores = ("train", candidate.train) if candidate.val is None else ("val", candidate.val)
        else:
            if store.name not in features:
                features[store.name] = read_features(store, key, any_targets=True)
            scored_on, scores = split, _score(candidate, features[store.name], notes)
        ranked_by = candidate.val if split is None else scores
        compared.append(_compared(candidate, scored_on, scores, ranked_by, with_trunk=len(trunks) > 1))
    if not compared:
        raise no_head_error(request)
    if split is None:
        notes += notes_on_changed_val(request, candidates)
    return Comparison(
        request.recipe.name, request.variant, tuple(_sort(compared, sort)), tuple(dict.fromkeys(notes)),
        split is not None, metrics,
    )  # fmt: skip


def _compared(
    candidate: Candidate, split: str, scores: Scores | None, ranked_by: Scores | None, *, with_trunk: bool
) -> ComparedHead:
    """Return a candidate with its scores on a split; `ranked_by` are those that its place follows from."""
    run = candidate.run
    order = merit_key(ranked_by, diverged=candidate.has_diverged, at=run.at, is_best=run.best == candidate.name)
    return ComparedHead(
        name=candidate.name,
        number=candidate.number,
        given_name=candidate.given_name,
        classifier=candidate.kind,
        settings=_settings(candidate),
        split=split,
        scores=scores,
        gap=_gap(candidate),
        seconds=run.seconds / len(run.heads),
        at=run.at,
        store=candidate.store.name,
        features=label_features(candidate.store.parts, with_trunk=with_trunk),
        order=order,
    )


def _compare_function(request: DatasetRequest, split: str, name: str, function: HeadFunction) -> ComparedHead:
    """Return a head of one's own with its scores on a split, on the embeddings of the one store that holds it."""
    store = request.store_of(split)
    features = read_features(store, request.key_of(store, split))
    head = make_function_head(function, store, features, name)
    scores, at = score_output(head.predict(features), features.y, len(features.classes)), time.time_ns()
    order = merit_key(scores, diverged=False, at=at, is_best=True)
    return ComparedHead(
        name=name, number=0, given_name="", classifier=FUNCTION, settings="", split=split, scores=scores, gap=math.nan,
        seconds=0.0, at=at, store=store.name, features=label_features(store.parts), order=order,
    )  # fmt: skip


def _score(candidate: Candidate, features: Features, notes: list[str]) -> Scores | None:
    """Return the scores of a head on a split as it is now; where it cannot predict, None, and a note is added."""
    try:
        model = load_model(candidate.folder, candidate.store)
        if model.classes != features.classes:
            raise CacheError(f"{candidate.name} knows other classes than split {features.split!r}")
        if predicts_targets(model) and features.targets is not None:
            return model.score_targets(features)
        return score_output(model.predict(features), features.y, len(features.classes))
    except FeatcacheError as error:
        notes.append(str(error))
        return None


def _gap(candidate: Candidate) -> float:
    share = None if candidate.check is None else candidate.check.get("gap_share")
    return math.nan if share is None else float(share)


def _settings(candidate: Candidate) -> str:
    return " ".join(
        f"{key}={format_value(value)}"
        for key, value in candidate.settings.items()
        if key != "random_state" and value is not None
    )


def _sort(heads: Sequence[ComparedHead], column: str) -> list[ComparedHead]:
    """Return the heads, best first: by the chief metric in the order that `best` means; whatever is not known last."""
    if column in _CHIEF:
        return sorted(heads, key=lambda head: head.order)
    if column == "name":
        return sorted(heads, key=lambda head: (head.name, -head.at))
    if column == "newest":
        return sorted(heads, key=lambda head: -head.at)

    def sort_key(head: ComparedHead) -> tuple[float, bool, float, int]:
        """Known figures first, the best of them first; of equals the newest."""
        value = head.figure(column)
        kind = 0 if column in ("gap", "seconds") else head.order[0]  # what is not of this split, or diverged, is last
        if not math.isfinite(value):
            return kind, True, 0.0, -head.at
        return kind, False, value if column in _LOWEST_FIRST else -value, -head.at

    return sorted(heads, key=sort_key)
