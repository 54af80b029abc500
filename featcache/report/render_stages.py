"""What extract, fit-head and search print when they are done."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from featcache.heads import Scores, best_of, merit
from featcache.listing import shown_path
from featcache.report.columns import Column, FittingTable
from featcache.text import METRIC_MEANINGS, METRIC_WORDS, UNDEFINED, counted, decimal, metric_text, percent

if TYPE_CHECKING:
    from featcache.extraction import Summary
    from featcache.heads import Fit, Search
    from featcache.heads.saved import SavedHead

_SHOWN = 20  # heads in a table
_NAMED = 10  # skipped images that are named


def extract_warnings(summary: "Summary") -> Iterator[str]:
    """Yield what a person must know of an extract beside its figures, a line each.

    Args:
        summary: what the extract returned.
    """
    for path, reason in summary.failures[:_NAMED]:
        yield f"skipped {summary.data_set}/{shown_path(path)}: {reason}"
    if len(summary.failures) > _NAMED:
        yield f"skipped {len(summary.failures) - _NAMED} more images of {summary.split!r} (--json names them all)"
    if summary.ignored:
        shown = ", ".join(map(shown_path, summary.ignored[:3])) + (", …" if len(summary.ignored) > 3 else "")
        files = f"{counted(len(summary.ignored), 'file')} of {summary.split!r}"
        yield f"note: {files} ignored, whose names are not those of images: {shown}"
    yield from (f"note: {note}" for note in summary.notes)
    if summary.empty_classes:
        shown = ", ".join(summary.empty_classes[:5]) + (", …" if len(summary.empty_classes) > 5 else "")
        yield f"note: {summary.split!r} has no image of {counted(len(summary.empty_classes), 'class')}: {shown}"
    yield from (f"note: {cut}" for cut in summary.cuts)
    if summary.moved_from:
        yield f"note: {summary.data_set}/{summary.split} has moved here from {summary.moved_from}, with the same images"
    if summary.drift is not None and not summary.drift.compared:
        yield (
            "note: this store was made with other versions or hardware, and none of the images that it holds is where "
            "it was: nothing could be compared"
        )
    elif summary.drift is not None:
        yield (
            f"note: this store was made with other versions or hardware; {summary.drift.compared} of its images, "
            f"embedded again, agree (1 - cosine at most {summary.drift.cosine:.1e})"
        )
    if summary.part:
        yield f"note: {summary.split!r} is a part of its folder ({summary.part}) until it is extracted again"


def extract_sentence(summary: "Summary") -> str:
    """Return one extract in one line.

    Args:
        summary: what the extract returned.
    """
    pace = f", {summary.images_per_second:,.1f} images/s" if summary.embedded else ""
    return (
        f"{summary.data_set}/{summary.split}: {counted(summary.rows, 'image')}: {summary.embedded:,} embedded, "
        f"{summary.reused:,} reused, {summary.failed:,} failed ({summary.seconds:.1f} s{pace})"
    )


def extract_time_shares(summary: "Summary") -> str:
    """Return where the time of an extract went, in one line; "" where nothing was embedded.

    What comes after start-up has shares of the time after it, as the sentence that says what held the run back.

    Args:
        summary: what the extract returned.
    """
    if not summary.shares:
        return ""
    running = max(1 - summary.shares["starting"], 1e-9)
    after = [f"{kind} {percent(summary.shares[kind] / running, 0)}" for kind in ("waiting", "computing", "writing")]
    workers = [f"{kind} {percent(summary.shares[kind], 0)}" for kind in ("reading", "decoding")]  # after it, too
    start = percent(summary.shares["starting"], 0)
    return f"time: start-up {start}; after it {', '.join(after)}; of the workers' time {', '.join(workers)}"


def fit_parts(fit: "Fit") -> list[RenderableType]:
    """Return what fit-head prints, top to bottom: the rows, a line for each head, the check.

    Args:
        fit: what the training returned.
    """
    shown, left = _worth_showing(fit)
    val = "" if fit.val_rows is None else f", {fit.val_rows:,} val rows to choose by"
    steps = sorted({saved.head.steps for saved in fit.heads})
    step_counts = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    many_heads = "" if len(fit.heads) == 1 else f"{len(fit.heads):,} heads, "
    parts: list[RenderableType] = [
        Text(f"{fit.train_rows:,} training rows{val}; {many_heads}{step_counts} steps each, {fit.seconds:.1f} s"),
        FittingTable(_fit_columns(fit, shown), "--json has them all"),
    ]
    if left:
        parts.append(Text(f"… and {left:,} more heads (--json has them all)"))
    if fit.selected_by:
        parts.append(Text(f"* best by {fit.selected_by}{_meaning(fit)}{_why_not_accuracy(fit)}"))
    if fit.check is not None:
        parts.append(Text(f"check ({fit.check.seconds:.1f} s): {fit.check.sentence()}"))
    return parts


def _fit_columns(fit: "Fit", shown: Sequence["SavedHead"]) -> list[Column]:
    """Return the number of each head, the settings that differ between them, and their scores on both splits."""
    marks = [" *" if saved is fit.best and fit.selected_by else "" for saved in shown]
    numbers = [f"#{fit.handles.numbers[saved.name]}{mark}" for saved, mark in zip(shown, marks, strict=True)]
    columns = [Column(heading="#", cells=numbers, is_name=True)]
    for name in _settings_that_differ(fit):
        cells = [setting_text(getattr(saved.head.config, name)) for saved in shown]
        columns.append(Column(heading=name.replace("_", " "), cells=cells, is_name=True))
    has_val = fit.val_rows is not None
    columns += score_columns("train", [saved.head.train for saved in shown], (6, 5, 4 if has_val else 0))
    return columns + (score_columns("val", [saved.head.val for saved in shown], (3, 2, 0)) if has_val else [])


def score_columns(split: str, scores: Sequence[Scores | None], ranks: tuple[int, int, int]) -> list[Column]:
    """Return the loss, the accuracy and the macro recall of each row on one split.

    Args:
        split: the split, which stands above them.
        scores: of each row; None where there are none.
        ranks: of the three columns: see `Column`.
    """
    loss, accuracy, recall = ranks
    names = next((list(score.metrics) for score in scores if score is not None and score.metrics), [])
    if names:  # several labels or numbers a row; of train, the chief metric alone
        ranked = {"loss": loss, **dict.fromkeys(names[:0:-1], accuracy), names[0]: recall}
        return [
            Column(
                heading=METRIC_WORDS[name], group=split, rank=rank,
                cells=[UNDEFINED if score is None else _metric_cell(name, score) for score in scores],
            )
            for name, rank in ranked.items()
            if split != "train" or name in ("loss", names[0])
        ]  # fmt: skip
    cells = [
        (decimal(score.loss), percent(score.accuracy), percent(score.macro_recall)) if score else (UNDEFINED,) * 3
        for score in scores
    ]
    return [
        Column(heading=heading, cells=[row[number] for row in cells], group=split, rank=rank)
        for number, (heading, rank) in enumerate((("loss", loss), ("accuracy", accuracy), ("macro recall", recall)))
    ]


def _metric_cell(name: str, score: Scores) -> str:
    value = score.figure(name)
    return decimal(value) if name == "loss" else metric_text(name, value)


def describe_embeddings(provenance: Mapping[str, Any]) -> str:
    """Return what one part of a store was made with, and how far it lay from the parts before it.

    Args:
        provenance: the part's entry in the store's trunk.json.
    """
    from featcache.extraction import describe_provenance  # with what decodes images, which fit-head has no use for

    compared = provenance.get("drift")
    if compared is None:
        drift = ""
    elif compared["compared"]:
        images = counted(compared["compared"], "image")
        drift = f"; drift over {images}: 1 - cosine at most {compared['cosine_distance']:.1e}"
    else:
        drift = "; not compared with what was there: its images were gone"
    return f"{counted(provenance['rows'], 'embedding')} made on {describe_provenance(provenance)}{drift}"


def search_parts(search: "Search") -> list[RenderableType]:
    """Return what a search prints: the trials, the best settings, then what fit-head prints of them.

    Args:
        search: what the search returned.
    """
    best = search.fit.heads[0].head.config.changed
    settings = ", ".join(f"{name} {setting_text(value)}" for name, value in best.items())
    text = f"{counted(search.trials, 'trial')}, {search.new:,} new, {search.pruned:,} of them pruned; best: {settings}"
    return [Text(text), *fit_parts(search.fit)]


def _settings_that_differ(fit: "Fit") -> list[str]:
    configs = [saved.head.config for saved in fit.heads]
    return [
        name for name in (field.name for field in fields(configs[0]))
        if name == "lr" or any(getattr(config, name) != getattr(configs[0], name) for config in configs)
    ]  # fmt: skip


def _worth_showing(fit: "Fit") -> tuple[list["SavedHead"], int]:
    """Return the heads that a person reads, all in their order, of many the best; and how many are left out."""
    if len(fit.heads) <= _SHOWN or fit.val_rows is None:
        return list(fit.heads), 0
    ranked = sorted(fit.heads, key=lambda saved: merit(saved.head.val or saved.head.train, fit.select), reverse=True)
    return ranked[:_SHOWN], len(ranked) - _SHOWN


def _meaning(fit: "Fit") -> str:
    """Return what the metric that chose means, in brackets; "" where its name says it."""
    meaning = METRIC_MEANINGS.get(fit.select, "")
    return f" ({meaning})" if meaning else ""


def _why_not_accuracy(fit: "Fit") -> str:
    """Return which head another metric would have chosen, and what each of the two has; "" for the same one."""
    if fit.best is not None and fit.best.head.train.metrics:
        return ""
    other = "accuracy" if fit.select != "accuracy" else "macro_recall"
    chosen = best_of([saved.head for saved in fit.heads], other)
    if fit.best is None or chosen is None or fit.heads[chosen] is fit.best:
        return ""
    mine, theirs = fit.best.head.val, fit.heads[chosen].head.val
    if mine is None or theirs is None or getattr(mine, other) == getattr(theirs, other):
        return ""
    return (
        f"; {other.replace('_', ' ')} would choose {fit.handles.describe(fit.heads[chosen].name)}: accuracy "
        f"{percent(theirs.accuracy)} and macro recall {percent(theirs.macro_recall)}, where this one has "
        f"{percent(mine.accuracy)} and {percent(mine.macro_recall)}"
    )


def setting_text(value: object) -> str:
    """Return the value of a setting as it is shown.

    Args:
        value: a number, a word, or whether something is done.
    """
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
