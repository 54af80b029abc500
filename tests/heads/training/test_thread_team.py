"""A team does what it is asked for, once by each member, and ends."""

import threading
import time

import pytest
from threadpoolctl import threadpool_info

from featcache.heads.training.kernels.intrinsics import barrier
from featcache.heads.training.kernels.thread_team import ThreadTeam


@pytest.fixture(params=[1, 2, 5])
def team(request):
    with ThreadTeam(request.param) as team:
        yield team
    assert not any(thread.name.startswith("thread team") for thread in threading.enumerate())


def test_each_member_once(team):
    """Every task is done once by each member, the caller's share by the caller, and all of it before `run` returns."""
    for _ in range(200):
        done = []
        team.run(lambda member, done=done: done.append((member, threading.get_ident())))
        assert sorted(member for member, _ in done) == list(range(team.members))
        assert len({thread for _, thread in done}) == team.members
        assert (0, threading.get_ident()) in done


def test_members_that_lay_down(team, monkeypatch):
    """Who waited too long to stay awake is woken: by a task that comes late, and by a member that is late."""
    monkeypatch.setattr("featcache.heads.training.kernels.thread_team.SPINS_BEFORE_SLEEP", 1)
    for late in range(team.members):
        done = []

        def task(member, late=late, done=done):
            time.sleep(0.02 * (member == late))
            done.append(member)

        time.sleep(0.02)
        team.run(task)
        assert sorted(done) == list(range(team.members))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_member_raises(team, error):
    """It is raised by `run`, once, when all are through; the next task is done as ever."""
    ended = []

    def task(member):
        if member == team.members - 1:
            raise error("of one")
        time.sleep(0.01)
        ended.append(member)

    with pytest.raises(error, match="of one"):
        team.run(task)
    assert sorted(ended) == list(range(team.members - 1))
    team.run(ended.append)
    assert len(ended) == 2 * team.members - 1


def test_the_callers_error_comes_first():
    """Where both fail, the caller's own error is raised, and the other's is not kept for the next task."""

    def task(member):
        raise ValueError(str(member))

    with ThreadTeam(2) as team:
        with pytest.raises(ValueError, match="0"):
            team.run(task)
        team.run(lambda member: None)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_nobody_waits_for_a_member_that_failed(late):
    """Where one raises on its way to a meeting, the others pass it, and the next task's members meet again."""

    def task(member, fails=True):
        if fails and member == late:
            raise MemoryError
        for count in (1, 2, 3):
            barrier(team.barrier_counts, member, count)

    with ThreadTeam(3) as team:
        with pytest.raises(MemoryError):
            team.run(task)
        team.run(lambda member: task(member, fails=False))
        assert team.barrier_counts[:, 0].tolist() == [3, 3, 3]


def test_closed_twice(team):
    """The second time nothing is left to do."""
    team.run(lambda member: None)
    team.__exit__()
    team.__exit__()


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_while_a_task_runs():
    """From whichever thread, and with teams of several threads at once; afterwards BLAS has what it had before."""
    before, seen = blas_threads(), []

    def train():
        with ThreadTeam(2) as team:
            for _ in range(20):
                team.run(lambda member: seen.append(max(blas_threads())) if member == 0 else None)

    train()
    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80
    assert blas_threads() == before
