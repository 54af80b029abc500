"""`featcache fit` on several labels or numbers a row: k-NN, ridge, or a logistic regression for each label."""

import time
from collections.abc import Callable, Sequence

from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.heads.classifiers import SearchOptions, SettingChoices, note_on_edges, search_target_model
from featcache.heads.fitted import Fitted, list_complaints
from featcache.heads.saved import keep_temperature, record_run, save_target_model
from featcache.heads.splits import Splits, notes_of_splits
from featcache.heads.target_settings import note_on_targets
from featcache.machine import cores
from featcache.text import metric_in_words


def refuse_settings_of_classifiers(kind: str, predict: Sequence[str], jobs: int | None, protocol: str | None) -> None:
    """Raise a UsageError where something is given that a fit on classes alone has.

    Args:
        kind: LABELS or VALUE.
        predict: The splits whose predictions were to be kept.
        jobs: How many fits were to run at once; None where nobody said.
        protocol: The published protocol; None without one.

    Raises:
        UsageError: see above.
    """
    refused = {
        "--predict": (bool(predict), "such a model is always kept, and `featcache report --predictions` writes them"),
        "--jobs": (jobs is not None, "such a model is fitted by all cores"),
        "--protocol": (protocol is not None, "the protocol is one for classes"),
    }
    for flag, (was_given, reason) in refused.items():
        if was_given:
            error = UsageError(f"{flag} has no effect with targets = {kind!r}: {reason}; leave it out")
            raise error.correct(flag, None)


def fit_on_targets(
    request: DatasetRequest, classifier: str, splits: Splits, choices: SettingChoices, device: str, given_name: str,
    progress: Callable[[str, int, int], None],
) -> Fitted:  # fmt: skip
    """Return the model of several labels or numbers that was chosen, saved.

    Args:
        request: The data set, for the command that goes further.
        classifier: "knn", "ridge" or "logreg".
        splits: What it learns from, and what chooses.
        choices: The settings to choose among.
        device: Where k-NN compares rows.
        given_name: What a person calls it, "" where nobody did.
        progress: Gets the stage, what is done and what there is to do.

    Raises:
        UsageError: a setting, or the device.
        CacheError: a choice, and no val split that could make it.
        MachineError: the disk refuses.
    """
    from featcache.trunks import choose_device

    train, val, begun = splits.in_memory, splits.val, time.perf_counter()
    options = SearchOptions(device=choose_device(device), jobs=cores(), progress=progress)
    result = search_target_model(classifier, train, val, choices, options)
    seconds = time.perf_counter() - begun
    best = save_target_model(splits.source, classifier, result, train, val, seconds)
    temperature = keep_temperature(best, val)
    chief = best.val.chief if best.val is not None else ""
    selected_by = f"{metric_in_words(chief)} on val" if len(result.trials) > 1 else ""
    handles = record_run(
        splits.source, train, [best], best=best.name, seconds=seconds, selected_by=selected_by, given_name=given_name
    )
    notes = (
        *splits.notes,
        *notes_of_splits(train, val),
        *note_on_targets(train, val, result.kept),
        *note_on_edges(result, lambda *words: request.command_line("fit", classifier, *words), choices),
        *list_complaints(result),
        *handles.note_on_moved(given_name),
    )
    rows = None if val is None else len(val.y)
    return Fitted(best, selected_by, len(train.y), rows, seconds, notes, handles, temperature)
