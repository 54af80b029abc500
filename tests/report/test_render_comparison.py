"""The table of compared heads: its columns, and what stands under it."""

import io
from dataclasses import replace

from rich.console import Console

from featcache.evaluation import ComparedHead, Comparison
from featcache.report.render_comparison import comparison_parts

HEAD = ComparedHead(
    name="lr0.1", number=1, given_name="", classifier="linear", settings="lr=0.1", split="val", scores=None,
    gap=float("nan"), seconds=0.1, at=0, store="vit-cls-1", features="cls", order=(0.0, 0.0),
)  # fmt: skip


def shown(*heads: ComparedHead) -> str:
    text = io.StringIO()
    console = Console(file=text, width=200)
    for part in comparison_parts(Comparison(data_set="digits", variant="", heads=heads, notes=()), 200):
        console.print(part)
    return text.getvalue()


def test_the_store_is_named_where_the_features_do_not_tell_it() -> None:
    """Heads of two layers need no store; two stores of one layer do."""
    other = replace(HEAD, number=2, store="vit-mean-2", features="mean")
    assert "vit-mean-2" not in shown(HEAD, other)
    assert "vit-cls-2" in shown(HEAD, other, replace(HEAD, number=3, store="vit-cls-2"))


def test_the_seconds_are_explained() -> None:
    """Under the table it says of what the seconds are."""
    assert "seconds: of the run that made the head, divided by its heads" in shown(HEAD)
