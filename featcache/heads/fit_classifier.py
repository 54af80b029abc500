"""`featcache fit`: any classifier on the cached embeddings, its settings chosen by macro recall on val."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.features import Features, read_features
from featcache.heads.classifiers import (
    LOGREG_C,
    ModelOutput,
    SearchOptions,
    SearchResult,
    SettingChoices,
    choices_from,
    find_estimator_class,
    knn_choices,
    note_on_edges,
    refuse_other_models,
    refuse_protocol,
    search_estimators,
    search_knn,
    search_logreg_path,
    search_ridge,
)
from featcache.heads.fit_on_targets import fit_on_targets, refuse_settings_of_classifiers
from featcache.heads.fitted import Fitted, list_complaints
from featcache.heads.saved import (
    SavedClassifier,
    is_function,
    keep_temperature,
    record_run,
    refuse_given_name,
    save_classifier,
)
from featcache.heads.splits import Splits, notes_of_splits, read_splits, refuse_unfit
from featcache.machine import cores
from featcache.recipe import LABEL, StoreOptions

SELECTED_BY = "macro recall on val"

SearchFunction = Callable[[Features, Features | None, SettingChoices, SearchOptions], SearchResult]


@checked
def fit(
    classifier: str,
    settings: Mapping[str, Any] | None = None,
    *,
    predict: Sequence[str] = (),
    foreign: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    head_name: str | None = None,
    protocol: str | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **options: Unpack[StoreOptions],
) -> Fitted:
    """Fit a classifier on the cached train split and keep it.

    Several labels a row are learnt by "knn" and "logreg", numbers by "knn" and "ridge".

    Args:
        classifier: "knn", "ridge", a short name of the recipe's `SHORT_NAMES`, or `package.module:Class`.
        settings: By name a value, or a list of values to choose among by macro recall on val (of several labels by
            their mean average precision, of numbers by R2). What is not named comes from the recipe's `[fit]` section.
        predict: The splits whose predictions are kept too; they choose nothing.
        foreign: Whether classes of other packages than scikit-learn may be imported.
        device: Where k-NN compares rows; the others are fitted by the CPU.
        jobs: How many fits run at once; None: one a core.
        head_name: A name for the classifier, which stands for it from now on; None leaves it without one.
        protocol: "dinov2" tries what DINOv2's evaluation tries: for "logreg" 45 values of C, by one path of optima of
            our own; for "knn" k 10, 20, 100 and 200 with temperature 0.07. It states all settings, and a recipe's
            `[fit]` section is not asked.
        progress: Gets the stage, what is done and what there is to do.
        **options: The recipe, the data, the cache and the store: see `featcache.recipe.StoreOptions`.

    Returns:
        The classifier that was chosen, saved, with every combination of settings that was tried.

    Raises:
        UsageError: the recipe; no such classifier, setting or device; or an option that has no effect on this one.
        CacheError: a split is not in the cache, or a file of it is damaged; a choice, and no val split that could make
            it; or another process holds the log of runs.
        DataError: a single class, or a split without rows.
        MachineError: memory or disk are full, or no such device.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: found {jobs}, expected at least 1")
    refuse_given_name(head_name)
    request = DatasetRequest(**options)
    kind = request.recipe.data.target_kind
    if kind != LABEL:
        refuse_other_models(classifier, kind)
        refuse_settings_of_classifiers(kind, predict, jobs, protocol)
    search = find_search(classifier, foreign=foreign)  # before the embeddings are read: a wrong name costs no time
    refuse_protocol(protocol, classifier, choices_from(settings or {}))
    _refuse_unused(classifier, device, jobs, protocol)
    choices: SettingChoices = choices_from({**request.recipe.fit.get(classifier, {}), **(settings or {})})
    progress("reading", 0, 0)
    splits = read_splits(request, any_targets=True)
    store, train, val = splits.source, splits.in_memory, splits.val
    if kind != LABEL:
        return fit_on_targets(request, classifier, splits, choices, device, head_name or "", progress)
    notes: list[str] = []
    if protocol is not None:
        search, choices, notes = _follow_protocol(classifier, len(train.y))
    named = [split for split in dict.fromkeys(predict) if split != "val"]
    others = [read_features(store, request.require_key(store, split)) for split in named]
    for split in others:
        refuse_unfit(train, split)

    from featcache.trunks import choose_device

    begun = time.perf_counter()
    search_options = SearchOptions(device=choose_device(device), jobs=jobs or cores(), progress=progress)
    result = search(train, val, choices, search_options)
    seconds = time.perf_counter() - begun
    outputs = _predictions_to_keep(result, val, others)
    if protocol is None:
        notes = note_on_edges(result, lambda *words: request.command_line("fit", classifier, *words), choices)
    return keep_classifier(classifier, result, splits, outputs, seconds, head_name or "", notes)


