"""Any sequence of extract, kill, edit, rename, re-label, remove, damage, verify, repair and gc, against a simple model.

The model knows which image files stand where and what each picture's embedding is. What `load` returns is always what
the model says of the last complete extract, or an error; after repair and extract it is what the model says of now.
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from PIL import Image

import featcache
from featcache import FeatcacheError
from featcache.files import StatLog
from featcache.store import commits, find_stores
from tests.faults.attempts import shimmed
from tests.faults.shim import Real
from tests.faults.world import World, litter, overwrite

PICTURES = 8
names = st.sampled_from("abcdefgh")
pictures = st.integers(0, PICTURES - 1)
classes = st.sampled_from(["0", "1"])
shares = st.floats(0, 1, exclude_max=True)
Model = dict[str, int]  # path -> picture


class Dead(BaseException):
    """SIGKILL, as far as the disk can tell: nothing is written any more, not even by whoever cleans up."""


class Dies:
    """Call `at` is the last that changes anything."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        if number < self.at or name == "close":
            return real()
        raise Dead


class Machine(RuleBasedStateMachine):
    """One cache, and what it should hold."""

    weights: ClassVar[Path]
    bytes_of: ClassVar[list[bytes]]  # of each picture's file
    row_of: ClassVar[list[bytes]]  # of each picture's embedding
    done: ClassVar[Counter[str]]
    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.here = Path(tempfile.mkdtemp(prefix="featcache-machine-"))
        self.world = World(self.here / "digits", self.here / "cache", self.weights)
        for name in ("0", "1"):
            (self.world.images / "train" / name).mkdir(parents=True)
        self.now: Model = {}
        self.recorded: list[Model] = []  # listings of which one is committed; none: nothing was extracted yet
        self.damaged = False  # since the last repair; verify must name it
        self.lacking = False  # repair has taken something out, and no extract has put it back

    def teardown(self) -> None:
        shutil.rmtree(self.here)

    def put(self, path: str, picture: int) -> None:
        (self.world.images / path).write_bytes(self.bytes_of[picture])
        self.now[path] = picture

    @initialize()
    def begin(self) -> None:
        for picture in range(3):
            self.put(f"train/{picture % 2}/{picture}.png", picture)

    # --- the images ---------------------------------------------------------------------------------------------------

    @rule(name=names, label=classes, picture=pictures)
    def add_or_edit(self, name: str, label: str, picture: int) -> None:
        self.put(f"train/{label}/{name}.png", picture)
        self.done["an image added or edited"] += 1

    @rule(data=st.data(), picture=pictures)
    def edit_without_a_trace(self, data: st.DataObject, picture: int) -> None:
        """Same mtime as before."""
        path = data.draw(st.sampled_from(sorted(self.now)))
        before = (self.world.images / path).stat()
        self.put(path, picture)
        os.utime(self.world.images / path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.done["an image edited, its mtime put back"] += 1

    @rule(data=st.data(), name=names, label=classes)
    def rename_or_relabel(self, data: st.DataObject, name: str, label: str) -> None:
        path, new = data.draw(st.sampled_from(sorted(self.now))), f"train/{label}/{name}.png"
        if path != new:
            (self.world.images / path).rename(self.world.images / new)
            self.now[new] = self.now.pop(path)
            self.done["an image renamed or re-labelled"] += 1

    @precondition(lambda self: len(self.now) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.now)))
        (self.world.images / path).unlink()
        del self.now[path]
        self.done["an image removed"] += 1

    # --- extract ------------------------------------------------------------------------------------------------------

    @rule()
    def extract(self) -> None:
        try:
            summary = self.world.extract()[0]
        except FeatcacheError:
            assert self.damaged, "a sound cache was refused"
            self.done["extract refused a damaged cache"] += 1
            return
        self.recorded, self.lacking = [dict(self.now)], False
        assert summary.rows == len(self.now)
        assert summary.failed == 0
        self.damaged = bool(self.world.verify())
        assert litter(self.world.store) == []
        self.done["extract"] += 1

    @rule(at=st.integers(1, 90))
    def extract_and_die(self, at: int) -> None:
        try:
            with shimmed(Dies(at)):
                self.world.extract()
        except Dead:
            self.recorded = [*self.recorded, dict(self.now)] if self.recorded else []
            if not self.recorded and self.loads() is not None:
                self.recorded = [dict(self.now)]
            self.done["extract killed"] += 1
        except FeatcacheError:
            assert self.damaged
        else:
            self.recorded, self.lacking = [dict(self.now)], False
            self.damaged = bool(self.world.verify())
            self.done["extract"] += 1

    # --- the cache ----------------------------------------------------------------------------------------------------

    def committed_files(self) -> list[Path]:
        """Files that matter: those that a reader would open."""
        found = []
        for store in find_stores(self.world.cache, StatLog(self.world.cache)):
            if not (store.shards or store.listings):  # a run died while it made this store: there is nothing to lose
                continue
            found += [store.root / "trunk.json", store.root / commits.LOG_NAME]
            found += [store.shard_folder / part.name for part in store.shards]
            found += [self.world.cache / "listings" / line.file for line in store.listings.values()]
        return [path for path in found if path.is_file() and path.stat().st_size]

    # Which file, and where in it, are drawn as shares: the sizes of files differ from run to run.

    @precondition(lambda self: not self.damaged and self.committed_files())
    @rule(which=shares, place=shares, bit=st.integers(0, 7), how=st.sampled_from(["a bit", "cut", "gone"]))
    def damage(self, which: float, place: float, bit: int, how: str) -> None:
        files = sorted(self.committed_files())
        path = files[int(which * len(files))]
        content = bytearray(path.read_bytes())
        if how == "gone":
            path.unlink()
        elif (
            how == "cut" and path.name != commits.LOG_NAME
        ):  # a log cut short looks as after a crash: noted, no problem
            overwrite(path, bytes(content[: int(place * len(content))]))
        else:
            how = "a bit"
            content[int(place * len(content))] ^= 1 << bit
            overwrite(path, bytes(content))
        assert self.world.verify(), f"{how}: {path} was not named"
        self.damaged = True
        self.done[f"damage: {how}"] += 1

    @rule(name=st.sampled_from(["stat.log", "weights.json"]), place=shares, bit=st.integers(0, 7))
    def damage_a_memory(self, name: str, place: float, bit: int) -> None:
        """Harmless: what is remembered there is found out once more."""
        path = self.world.cache / name
        if path.exists() and path.stat().st_size:
            content = bytearray(path.read_bytes())
            content[int(place * len(content))] ^= 1 << bit
            overwrite(path, bytes(content))
            self.done["damage of a memory"] += 1

    @precondition(lambda self: self.world.cache.is_dir())
    @rule()
    def repair(self) -> None:
        featcache.repair(cache=self.world.cache)
        problems = self.world.verify()
        assert {problem.kind for problem in problems} <= {"rows"}, problems
        self.lacking = self.lacking or self.damaged
        self.damaged = False
        self.done["repair"] += 1

    @precondition(lambda self: self.world.cache.is_dir())
    @rule(everything=st.booleans())
    def gc(self, everything: bool) -> None:
        try:
            featcache.gc(cache=self.world.cache, apply=True, everything=everything)
        except FeatcacheError:
            assert self.damaged
        self.done["gc"] += 1

    # --- what must hold -----------------------------------------------------------------------------------------------

    def loads(self) -> featcache.Features | None:
        try:
            return self.world.load()
        except FeatcacheError:
            return None

    @invariant()
    def what_is_loaded_is_right_or_an_error(self) -> None:
        features = self.loads()
        if features is None:
            assert self.damaged or self.lacking or not self.recorded
            return
        found = {
            path: (features.classes[label], row.tobytes())
            for path, label, row in zip(features.paths, features.y, features.x, strict=True)
        }
        assert found in [
            {path: (path.split("/")[1], self.row_of[picture]) for path, picture in model.items()}
            for model in self.recorded
        ]

    @invariant()
    def a_sound_cache_is_called_sound(self) -> None:
        if not self.damaged and self.world.cache.is_dir():
            assert {problem.kind for problem in self.world.verify()} <= ({"rows"} if self.lacking else set())


@pytest.mark.fault
def test_any_sequence_of_events(nano, tmp_path, portion, steps):
    """Hypothesis finds no sequence after which a row is wrong, lost without a word, or a sound cache refused."""
    (tmp_path / "digits" / "train" / "0").mkdir(parents=True)
    Machine.weights, Machine.done, Machine.bytes_of = nano.weights, Counter(), []
    for picture in range(PICTURES):
        path = tmp_path / "digits" / "train" / "0" / f"{picture}.png"
        pixels = np.random.default_rng(picture).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        Machine.bytes_of.append(path.read_bytes())
    reference = World(tmp_path / "digits", tmp_path / "cache", nano.weights)
    reference.extract()
    Machine.row_of = [row.tobytes() for row in reference.load().x]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=portion(40, 5), stateful_step_count=portion(20, 12), deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck), derandomize=portion(1, 0) == 0, database=None,
        ),
    )  # fmt: skip
    assert Machine.done["extract"] > 0
    steps.update(Machine.done)


pytestmark = pytest.mark.timeout(1500)
