"""Doubtful labels on the terminal, and as CSV."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import LabelIssues
from featcache.heads import OutOfFold
from featcache.report.console import print_parts
from featcache.report.name_table import LEAST_NAME
from featcache.report.tables import disarm_formula, save_rows
from featcache.text import counted, enumerate_words, percent, printable, shorten

SHOWN = 20  # issues
_WORST = "on which of its images a head is furthest from the truth"


def print_label_issues(found: LabelIssues, console: Console) -> None:
    """Print how many labels are in doubt, and the most doubtful of them.

    Args:
        found: what is printed.
        console: where; its width decides what fits.
    """
    print_parts([_summary(found), *_list(found, console.width)], console)


def label_issues_sentence(found: LabelIssues) -> str:
    """Return how many labels are in doubt, and by whose word.

    Args:
        found: the issues.
    """
    unseen = found.validation.unseen
    verb = "is" if len(found.issues) == 1 else "are"
    return (
        f"{len(found.issues):,} of {counted(len(unseen.fold), 'label')} of {printable(unseen.rows.split)} {verb} in "
        f"doubt: {unseen.folds} heads {found.validation.head}, each trained without the {unseen.by}s that it predicts "
        f"(macro recall {percent(found.validation.evaluation.macro_recall)}), contradict them"
    )


def left_out_sentence(unseen: OutOfFold) -> str:
    """Return which splits were not looked at, and how they can be; "" where all were.

    Args:
        unseen: the rows that were, with their folds.
    """
    splits = [printable(split) for split in unseen.left_out]
    if not splits:
        return ""
    verb = "was" if len(splits) == 1 else "were"
    return (
        f"{enumerate_words(splits)} {verb} not looked at: `featcache report --split {splits[0]} --html FILE` shows "
        f"{'which of its images a head takes for another class' if unseen.rows.targets is None else _WORST}"
    )


def save_label_issues_csv(found: LabelIssues, path: Path) -> None:
    """Write one row an issue, the most doubtful first: path, label, suggested, both probabilities, clip, subject, fold.

    Args:
        found: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    header = (
        "path",
        "label",
        "suggested",
        "probability_of_label",
        "probability_of_suggested",
        "clip",
        "subject",
        "fold",
    )
    rows = (
        (
            disarm_formula(issue.path), disarm_formula(issue.label), disarm_formula(issue.suggested), issue.of_label,
            issue.of_suggested, disarm_formula(issue.clip), disarm_formula(issue.subject), issue.fold,
        )
        for issue in found.issues
    )  # fmt: skip
    save_rows(header, rows, path)


def _summary(found: LabelIssues) -> RenderableType:
    title = Text("labels in doubt", style="bold")
    key = Text("a label in doubt may be right: look at the image before you change it", style="dim")
    left = left_out_sentence(found.validation.unseen)
    notes = [key] * bool(found.issues) + [Text(left, style="dim")] * bool(left)
    return Group(title, Text(label_issues_sentence(found)), *notes)


def _list(found: LabelIssues, width: int) -> list[RenderableType]:
    """Return two lines for each of the most doubtful labels: the image; what it is called and what it looks like."""
    lines = []
    for issue in found.issues[:SHOWN]:
        lines.append(Text(f"  {shorten(printable(issue.path), max(LEAST_NAME, width - 2))}"))
        half = max(LEAST_NAME, (width - 34) // 2)
        label, suggested = (shorten(printable(name), half) for name in (issue.label, issue.suggested))
        lines.append(
            Text(f"    is {label} ({percent(issue.of_label)}), looks like {suggested} ({percent(issue.of_suggested)})")
        )
    left = len(found.issues) - SHOWN
    if left > 0:
        lines.append(Text(f"  and {left:,} more; --html FILE shows them, --csv FILE and --json list all", style="dim"))
    return [Group(*lines)] if lines else []
