"""What fit-head would say of a head that is there already, without training it."""

from collections.abc import Sequence

from featcache.heads.fit_result import Fit
from featcache.heads.notes import notes_of_heads
from featcache.heads.saved import SavedHead, list_handles, read_temperature, record_run
from featcache.heads.splits import Splits


def show_kept_head(
    splits: Splits, saved: SavedHead, select: str, *, seconds: float, notes: Sequence[str] = (), given_name: str = ""
) -> Fit:
    """Return a head that is kept, as the run that trained it returned it; only a new name is recorded.

    Args:
        splits: What it was trained on and chosen by.
        saved: The head.
        select: The metric on val that chose its epoch.
        seconds: How long its training took.
        notes: What is noted before all else.
        given_name: What a person calls it from now on; "" leaves its name as it is.
    """
    source = splits.train.source
    handles, best = list_handles(splits.source, source["data_set"], source["variant"]), saved.name
    if given_name and handles.given.get(given_name) != best:
        handles = record_run(
            splits.source, splits.train, [saved], best=best, seconds=seconds, given_name=given_name
        )  # fmt: skip
    temperature = read_temperature(saved.folder)
    return Fit(
        heads=(saved,),
        best=None if saved.has_diverged else saved,
        select=select,
        selected_by="",
        check=None,
        train_rows=len(splits.train.y),
        val_rows=None if splits.val is None else len(splits.val.y),
        seconds=seconds,
        notes=(
            *notes, *splits.notes, *notes_of_heads(splits.train, splits.val, [saved]),
            *handles.note_on_moved(given_name),
        ),
        handles=handles,
        temperatures={best: None if temperature is None else temperature.value},
    )  # fmt: skip
