"""Threads that work on the same steps, each on its slice of a batch.

torch's own threads meet at the end of every operation. A team's meet where `steps` lets them, and here between two
tasks, some hundred steps each: a member looks for the next one for a while before it goes to sleep.
"""

import threading
from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from featcache.heads.training.kernels.intrinsics import precompile, signal, wait_until
from featcache.machine import single_blas_thread

SPINS_BEFORE_SLEEP = 100_000  # some 200 us
COUNTS_PER_CACHE_LINE = 8  # int64s: no two members write to the same
PAST_EVERY_BARRIER = 2**62
ONE_AT_A_TIME = threading.Lock()  # a team takes every core


class ThreadTeam:
    """Within `with`, `run(task)` does task(0), task(1), …, one for each member, at once; the caller is member 0.

    A task may let the members meet at `barrier_counts`. While it runs BLAS multiplies on the thread that asks it to,
    and the teams of other threads wait.

    Attributes:
        members: how many threads there are, the caller's included.
        barrier_counts: (members, a cache line) int64, for the kernels' barrier.
    """

    def __init__(self, members: int) -> None:
        """Prepare a team, which starts with the block of its `with`.

        Args:
            members: How many threads there are, the caller's included.
        """
        self.members = members
        self.barrier_counts: npt.NDArray[np.int64] = np.zeros((members, COUNTS_PER_CACHE_LINE), np.int64)
        # Of member 0 the tasks begun, of the others those ended.
        self._progress: npt.NDArray[np.int64] = np.zeros((members, COUNTS_PER_CACHE_LINE), np.int64)
        self._tasks_begun = 0
        self._task: Callable[[int], None] | None = None
        self._error: BaseException | None = None
        self._changed, self._asleep = threading.Condition(), 0
        precompile(wait_until, self._progress, 0, 0, 1)
        precompile(signal, self._progress, 0, 0)
        self._blas = ThreadpoolController()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start the other members."""
        for member in range(1, self.members):
            thread = threading.Thread(target=self._work, args=(member,), name=f"thread team {member}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def run(self, task: Callable[[int], None]) -> None:
        """Have every member do a task, and return when all are through with it.

        Args:
            task: Called with the member's number, 0 to members - 1; what it returns is dropped.

        Raises:
            BaseException: what a member's task raised; the caller's own comes first.
        """
        with ONE_AT_A_TIME, single_blas_thread(self._blas):
            self._task = task
            self._tasks_begun += 1
            try:
                self._signal(0, self._tasks_begun)
                task(0)
            except BaseException:
                signal(self.barrier_counts, 0, PAST_EVERY_BARRIER)  # nobody waits for the caller
                raise
            finally:
                # Where an interrupt came before the first signal: who was not called would never come back.
                self._signal(0, self._tasks_begun)
                for member in range(1, self.members):
                    self._wait(member, self._tasks_begun)
                if (self.barrier_counts == PAST_EVERY_BARRIER).any():
                    self.barrier_counts[:] = 0
                error, self._error = self._error, None
            if error is not None:
                raise error

    def __exit__(self, *why: object) -> None:
        """Let the other members end. A second time it does nothing."""
        self._task = None
        self._tasks_begun += 1
        self._signal(0, self._tasks_begun)
        while self._threads:
            self._threads[-1].join()
            self._threads.pop()

    def _work(self, member: int) -> None:
        """Do task after task, until there is none."""
        tasks_done = 0
        while True:
            self._wait(0, tasks_done + 1)
            task = self._task
            if task is None:
                return
            try:
                task(member)
            except BaseException as error:  # the caller's to raise
                self._error = error
                signal(self.barrier_counts, member, PAST_EVERY_BARRIER)
            tasks_done += 1
            self._signal(member, tasks_done)

    def _wait(self, member: int, count: int) -> None:
        """Wait until a member came to `count`: awake for a while, then asleep."""
        if wait_until(self._progress, member, count, SPINS_BEFORE_SLEEP):
            return
        with self._changed:
            self._asleep += 1
            try:
                self._changed.wait_for(lambda: bool(self._progress[member, 0] >= count))
            finally:
                self._asleep -= 1

    def _signal(self, member: int, count: int) -> None:
        """Say that a member came to `count`, and wake whoever sleeps.

        Whoever goes to sleep says so before the last look, and this is written before it is asked: no one is missed.
        """
        signal(self._progress, member, count)
        if self._asleep:
            with self._changed:
                self._changed.notify_all()
