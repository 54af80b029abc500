"""Ctrl-C and a batch system's end, put off until the step that is being made is whole and written down."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interruption:
    """Which signal has asked for the end. A second one does not wait."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def is_requested(self) -> bool:
        """Return whether an end was asked for."""
        return self.number is not None

    def listen(self) -> None:
        """Put signals off from here on; elsewhere than in the main thread, where there are none, nothing is done."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, self._note):
                    self._before.setdefault(number, handler)
                    signal.signal(number, self._note)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Return a context in which signals wait; where one came, its own handler is called at the end."""
        try:
            self.listen()
            yield
        finally:
            self._restore()
            if self.number is not None:
                self._deliver(self.number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            return
        self._restore()  # the second one: now
        self.number = None
        self._deliver(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            with contextlib.suppress(ValueError):
                signal.signal(number, handler)

    def _deliver(self, number: int) -> None:
        """Do what the signal would have done at once."""
        handler = self._before.get(number, signal.SIG_DFL)
        if callable(handler):
            handler(number, None)
        else:
            signal.raise_signal(number)
