"""Other divisions of a data set into splits that a cache holds, and how an error leads to them: by flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featcache.dataset.resolution import describe_division, division_flags, read_divisions
from featcache.errors import CacheError
from featcache.listing import name_variant
from featcache.recipe import Recipe, SplitSection

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest

_FLAGS = ("--val", "--test", "--split-by", "--split-seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """One way in which a cache has a data set divided."""

    variant: str  # as `listing.name_variant` names it
    section: SplitSection | None  # None: the splits are the data set's own

    @property
    def words(self) -> str:
        """The division in words: as flags, or as what leaves them out."""
        return "its own splits" if self.section is None else describe_division(self.section)


def list_other_divisions(request: "DatasetRequest") -> list[Division]:
    """Return the divisions in which the cache holds the data set, but for the one that the request means.

    Args:
        request: The data set and its cache.

    Raises:
        UsageError: no such recipe, or a faulty one.
        CacheError: the cache cannot be read.
    """
    recorded = read_divisions(request.folder, request.stat_log, request.recipe.name)
    sections = [*([None] if recorded.is_plain else []), *recorded.sections]
    divisions = [Division(variant=_variant(request.recipe, section), section=section) for section in sections]
    return [division for division in divisions if division.variant != request.variant]


def lead_to_divisions(error: CacheError, request: "DatasetRequest", divisions: Sequence[Division]) -> CacheError:
    """Return an error that goes on with the divisions which do have what is missing, and has the command for the last.

    Args:
        error: What is missing in the division that the request means; without a full stop.
        request: The data set and its cache.
        divisions: Those that have it, at least one.
    """
    is_stated = request.recipe.data.split is not None and not _has_flags(request)
    leave_out = "leave [data.split] out of the recipe" if is_stated else "leave out --val, --test and --split-by"
    ways = [leave_out if division.section is None else f"type {division.words}" for division in divisions]
    named = " and for ".join(division.words for division in divisions)
    error.args = (f"{error}, but there is for {named}: {', or '.join(ways)}",)
    if divisions[-1].section is None and is_stated:  # no flag undoes what a recipe says
        return error
    return correct_division(error, divisions[-1])


def correct_division(error: CacheError, division: Division) -> CacheError:
    """Return an error with the corrections that make a command line one of another division.

    Args:
        error: Of the command line.
        division: The one that is meant.
    """
    flags = {} if division.section is None else dict(division_flags(division.section))
    for flag in _FLAGS:
        error = error.correct(flag, flags.get(flag))
    return error


def correct_undivided(error: CacheError, request: "DatasetRequest") -> CacheError:
    """Return an error about embeddings that are missing, with the command for a division in which the cache has them.

    It stays as it is where flags say how the data set is divided: that is what is meant.

    Args:
        error: Of the command line.
        request: The data set and its cache.
    """
    others = [] if request.cached_splits or _has_flags(request) else list_other_divisions(request)
    divided = [division for division in others if division.section is not None]
    return correct_division(error, divided[-1]) if divided else error


def _has_flags(request: "DatasetRequest") -> bool:
    """Return whether a flag says how the data set is divided."""
    return any(value is not None for value in (request.val, request.test, request.split_by, request.split_seed))


def _variant(recipe: Recipe, section: SplitSection | None) -> str:
    """Return the name of the data set's variant where it is divided so."""
    return name_variant(recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": section})}))
