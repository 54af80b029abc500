"""What `featcache fit` prints when it is done."""

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from featcache.heads import Fitted, Scores
from featcache.heads.classifiers import SearchTrial, format_value, trial_merit_key
from featcache.report.columns import Column, FittingTable
from featcache.report.render_stages import score_columns
from featcache.text import counted, decimal, metric_in_words, metric_text, printable

_SHOWN = 20  # combinations; --json has them all


def classifier_fit_parts(fitted: Fitted) -> Iterator[RenderableType]:
    """Yield what fit prints: the rows, a line for each combination, best first, and the best one's scores on train.

    Args:
        fitted: what the fit returned.
    """
    val = "" if fitted.val_rows is None else f", {fitted.val_rows:,} val rows to choose by"
    yield Text(
        f"{printable(fitted.best.kind)}: {fitted.train_rows:,} training rows{val}; "
        f"{counted(len(fitted.trials), 'combination')} of settings, {fitted.seconds:.1f} s"
    )
    trials = fitted.trials
    order = sorted(range(len(trials)), key=lambda index: trial_merit_key(trials, index))
    varied = [key for key in trials[0].settings if len({str(trial.settings[key]) for trial in trials}) > 1]
    keys = varied or [key for key in trials[0].settings if key != "random_state"]
    if fitted.val_rows is not None:
        shown = [trials[index] for index in order[:_SHOWN]]
        yield FittingTable(_trial_columns(shown, keys, is_choice=len(trials) > 1), "--json has them all")
        if len(order) > _SHOWN:
            yield Text(f"… and {len(order) - _SHOWN} more (--json has them all)")
    if fitted.selected_by:
        yield Text(f"* best by {fitted.selected_by}")
    if fitted.best.train is not None:
        yield Text(f"on the training rows: {_scores_in_words(fitted.best.train)}")


def _trial_columns(trials: Sequence[SearchTrial], keys: Sequence[str], *, is_choice: bool) -> list[Column]:
    """Return the settings of each combination, best first, its scores on val and its seconds."""
    columns = [
        Column(heading=printable(key), cells=[format_value(trial.settings[key]) for trial in trials], is_name=True)
        for key in keys
    ]
    if is_choice:
        columns.insert(0, Column(heading="", cells=["*", *[""] * (len(trials) - 1)], is_name=True))
    columns += score_columns("val", [trial.val for trial in trials], (2, 1, 0))
    return [*columns, Column(heading="seconds", cells=[f"{trial.seconds:.2f}" for trial in trials], rank=3)]


def _scores_in_words(scores: Scores) -> str:
    """Return the metrics and, where it is defined, the loss: "macro recall 98.3 %, accuracy 98.3 %, loss 0.4196"."""
    metrics = scores.metrics or {"macro_recall": scores.macro_recall, "accuracy": scores.accuracy}
    words = [f"{metric_in_words(name)} {metric_text(name, value)}" for name, value in metrics.items()]
    return ", ".join([*words, *([] if math.isnan(scores.loss) else [f"loss {decimal(scores.loss)}"])])
