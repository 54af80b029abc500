"""Progress on stderr: a live bar on a terminal, a line now and then where stderr is a file."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 15.0  # between lines where nobody watches
_PACE_SECONDS = 5.0  # after the first batch, before a pace is believed


class ProgressBar:
    """A bar for a long piece of work; `show` may be called as often as one likes."""

    def __init__(self, console: Console) -> None:
        """Prepare a bar, which is drawn while the block of its `with` runs.

        Args:
            console: Where it is drawn; on one that is no terminal a line is printed now and then.
        """
        self._console = console
        self._live = None if not console.is_terminal else _columns(console)
        self._task: TaskID | None = None
        self._stage: str | None = None
        self._printed = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show how far the work is.

        Args:
            stage: what is done, in words; another one starts a bar and a clock of its own.
            done: how much of it.
            total: of how much.
            detail: what a person wants to know beside the bar: the rate, the time left.
        """
        if self._live is not None:
            if stage != self._stage:  # another split, another stage: a bar and a clock of its own
                if self._task is not None:
                    self._live.remove_task(self._task)
                self._stage = stage
                self._task = self._live.add_task(stage, total=total, detail=detail)
            assert self._task is not None  # noqa: S101 (added above)
            self._live.update(self._task, completed=done, total=max(total, 1), detail=detail)
        elif time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            self._console.print(f"{stage}: {done:,} of {total:,}  {detail}", highlight=False)


def time_left(done: int, total: int, seconds: float) -> str:
    """Return the time that is left at the pace so far, in words; "" before there is a pace.

    Args:
        done: how much is done.
        total: of how much.
        seconds: that it took.
    """
    if not done or seconds <= 0:
        return ""
    rest = (total - done) * seconds / done
    if rest < 90:
        return f"{rest:.0f} s left"
    return f"{rest / 60:.0f} min left" if rest < 5400 else f"{rest / 3600:.1f} h left"


class Pace:
    """The pace of each stage since its first batch: what comes before is start-up, which the rest does not repeat."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}  # (done, seconds) after the first batch

    def time_left(self, stage: str, done: int, total: int, seconds: float) -> str:
        """Return the time that is left, in words; "" in the first five seconds after the first batch.

        Args:
            stage: What is done; each has a pace of its own.
            done: How much is done, of the first batch at least.
            total: Of how much.
            seconds: Since the stage began.
        """
        first, begun = self._first.setdefault(stage, (done, seconds))
        return "" if seconds - begun < _PACE_SECONDS else time_left(done - first, total - first, seconds - begun)


def _columns(console: Console) -> Progress:
    """Return the live bar: what is done, how much of it, the time so far, and the detail."""
    text = TextColumn("{task.description}", markup=False)
    counts = TextColumn("{task.completed:,.0f}/{task.total:,.0f}")
    detail = TextColumn("{task.fields[detail]}", markup=False)
    return Progress(text, BarColumn(), counts, TimeElapsedColumn(), detail, console=console, transient=True)