def find_search(classifier: str, *, foreign: bool) -> SearchFunction:
    """Return the function that searches the settings of a classifier.

    Raises:
        UsageError: no such classifier.
    """
    if classifier == "knn":
        return search_knn
    if classifier == "ridge":
        return search_ridge
    find_estimator_class(classifier, foreign=foreign)

    def search(
        train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions
    ) -> SearchResult:  # fmt: skip
        return search_estimators(classifier, train, val, choices, options, foreign=foreign)

    return search


def _follow_protocol(classifier: str, rows: int) -> tuple[SearchFunction, SettingChoices, list[str]]:
    """Return the search of a protocol's classifier, what it chooses among, and what is noted of that."""
    if classifier == "logreg":
        return search_logreg_path, {"C": LOGREG_C}, []
    choices, note = knn_choices(rows)
    return search_knn, choices, [note] if note else []


def _refuse_unused(classifier: str, device: str, jobs: int | None, protocol: str | None) -> None:
    if device not in ("auto", "cpu") and classifier != "knn" and protocol is None:
        raise UsageError(f"--device {device} has no effect: {classifier} is fitted by the CPU; leave it out")
    if jobs is not None and (classifier in ("knn", "ridge") or protocol is not None):
        raise UsageError(f"--jobs has no effect: {classifier} is fitted in one pass, by all cores; leave it out")


def _predictions_to_keep(
    result: SearchResult, val: Features | None, others: Sequence[Features]
) -> dict[str, tuple[Features, ModelOutput]]:
    """Return the best classifier's predictions by split: of val, and of the splits that were named."""
    outputs: dict[str, tuple[Features, ModelOutput]] = {}
    if val is not None and result.on_val is not None:
        outputs["val"] = val, result.on_val
    for split in others:
        outputs[split.split] = split, result.classifier.predict(split.x)
    return outputs


def keep_classifier(
    classifier: str, result: SearchResult, splits: Splits, outputs: Mapping[str, tuple[Features, ModelOutput]],
    seconds: float, given_name: str, notes: Sequence[str] = (),
) -> Fitted:  # fmt: skip
    """Save the best classifier, and record the run.

    Args:
        classifier: Its kind, as it was asked for.
        result: What was tried, and the best one, fitted.
        splits: What it was fitted on, and what chose.
        outputs: By split, the splits whose predictions are kept, with those predictions.
        seconds: How long the search took.
        given_name: What a person calls it, "" where nobody did.
        notes: What is noted beside what is known of the splits and the model.

    Raises:
        MachineError: the disk refuses.
    """
    train, val = splits.in_memory, splits.val
    best = save_classifier(splits.source, classifier, result, train, val, outputs, seconds)
    temperature = keep_temperature(best, val)
    selected_by = SELECTED_BY if len(result.trials) > 1 else ""
    handles = record_run(
        splits.source, train, [best], best=best.name, seconds=seconds, selected_by=selected_by, given_name=given_name
    )
    return Fitted(
        best,
        selected_by,
        len(train.y),
        None if val is None else len(val.y),
        seconds,
        (
            *splits.notes,
            *notes_of_splits(train, val),
            *notes,
            *list_complaints(result),
            *_note_without_model(best),
            *handles.note_on_moved(given_name),
        ),
        handles,
        temperature,
    )


def _note_without_model(best: SavedClassifier) -> list[str]:
    if best.classifier is not None:
        return []
    if is_function(best.kind):
        return [f"only its predictions are kept, for {', '.join(sorted(best.predictions)) or 'no split'}"]
    more = "" if "test" in best.predictions else "; `--predict test` keeps those of test too"
    return [f"only its predictions are kept, not the model: {best.without_model}{more}"]
