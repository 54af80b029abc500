"""`report --targets`: the heads of several target columns of Drive&Act, each on its own split, in one run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import name_target_in_errors
from featcache.evaluation.evaluate_head import predict_on_split
from featcache.evaluation.evaluation import Evaluation
from featcache.evaluation.options import UNITS, EvaluationOptions, SplitOptions
from featcache.heads import HeadOptions, options_of_target, refuse_bad_targets
from featcache.recipe import KeptHeadOptions, pick_options


@checked
def evaluate_columns(
    targets: Sequence[str], head: str | None = None, **options: Unpack[EvaluationOptions]
) -> Mapping[str, Evaluation]:
    """Evaluate the head of each of several target columns of Drive&Act, as `evaluate` does it for one.

    Args:
        targets: Levels ("tasklevel"), columns of the recipe's level ("object"), or both ("objectlevel:object").
        head: What `evaluate` takes, of every target: None is the best of each.
        **options: As of `evaluate`, without `level`, `target` and `conformal`.

    Returns:
        The evaluation of each target, by its word.

    Raises:
        UsageError: as `evaluate`; no Drive&Act, a level or target beside them, or one twice.
        CacheError: as `evaluate`, for any target.
        DataError: as `evaluate`, for any target.
        MachineError: as `evaluate`.
    """
    settings = cast("HeadOptions", options)
    choice, by = pick_options(options, SplitOptions), options.get("by", UNITS[0])
    evaluations = {}
    for word in refuse_bad_targets(targets, settings):
        own: Mapping[str, Any] = options_of_target(word, settings)
        with name_target_in_errors(word):
            request = DatasetRequest(**pick_options(own, KeptHeadOptions))
            evaluations[word] = replace(predict_on_split(request, head, **choice).evaluation(by), beside=None)
    return evaluations
