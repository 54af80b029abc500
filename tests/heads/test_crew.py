"""A crew does what it is asked for, once by each member, and goes home."""

import threading
import time

import pytest

from featcache.heads.crew import Crew


@pytest.fixture(params=[1, 2, 5])
def crew(request):
    crew = Crew(request.param)
    yield crew
    crew.close()
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
    monkeypatch.setattr("featcache.heads.crew.LOOKS", 1)
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
    crew = Crew(2)

    def task(member):
        raise ValueError(str(member))

    with pytest.raises(ValueError, match="0"):
        crew.run(task)
    crew.run(lambda member: None)
    crew.close()
