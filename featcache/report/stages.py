"""What the two stages say of themselves when they are done, for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from featcache.extraction import Summary
from featcache.extraction.summary import shown_path

if TYPE_CHECKING:
    from featcache.heads.fit import Fit  # with it comes scikit-learn, which an extract does not need

_NAMED = 10  # skipped images that are named


def warnings_of(summary: Summary) -> Iterator[str]:
    """What a person must know of an extract beside its figures, a line each."""
    for path, reason in summary.failures[:_NAMED]:
        yield f"skipped {summary.data_set}/{shown_path(path)}: {reason}"
    if len(summary.failures) > _NAMED:
        yield f"skipped {len(summary.failures) - _NAMED} more images of {summary.split!r} (--json names them all)"
    if summary.ignored:
        shown = ", ".join(map(shown_path, summary.ignored[:3])) + (", …" if len(summary.ignored) > 3 else "")
        yield f"note: {many(len(summary.ignored), 'file')} of {summary.split!r} not taken for images: {shown}"
    if summary.empty_classes:
        shown = ", ".join(summary.empty_classes[:5]) + (", …" if len(summary.empty_classes) > 5 else "")
        yield f"note: {summary.split!r} has no image of {many(len(summary.empty_classes), 'class')}: {shown}"
    yield from (f"note: {cut}" for cut in summary.cuts)
    if summary.moved_from:
        yield f"note: {summary.data_set}/{summary.split} has moved: it was {summary.moved_from}, with the same images"
    if summary.part:
        yield f"note: {summary.split!r} is a part of its folder ({summary.part}) until it is extracted again"


def sentence_of(summary: Summary) -> str:
    """One extract in one line."""
    pace = f", {summary.images_per_second:,.1f} images/s" if summary.embedded else ""
    return (
        f"{summary.data_set}/{summary.split}: {summary.rows:,} images: {summary.embedded:,} embedded, "
        f"{summary.reused:,} reused, {summary.failed:,} failed ({summary.seconds:.1f} s{pace})"
    )


def shares_of(summary: Summary) -> str:
    """Where the time of an extract went, in one line; "" where nothing was embedded."""
    if not summary.shares:
        return ""
    loop = ", ".join(f"{kind} {summary.shares[kind]:.0%}" for kind in ("starting", "waiting", "computing", "writing"))
    workers = ", ".join(f"{kind} {summary.shares[kind]:.0%}" for kind in ("reading", "decoding"))
    return f"time: {loop}; of the workers': {workers}"


def fit_parts(fit: "Fit") -> list[RenderableType]:
    """What a fit-head says, top to bottom: the rows, a line for each head, the check."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("\nlr")
    for split in ("train", "val")[: 1 if fit.val_rows is None else 2]:
        for heading in (f"{split}\nloss", "\naccuracy", "\nmacro recall"):
            table.add_column(heading, justify="right", no_wrap=True)
    for found in fit.heads:
        best = " *" if found is fit.best and fit.selected_by else ""
        cells = [f"{found.head.config.lr:g}{best}"]
        for scores in (found.head.train, found.head.val):
            if scores is not None:
                cells += [f"{scores.loss:.4f}", f"{100 * scores.accuracy:.1f} %", f"{100 * scores.macro_recall:.1f} %"]
        table.add_row(*cells)
    val = "" if fit.val_rows is None else f", {fit.val_rows:,} to choose by"
    steps = fit.heads[0].head.steps
    parts: list[RenderableType] = [
        Text(f"{fit.train_rows:,} rows to train on{val}; {steps:,} steps each, {fit.seconds:.1f} s"),
        table,
    ]
    if fit.selected_by:
        parts.append(Text(f"* best by {fit.selected_by}"))
    if fit.check is not None:
        parts.append(Text(f"check: {fit.check.sentence()}"))
    return parts


def many(count: int, noun: str) -> str:
    """A count with its noun: 1 shard, 2 shards."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count:,} {plural}"
