"""Extracts under the shim, and what must hold after any of them."""

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.files import publishing
from tests.faults.shim import Fault, Shim, lets_pass
from tests.faults.world import World


@contextlib.contextmanager
def shimmed(fault: Fault) -> Iterator[Shim]:
    """publish.py's `os` is the shim."""
    shim, real = Shim(fault), publishing.os
    publishing.os = shim  # type: ignore[assignment]
    try:
        yield shim
    finally:
        publishing.os = real


def attempt(world: World, fault: Fault, **options) -> tuple[FeatcacheError | None, Shim]:
    """An extract under a fault; whatever is no error of ours is a failure of the test."""
    with shimmed(fault) as shim:
        try:
            world.extract(**options)
        except FeatcacheError as error:
            return error, shim
    return None, shim


STAT_LOG_CALLS = 3 * 3  # open, write and close, for each of three shards at the most


def steps_of(small: World, cache: Path) -> int:
    """How many calls an undisturbed extract makes."""
    _, shim = attempt(small.at(cache), lets_pass)
    shutil.rmtree(cache)
    assert len(shim.calls) > 60
    return len(shim.calls)


def holds_up(small: World, world: World, before: dict[bytes, bytes]) -> None:
    """What must hold after any fault; then the run is taken up again and ends as the undisturbed one."""
    truth = small.committed()
    now = world.committed() if world.cache.is_dir() else {}
    assert before.items() <= now.items(), "a committed row was lost or changed"
    assert now.items() <= truth.items(), "a row that no undisturbed run gives"
    assert world.verify() == []
    world.complete()


def offset(seed: object, stride: int) -> int:
    """Where a run of every `stride`-th step begins: each kind of fault at steps of its own."""
    return random.Random(str(seed)).randrange(1, stride + 1)
