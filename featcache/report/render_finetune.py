"""What finetune prints when it is done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from featcache.heads import EpochRow
from featcache.report.columns import Column, FittingTable
from featcache.report.render_stages import score_columns, setting_text
from featcache.text import counted, metric_in_words

if TYPE_CHECKING:
    from featcache.finetuning import Finetuned, FinetuneSearch

_SHOWN = 12  # epochs in the table
_FINISHED = "this training is done already, and nothing was trained; --restart trains it again"
_KEPT = (
    "kept: on the embeddings that are kept ({}), which every later command reads; the epochs: in float32, train while "
    "it learns"
)


def finetune_parts(result: "Finetuned") -> list[RenderableType]:
    """Return what finetune prints, top to bottom: what was trained, the epochs, and which of them is kept.

    Args:
        result: What the training returned.
    """
    fit, head = result.fit, result.fit.heads[0].head
    val = "" if fit.val_rows is None else f", {fit.val_rows:,} of val"
    share = f"{result.learning_parameters:,} of {result.parameters:,} parameters learn"
    pace = f", {result.images_per_second:,.1f} images/s" if result.images_per_second else ""
    resumed_from = result.epochs if result.resumed_from is None else result.resumed_from
    resumed = "" if resumed_from >= result.epochs else f"; continued in epoch {resumed_from + 1}"
    parts: list[RenderableType] = [
        *([Text(_FINISHED)] if result.was_finished else []),
        Text(f"{fit.train_rows:,} training images{val}; from {result.start}; {share}"),
        Text(f"{counted(result.epochs, 'epoch')}, {counted(head.steps, 'step')}, {fit.seconds:.1f} s{pace}{resumed}"),
    ]
    rows = _worth_showing(head.history, head.best_epoch)
    epochs = [f"{row.epoch}{' *' if row.epoch == head.best_epoch else ''}" for row in rows]
    columns = [Column(heading="epoch", cells=[*epochs, "kept"], is_name=True)]
    of_train, of_val = [*(row.train for row in rows), head.train], [*(row.val for row in rows), head.val]
    columns += score_columns("train", of_train, (6, 5, 4 if fit.val_rows is not None else 0))
    if fit.val_rows is not None:
        columns += score_columns("val", of_val, (3, 2, 0))
    parts.append(FittingTable(columns, "--json has them all"))
    parts.append(Text(_KEPT.format(result.compute)))
    if head.best_epoch is not None:
        parts.append(Text(f"* the epoch that is kept, the best by {metric_in_words(fit.select)} on val"))
    return parts


def finetune_search_parts(result: "FinetuneSearch") -> list[RenderableType]:
    """Return what a search over fine-tunings prints: the trials, the best settings, then what finetune prints of them.

    Args:
        result: What the search returned.
    """
    settings = ", ".join(f"{name} {setting_text(value)}" for name, value in result.settings.items())
    trials = f"{counted(result.trials, 'trial')}, {result.new:,} new, {result.pruned:,} of them pruned"
    return [Text(f"{trials}; best: {settings or 'nothing is searched'}"), *finetune_parts(result.tuned)]


def _worth_showing(history: Sequence[EpochRow], best: int | None) -> list[EpochRow]:
    """Return the first and the last epoch, the one that is kept, and some between them, evenly spread."""
    if len(history) <= _SHOWN:
        return list(history)
    places = {round(number * (len(history) - 1) / (_SHOWN - 1)) for number in range(_SHOWN)}
    return [row for place, row in enumerate(history) if place in places or row.epoch == best]
