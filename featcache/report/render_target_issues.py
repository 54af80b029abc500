"""Doubtful labels and numbers of rows that have several, on the terminal, and as CSV."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import TargetIssue, TargetIssues
from featcache.recipe import LABELS
from featcache.report.console import print_parts
from featcache.report.name_table import LEAST_NAME
from featcache.report.render_label_issues import SHOWN, left_out_sentence
from featcache.report.tables import disarm_formula, save_rows
from featcache.text import METRIC_WORDS, counted, metric_text, percent, printable, shorten


def print_target_issues(found: TargetIssues, console: Console) -> None:
    """Print how many labels or numbers are in doubt, and the most doubtful of them.

    Args:
        found: what is printed.
        console: where; its width decides what fits.
    """
    print_parts([_summary(found), *_list(found, console.width)], console)


def target_issues_sentence(found: TargetIssues) -> str:
    """Return how many labels or numbers are in doubt, and by whose word.

    Args:
        found: the issues.
    """
    unseen, evaluation = found.validation.unseen, found.validation.evaluation
    verb, chief = "is" if len(found.issues) == 1 else "are", evaluation.metric_names[0]
    of_image = counted(len(evaluation.names), _noun(found))
    score = f"{METRIC_WORDS[chief]} {metric_text(chief, evaluation.metrics[chief])}"
    return (
        f"{len(found.issues):,} of {counted(found.cells, _noun(found))} of {printable(unseen.rows.split)} {verb} in "
        f"doubt ({counted(len(unseen.fold), 'image')}, {of_image} each): {unseen.folds} heads {evaluation.head}, each "
        f"trained without the {unseen.by}s that it predicts ({score}), contradict them"
    )


def target_issue_text(issue: TargetIssue, kind: str) -> str:
    """Return what is in doubt: "has meat (1.2 %)", "lacks cheese (97.8 %)", "brightness is 0.9, looks like 0.31".

    Args:
        issue: it.
        kind: LABELS or VALUE.
    """
    name = printable(issue.name)
    if kind == LABELS:
        return f"{'has' if issue.given else 'lacks'} {name} ({percent(issue.answer)})"
    return f"{name} is {issue.given:.6g}, looks like {issue.answer:.4g}"


def target_issues_key(found: TargetIssues) -> str:
    """Return how an issue is to be read.

    Args:
        found: the issues.
    """
    if found.kind == LABELS:
        return "in brackets: how likely the label is, by the heads; it may be right all the same: look at the image"
    return "a number in doubt may be right: look at the image before you change it"


def save_target_issues_csv(found: TargetIssues, path: Path) -> None:
    """Write one row an issue, the most doubtful first: path, label (or number), given, what heads say, clip, subject.

    Of labels `given` is 1 or 0, and `probability` follows; of numbers it is the number, and `predicted` follows. The
    last column is the fold.

    Args:
        found: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    is_labels = found.kind == LABELS
    header = ("path", _noun(found), "given", "probability" if is_labels else "predicted", "clip", "subject", "fold")
    rows = (
        (
            disarm_formula(issue.path), disarm_formula(issue.name), int(issue.given) if is_labels else issue.given,
            issue.answer, disarm_formula(issue.clip), disarm_formula(issue.subject), issue.fold,
        )
        for issue in found.issues
    )  # fmt: skip
    save_rows(header, rows, path)


def _noun(found: TargetIssues) -> str:
    return "label" if found.kind == LABELS else "number"


def _summary(found: TargetIssues) -> RenderableType:
    title = Text(f"{_noun(found)}s in doubt", style="bold")
    left = left_out_sentence(found.validation.unseen)
    notes = [Text(target_issues_key(found), style="dim")] * bool(found.issues) + [Text(left, style="dim")] * bool(left)
    return Group(title, Text(target_issues_sentence(found)), *notes)


def _list(found: TargetIssues, width: int) -> list[RenderableType]:
    """Return two lines for each of the most doubtful ones: the image; what it is called, and what heads say."""
    lines = []
    for issue in found.issues[:SHOWN]:
        lines.append(Text(f"  {shorten(printable(issue.path), max(LEAST_NAME, width - 2))}"))
        lines.append(Text(f"    {shorten(target_issue_text(issue, found.kind), max(LEAST_NAME, width - 4))}"))
    left = len(found.issues) - SHOWN
    if left > 0:
        lines.append(Text(f"  and {left:,} more; --html FILE shows them, --csv FILE and --json list all", style="dim"))
    return [Group(*lines)] if lines else []
