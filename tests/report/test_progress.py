"""Progress: live on a terminal, sparse where nobody watches, silent when asked."""

import io

import pytest
from rich.console import Console

from featcache.report.progress import Pace, ProgressBar, time_left


def test_a_terminal_shows_what_is_done_and_what_is_left() -> None:
    """On a terminal the bar carries the work's name, the counts and the detail, in one line of 80 columns."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with ProgressBar(console) as bar:
        bar.show("train", 64, 259_865, "812.4 images/s  5 min left")
        bar.show("train", 128, 259_865, "812.4 images/s  5 min left")
        console.print("", end="")  # the live part is drawn again before anything else
    shown = screen.getvalue()
    for part in ("train", "128/259,865", "812.4 images/s", "5 min left"):
        assert part in shown


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is a file, progress is a plain line every fifteen seconds, and no control character."""
    clock = iter([0.0, 1.0, 16.0, 16.0, 17.0])
    monkeypatch.setattr("featcache.report.progress.time.monotonic", lambda: next(clock))
    log = io.StringIO()
    with ProgressBar(Console(file=log, force_terminal=False, width=200)) as bar:
        for done in (1, 2, 3):
            bar.show("train", done, 4, "2.0 images/s")
    assert log.getvalue() == "train: 2 of 4  2.0 images/s\n"


@pytest.mark.parametrize(
    ("done", "seconds", "words"),
    [(0, 3.0, ""), (50, 30.0, "30 s left"), (1, 60.0, "1.6 h left"), (1, 40.0, "66 min left"), (1, 90.0, "2.5 h left")],
)
def test_the_time_left_follows_the_pace(done: int, seconds: float, words: str) -> None:
    """The time left is what the rest takes at the pace so far; without a pace nothing is claimed."""
    assert time_left(done, 100, seconds) == words


def test_start_up_is_no_pace() -> None:
    """A run whose first batch came after a minute does not claim an hour: the time left is at the pace since then."""
    pace = Pace()
    assert [pace.time_left("train", done, 490, seconds) for done, seconds in ((2, 58.0), (66, 60.0))] == ["", ""]
    assert pace.time_left("train", 246, 490, 63.0) == "5 s left"
    assert pace.time_left("val", 10, 100, 30.0) == ""
