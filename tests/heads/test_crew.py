"""A crew does what it is asked for, once by each member, and goes home."""

import threading
import time

import pytest
from threadpoolctl import threadpool_info

from featcache.heads.training.intrinsics import meet
from featcache.heads.training.thread_team import Crew


@pytest.fixture(params=[1, 2, 5])
def crew(request):
    with Crew(request.param) as crew:
        yield crew
    assert not any(thread.name.startswith("crew") for thread in threading.enumerate())


def test_each_member_once(crew):
    """Every task is done once by each member, the caller's share by the caller, and all of it before `run` returns."""
    for _ in range(200):
        done = []
        crew.run(lambda member, done=done: done.append((member, threading.get_ident())))
        assert sorted(member for member, _ in done) == list(range(crew.members))
        assert len({thread for _, thread in done}) == crew.members
        assert (0, threading.get_ident()) in done


def test_members_that_lay_down(crew, monkeypatch):
    """Who waited too long to stay awake is woken: by a task that comes late, and by a member that is late."""
    monkeypatch.setattr("featcache.heads.training.thread_team.LOOKS", 1)
    for late in range(crew.members):
        done = []

        def task(member, late=late, done=done):
            time.sleep(0.02 * (member == late))
            done.append(member)

        time.sleep(0.02)
        crew.run(task)
        assert sorted(done) == list(range(crew.members))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_member_raises(crew, error):
    """It is raised by `run`, once, when all are through; the next task is done as ever."""
    ended = []

    def task(member):
        if member == crew.members - 1:
            raise error("of one")
        time.sleep(0.01)
        ended.append(member)

    with pytest.raises(error, match="of one"):
        crew.run(task)
    assert sorted(ended) == list(range(crew.members - 1))
    crew.run(ended.append)
    assert len(ended) == 2 * crew.members - 1


def test_the_callers_error_comes_first():
    """Where both fail, the caller's own error is raised, and the other's is not kept for the next task."""

    def task(member):
        raise ValueError(str(member))

    with Crew(2) as crew:
        with pytest.raises(ValueError, match="0"):
            crew.run(task)
        crew.run(lambda member: None)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_nobody_waits_for_a_member_that_failed(late):
    """Where one raises on its way to a meeting, the others pass it, and the next task's members meet again."""

    def task(member, fails=True):
        if fails and member == late:
            raise MemoryError
        for count in (1, 2, 3):
            meet(crew.meeting, member, count)

    with Crew(3) as crew:
        with pytest.raises(MemoryError):
            crew.run(task)
        crew.run(lambda member: task(member, fails=False))
        assert crew.meeting[:, 0].tolist() == [3, 3, 3]


def test_closed_twice(crew):
    """The second time nothing is left to do."""
    crew.run(lambda member: None)
    crew.__exit__()
    crew.__exit__()


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_while_a_task_runs():
    """From whichever thread, and with crews of several threads at once; afterwards BLAS has what it had before."""
    before, seen = blas_threads(), []

    def train():
        with Crew(2) as crew:
            for _ in range(20):
                crew.run(lambda member: seen.append(max(blas_threads())) if member == 0 else None)

    train()
    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80
    assert blas_threads() == before
