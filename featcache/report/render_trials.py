"""What `featcache fit` prints when it is done."""

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from featcache.heads import Fitted, Scores
from featcache.heads.classifiers import format_value, trial_merit_key
from featcache.text import UNDEFINED, decimal, percent, printable

_SHOWN = 20  # combinations; --json has them all


def classifier_fit_parts(fitted: Fitted) -> Iterator[RenderableType]:
    """Yield what fit prints: the rows, a line for each combination, best first, and the best one's scores on train.

    Args:
        fitted: what the fit returned.
    """
    val = "" if fitted.val_rows is None else f", {fitted.val_rows:,} to choose by"
    yield Text(
        f"{printable(fitted.best.kind)}: {fitted.train_rows:,} rows to train on{val}; "
        f"{len(fitted.trials)} settings, {fitted.seconds:.1f} s"
    )
    trials = fitted.trials
    order = sorted(range(len(trials)), key=lambda index: trial_merit_key(trials, index))
    varied = [key for key in trials[0].settings if len({str(trial.settings[key]) for trial in trials}) > 1]
    keys = varied or [key for key in trials[0].settings if key != "random_state"]
    if fitted.val_rows is not None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for key in keys:
            table.add_column(f"\n{printable(key)}")
        for heading in ("val\nmacro recall", "\naccuracy", "\nloss", "\nseconds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for position, index in enumerate(order[:_SHOWN]):
            trial = trials[index]
            mark = " *" if not position and len(trials) > 1 else ""
            words = [printable(format_value(trial.settings[key])) for key in keys]
            if words:
                words[0] += mark
            table.add_row(*map(Text, words), *_cells(trial.val), f"{trial.seconds:.2f}")
        yield table
        if len(order) > _SHOWN:
            yield Text(f"… and {len(order) - _SHOWN} more (--json has them all)")
    if fitted.selected_by:
        yield Text(f"* best by {fitted.selected_by}")
    if fitted.best.train is not None:
        recall, accuracy, loss = _cells(fitted.best.train)
        with_loss = "" if math.isnan(fitted.best.train.loss) else f", loss {loss}"
        yield Text(f"on its own training rows: macro recall {recall}, accuracy {accuracy}{with_loss}")


def _cells(scores: Scores | None) -> tuple[str, str, str]:
    """Return macro recall, accuracy and loss as they are shown."""
    if scores is None:
        return UNDEFINED, UNDEFINED, UNDEFINED
    return percent(scores.macro_recall), percent(scores.accuracy), decimal(scores.loss)
