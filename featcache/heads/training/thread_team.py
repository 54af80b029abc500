"""Threads that work on the same steps, each on its slice of a batch.

torch's own threads meet at the end of every operation. A crew's meet where `kernels` lets them, and here between two
tasks, some hundred steps each: a member looks for the next one for a while before it lies down.
"""

import threading
from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from featcache.heads.training.intrinsics import count_to, reached, ready

LOOKS = 100_000  # some 200 us
LINE = 8  # int64s of a cache line: no two members write to the same
GONE = 2**62  # further than any member has to come
ONE_AT_A_TIME = threading.Lock()  # a crew takes every core, and BLAS has one limit for all of the process


class Crew:
    """Within `with`, `run(task)` does task(0), task(1), …, one for each member, at once; the caller is member 0.

    A task may let the members meet over `meeting`. While it runs BLAS multiplies on the thread that asks it to, and the
    crews of other threads wait.
    """

    def __init__(self, members: int) -> None:
        self.members = members
        self.meeting: npt.NDArray[np.int64] = np.zeros((members, LINE), np.int64)  # for the kernels
        self.counts: npt.NDArray[np.int64] = np.zeros((members, LINE), np.int64)  # 0: tasks begun; others: ended
        self.begun = 0
        self.task: Callable[[int], None] | None = None
        self.error: BaseException | None = None
        self.changed, self.asleep = threading.Condition(), 0
        ready(reached, self.counts, 0, 0, 1)
        ready(count_to, self.counts, 0, 0)
        self.blas = ThreadpoolController()
        self.others: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Call the others in."""
        for member in range(1, self.members):
            thread = threading.Thread(target=self._work, args=(member,), name=f"crew {member}", daemon=True)
            self.others.append(thread)
            thread.start()
        return self

    def run(self, task: Callable[[int], None]) -> None:
        """Return when every member is through with it.

        Raises:
            BaseException: what a member's task raised; the caller's own comes first.
        """
        with ONE_AT_A_TIME, self.blas.limit(limits=1, user_api="blas"):
            self.task = task
            self.begun += 1
            try:
                self._count(0, self.begun)
                task(0)
            except BaseException:
                count_to(self.meeting, 0, GONE)  # nobody waits for the caller
                raise
            finally:
                self._count(0, self.begun)  # where an interrupt came first: who was not called would not come back
                for member in range(1, self.members):
                    self._wait(member, self.begun)
                if (self.meeting == GONE).any():
                    self.meeting[:] = 0
                error, self.error = self.error, None
            if error is not None:
                raise error

    def __exit__(self, *why: object) -> None:
        """Send the others home. A second time it does nothing."""
        self.task = None
        self.begun += 1
        self._count(0, self.begun)
        while self.others:
            self.others[-1].join()
            self.others.pop()

    def _work(self, member: int) -> None:
        begun = 0
        while True:
            begun += 1
            self._wait(0, begun)
            task = self.task
            if task is None:
                return
            try:
                task(member)
            except BaseException as error:  # the caller's to raise
                self.error = error
                count_to(self.meeting, member, GONE)
            self._count(member, begun)

    def _wait(self, member: int, count: int) -> None:
        if reached(self.counts, member, count, LOOKS):
            return
        with self.changed:
            self.asleep += 1
            try:
                self.changed.wait_for(lambda: bool(self.counts[member, 0] >= count))
            finally:
                self.asleep -= 1

    def _count(self, member: int, count: int) -> None:
        """Whoever lies down says so before the last look, and this is written before it is asked: no one is missed."""
        count_to(self.counts, member, count)
        if self.asleep:
            with self.changed:
                self.changed.notify_all()
