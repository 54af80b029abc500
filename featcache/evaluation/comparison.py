"""Every head and classifier of a data set in one table: settings, scores, distance to the optimum, seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError, FeatcacheError, UsageError
from featcache.features import Features, features_of
from featcache.heads import Scores
from featcache.heads.classifiers import scores_of, text_of
from featcache.heads.saved import Candidate, load_model, no_head, on_another_val, predict_rows, rank, ranked
from featcache.recipe import StoreOptions

SORTS = ("macro_recall", "accuracy", "loss", "gap", "seconds", "name", "newest")
_RISING = ("loss", "gap", "seconds", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One head or classifier."""

    name: str
    classifier: str  # "linear", "knn", "sklearn.svm:SVC"
    settings: str  # what differs from the defaults
    split: str  # whose scores these are
    scores: Scores | None  # None where there are none
    gap: float  # the share of the loss that is still to go to the optimum; nan where nobody checked
    seconds: float  # of the run that made it, over its heads
    at: int  # time.time_ns when that run ended
    store: str
    order: tuple[float, ...]  # see `which.rank`

    def value(self, column: str) -> float | str:
        """What a column holds, nan where it is not known."""
        if column in ("macro_recall", "accuracy", "loss"):
            return math.nan if self.scores is None else float(getattr(self.scores, column))
        if column == "newest":
            return -self.at
        found: float | str = getattr(self, column)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All of them, sorted."""

    data_set: str
    variant: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `featcache compare --json`."""
        return {
            "data_set": self.data_set,
            "variant": self.variant,
            "heads": [
                {
                    "name": line.name,
                    "classifier": line.classifier,
                    "settings": line.settings,
                    "split": line.split,
                    **{
                        column: finite_or_none(line.value(column))
                        for column in ("macro_recall", "accuracy", "loss", "gap")
                    },
                    "seconds": round(line.seconds, 3),
                    "store": line.store,
                }
                for line in self.lines
            ],
            "notes": list(self.notes),
        }


@checked
def compare(*, split: str | None = None, sort: str = "macro_recall", **where: Unpack[StoreOptions]) -> Comparison:
    """Every head and classifier of the data set, by its scores on val as they were measured when it was made.

    The first one, in the order of macro recall, is the head that "best" means in every command and function.

    With `split`, each is asked about that split now; nothing reads test unless it is named here.

    Raises:
        UsageError: the recipe, or no such column.
        CacheError: no head, or no such split.
    """
    if sort not in SORTS:
        raise UsageError(f"--sort: found {sort!r}, expected {', '.join(SORTS)}")
    asked = Asked(**where)
    candidates, notes = ranked(asked)
    features: dict[str, Features] = {}
    lines: list[Line] = []
    for one in candidates:
        key = asked.key_of(one.store, split or "train")  # whose heads these are, too
        of_split, scores = ("train", one.train) if one.val is None else ("val", one.val)
        if split is not None:
            if one.store.name not in features:
                features[one.store.name] = features_of(one.store, key)
            of_split, scores = split, _scores_on(features[one.store.name], one, notes)
        order = rank(one.val if split is None else scores, diverged=one.diverged, at=one.run.at,
                     is_best=one.run.best == one.name)  # fmt: skip
        lines.append(
            Line(
                name=one.name,
                classifier=one.classifier,
                settings=_settings(one),
                split=of_split,
                scores=scores,
                gap=_gap(one),
                seconds=one.run.seconds / len(one.run.heads),
                at=one.run.at,
                store=one.store.name,
                order=order,
            )
        )
    if not lines:
        raise no_head(asked)
    if split is None:
        notes += on_another_val(asked, candidates)
    return Comparison(asked.recipe.name, asked.variant, tuple(_sorted(lines, sort)), tuple(dict.fromkeys(notes)))


def _scores_on(features: Features, one: Candidate, notes: list[str]) -> Scores | None:
    """What a head has on a split now; where it cannot be asked, None and a note."""
    try:
        chosen = load_model(one.folder, one.store)
        if chosen.classes != features.classes:
            raise CacheError(f"{one.name} knows other classes than split {features.split!r}")
        return scores_of(predict_rows(chosen, features), features.y, len(features.classes))
    except FeatcacheError as error:
        notes.append(str(error))
        return None


def _gap(one: Candidate) -> float:
    share = None if one.check is None else one.check.get("gap_share")
    return math.nan if share is None else float(share)


def _settings(one: Candidate) -> str:
    return " ".join(
        f"{key}={text_of(value)}" for key, value in one.settings.items() if key != "random_state" and value is not None
    )


def _sorted(lines: Sequence[Line], sort: str) -> list[Line]:
    """Best first: by macro recall in the order that `best` means; whatever is not known last."""
    if sort == "macro_recall":
        return sorted(lines, key=lambda line: line.order)

    def place(line: Line) -> tuple[float, bool, float | str, int]:
        value = line.value(sort)
        if isinstance(value, str):
            return 0, False, value, -line.at
        unknown = not math.isfinite(value)
        kind = line.order[0] if sort in ("accuracy", "loss") else 0  # what is not of this split, or diverged, is last
        return kind, unknown, 0.0 if unknown else value if sort in (*_RISING, "newest") else -value, -line.at

    return sorted(lines, key=place)


def finite_or_none(value: float | str) -> float | None:
    """Return the value as a float, None where it is text or not finite."""
    return float(value) if not isinstance(value, str) and math.isfinite(value) else None
