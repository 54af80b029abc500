"""The line that an answer ends with: the command that comes next, with the options that were typed, ready to paste."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from featcache.cli.output import echo
from featcache.errors import CacheError, FeatcacheError
from featcache.recipe import DataOptions, KeptHeadOptions, StoreOptions, head_path, is_own_head

if TYPE_CHECKING:
    from featcache.evaluation import Comparison, HeadOnSplit
    from featcache.extraction import Summary
    from featcache.finetuning import Finetuned
    from featcache.heads import Fit, Fitted, Search
    from featcache.heads.saved import SavedHead
    from featcache.prediction import Predictions, Timeline


def say_next(command: str, options: DataOptions, *words: str, store: str | None = None) -> None:
    """Print the command that comes next for this data set, and for this store of it, as one types it here."""
    from featcache.dataset import DatasetRequest

    echo(f"next: {DatasetRequest(**options).command_line(command, *words, store=store)}")


def say_next_after_extract(options: DataOptions, summaries: Sequence["Summary"], folds: str | None) -> None:
    """Print the fit-head of what was extracted; with its store, where no other option tells it from others."""
    from featcache.dataset import DatasetRequest

    summary = summaries[0]
    of_folds = [] if folds is None else ["--folds", folds]
    of_folds += ["--views"] if any(other.view is not None for other in summaries) else []
    first_fold: dict[str, Any] = {} if folds is None else {"fold": int(folds.split(",")[0])}
    try:
        DatasetRequest(**{**options, **first_fold}).stores()
    except CacheError:  # the recipe states another trunk than the flags of this extract
        say_next("fit-head", options, *of_folds, "--store", summary.store)
    else:
        say_next("fit-head", options, *of_folds, store=summary.store)


def say_next_after_fit_head(options: StoreOptions, fits: Sequence[tuple[int | None, "Fit"]], folds: str | None) -> None:
    """Print the report of the head that was chosen; where the cache has no split for a report, the table of all heads.

    Args:
        options: The data set, its cache and its store.
        fits: Each fit, with its fold; every one has a best head.
        folds: As they were typed; None without folds.
    """
    from featcache.dataset import DatasetRequest

    head, own = _number_unless_best(options, fits), _with_class_of(options, [fit.best for _, fit in fits])
    if folds is not None:
        say_next("report", own, *head, "--folds", folds)
    elif _can_report(DatasetRequest(**options).cached_splits):
        say_next("report", own, *head, *_against_linear(fits[0][1]))
    else:
        say_next("compare", options)


def _against_linear(fit: "Fit") -> list[str]:
    """Return the words that hold the chosen head against the best linear one, where there is one beside it."""
    if not fit.linear or fit.best is None:
        return []
    by_clip = ["--by", "clip"] if fit.best.head.config.is_over_clips else []
    return ["--against", str(fit.handles.numbers[fit.linear]), *by_clip]


def _with_class_of(options: StoreOptions, heads: Sequence["SavedHead | None"]) -> KeptHeadOptions:
    """Return the options that a command for these heads takes: of a module of one's own, its class too."""
    kinds = {saved.kind for saved in heads if saved is not None}
    return _with_class(options, kinds.pop() if len(kinds) == 1 else "")


def _with_class(options: StoreOptions, kind: str) -> KeptHeadOptions:
    """Return the options that a command for a head of this kind takes."""
    own = cast("KeptHeadOptions", {**options})
    if is_own_head(kind):
        own["head_class"] = head_path(kind)
    return own


def _number_unless_best(options: StoreOptions, fits: Sequence[tuple[int | None, "Fit"]]) -> list[str]:
    """Return the number of the chosen head; nothing where a report takes it anyway, or where folds differ in it."""
    from featcache.dataset import DatasetRequest
    from featcache.heads.saved import find_head

    chosen = [(fold, fit.best, fit.handles.numbers[fit.best.name]) for fold, fit in fits if fit.best is not None]
    with contextlib.suppress(FeatcacheError):  # the report would say what is wrong
        of_fold: list[StoreOptions] = [options if fold is None else {**options, "fold": fold} for fold, *_ in chosen]
        best = [find_head(DatasetRequest(**each), None).folder for each in of_fold]
        if best == [head.folder for _, head, _ in chosen]:
            return []
    numbers = {number for *_, number in chosen}
    return [str(numbers.pop())] if len(numbers) == 1 else []


def say_next_after_cross_validation(options: StoreOptions) -> None:
    """Print the search for doubtful labels in the same store; of features, which it does not take, a head's report.

    Where no head is kept yet, fit-head comes next: a cross-validation keeps none.
    """
    from featcache.dataset import DatasetRequest
    from featcache.heads.saved import find_head

    if options.get("features") is None:
        say_next("data", options, "--label-issues")
        return
    command, request = "fit-head", DatasetRequest(**options)
    with contextlib.suppress(FeatcacheError):  # there is no head yet
        find_head(request, None)
        command = "report" if _can_report(request.cached_splits) else "compare"
    say_next(command, options)


