"""Threads that work on the same steps, each on its slice of a batch.

torch's own threads meet at the end of every operation. A crew's meet where `kernels` lets them, and here between two
tasks, some hundred steps each: a member looks for the next one for a while before it lies down.
"""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from featcache.heads.instructions import count_to, reached

LOOKS = 100_000  # some 200 us
LINE = 8  # int64s of a cache line: no two members write to the same


class Crew:
    """`run(task)` does task(0), task(1), …, one for each member, at once; the caller is member 0.

    While there is a crew, BLAS multiplies on the thread that asks it to.
    """

    def __init__(self, members: int) -> None:
        self.members = members
        self.meeting: npt.NDArray[np.int64] = np.zeros((members, LINE), np.int64)  # for the kernels
        self.counts: npt.NDArray[np.int64] = np.zeros((members, LINE), np.int64)  # 0: tasks begun; others: ended
        self.begun = 0
        self.task: Callable[[int], None] | None = None
        self.error: BaseException | None = None
        self.changed, self.asleep = threading.Condition(), 0
        self.limits = threadpool_limits(1, user_api="blas")
        self.others = [
            threading.Thread(target=self._work, args=(member,), name=f"crew {member}", daemon=True)
            for member in range(1, members)
        ]
        for thread in self.others:
            thread.start()

    def run(self, task: Callable[[int], None]) -> None:
        """Return when every member is through with it.

        Raises:
            BaseException: what a member's task raised; the caller's own comes first.
        """
        self._begin(task)
        try:
            task(0)
        finally:
            for member in range(1, self.members):
                self._wait(member, self.begun)
            error, self.error = self.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Send the others home, and let BLAS have its threads again."""
        self._begin(None)
        for thread in self.others:
            thread.join()
        self.limits.restore_original_limits()

    def _begin(self, task: Callable[[int], None] | None) -> None:
        self.task = task
        self.begun += 1
        self._count(0, self.begun)

    def _work(self, member: int) -> None:
        begun = 0
        while True:
            begun += 1
            self._wait(0, begun)
            if self.task is None:
                return
            try:
                self.task(member)
            except BaseException as error:  # the caller's to raise
                self.error = error
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