def say_next_fit_head(options: DataOptions) -> None:
    """Print fit-head; where several stores hold the data set, with the flags of the first one that has train."""
    from featcache.dataset import DatasetRequest

    request, store = DatasetRequest(**options), None
    with contextlib.suppress(FeatcacheError):  # fit-head says what is wrong
        stores = [store.name for store in request.stores() if request.key("train") in store.listings]
        store = stores[0] if len(stores) > 1 else None
    say_next("fit-head", options, store=store)


def say_next_after_search(options: StoreOptions, search: "Search") -> None:
    """Print the report of the head that the search found; nothing where it diverged."""
    best = search.fit.best
    if best is not None:
        say_next("report", _with_class_of(options, [best]), str(search.fit.handles.numbers[best.name]))


def say_next_after_finetune(options: DataOptions, result: "Finetuned") -> None:
    """Print the report of the fine-tuned network, against the head that it started from, else the best frozen one."""
    from featcache.dataset import DatasetRequest

    handles, head = result.fit.handles, result.fit.heads[0]
    number = str(handles.numbers[head.name])
    other = handles.numbers.get(result.start.partition(" ")[2]) or _best_frozen(options)
    against = [] if other is None else ["--against", str(other)]
    if result.fit.best is None or not _can_report(DatasetRequest(**options).cached_splits):
        say_next("compare", options)
    else:
        say_next("report", options, number, *against)


def _best_frozen(options: DataOptions) -> int | None:
    """Return the number of the best head whose trunk was not trained with it; None where there is none."""
    from featcache.dataset import DatasetRequest
    from featcache.heads.saved import rank_models

    with contextlib.suppress(FeatcacheError):  # what is wrong with another head is no matter of this one
        usable = (model for model in rank_models(DatasetRequest(**options))[0] if not model.has_diverged)
        return next((model.number for model in usable if "start" not in model.settings), None)
    return None


def say_next_after_fit(options: StoreOptions, fitted: "Fitted") -> None:
    """Print the report of the classifier, on a split on which it can predict; where there is none, the table of all."""
    from featcache.dataset import DatasetRequest

    splits, best = DatasetRequest(**options).cached_splits, fitted.best
    number = str(fitted.handles.numbers[best.name])
    if best.has_model and _can_report(splits):
        say_next("report", options, number)
    elif best.predictions:
        split = next((split for split in ("test", "val") if split in best.predictions), min(best.predictions))
        say_next("report", options, number, "--split", split)
    else:
        say_next("compare", options)


def say_next_after_compare(options: StoreOptions, comparison: "Comparison", split: str | None) -> None:
    """Print the report of the first head of the table that can have one."""
    from featcache.dataset import DatasetRequest

    usable = [head for head in comparison.heads if head.number and head.scores is not None and not head.has_diverged]
    if not usable:
        say_next_fit_head(options)
        return
    own = _with_class(options, usable[0].classifier)
    if split is not None:
        say_next("report", own, str(usable[0].number), "--split", split)
    elif _can_report(DatasetRequest(**options).cached_splits):
        say_next("report", own, str(usable[0].number))
    else:
        say_next("report", own, str(usable[0].number), "--split", "train")


def say_next_after_report(
    options: StoreOptions, typed: Sequence[str], examined: "HeadOnSplit", html: Path | None
) -> None:
    """Print the same report as a page; where there is one, a prediction for an image of the split, where one is here.

    Args:
        options: The data set, its cache and its store.
        typed: The words of the report without those that name files.
        examined: The head and the split.
        html: The page that was written.
    """
    if html is None:
        say_next("report", options, *typed, "--html", "report.html")
        return
    number = examined.choice.handle.partition(" ")[0].removeprefix("#")
    root, paths = examined.features.source["root"], examined.features.paths
    images = (os.path.join(root, path) for path in paths[:1])
    image = next((image for image in images if os.path.isfile(image)), None)
    if image is None:
        say_next("compare", options)
    else:
        say_next("predict", options, number, os.path.relpath(image) if _is_below_here(image) else image)


def say_next_after_predict(
    options: StoreOptions, typed: Sequence[str], result: "Predictions | Timeline", csv: Path | None
) -> None:
    """Print the same predictions as a table where there are several; else, and where that is written, the export.

    Where the head cannot be exported, or `model.pt` is there already, the table of all heads comes next.

    Args:
        options: The data set, its cache and its store.
        typed: The words of the prediction, the head first, without those that name files to write.
        result: What was predicted.
        csv: The table that was written.
    """
    number = result.handle.partition(" ")[0].removeprefix("#")
    is_of_data_set = not os.path.isdir(typed[0])  # the folder of a head says itself where it belongs
    rows = len(result.segments()) if hasattr(result, "segments") else len(result.paths)
    if csv is None and rows > 1 and "-" not in typed:
        say_next("predict", options, *typed, "--csv", "predictions.csv")
    elif is_of_data_set and result.is_exportable and not os.path.lexists("model.pt"):
        say_next("export-model", options, number, "--to", "model.pt")
    elif is_of_data_set:
        say_next("compare", options)


def _can_report(splits: frozenset[str]) -> bool:
    """Return whether a cache has a split that a report is made of where none is named."""
    return not splits.isdisjoint(("test", "val"))


def _is_below_here(path: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath("."), ""))
