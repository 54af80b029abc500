"""StoreWriter: what is committed and when, whatever happens to it."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featcache.errors import CacheError, DataError, FeatcacheError, MachineError
from featcache.files import publishing as publish
from featcache.files.sealed import seal_line
from featcache.files.stat_log import StatLog
from featcache.store import commits
from featcache.store.catalog import find_stores
from featcache.store.writer import find_storable
from tests.builders import new_store, trunk_spec
from tests.store.rows import DIM, KEY, again, an_extract, digests_of, embeddings_of, put


def test_a_shard_is_committed_when_it_is_full_or_old(tmp_path):
    """`shard_rows` bounds the rows and `shard_seconds` the work that a kill can cost."""
    with new_store(tmp_path).writer(shard_rows=3) as writer:
        assert [writer.append(digests_of([n]), embeddings_of([n])) for n in range(7)] == [False, False, True] * 2 + [
            False
        ]
    with new_store(tmp_path).writer(shard_seconds=0.05) as writer:
        assert not writer.append(digests_of([10]), embeddings_of([10]))
        time.sleep(0.06)
        assert writer.append(digests_of([11]), embeddings_of([11]))
        assert not writer.append(digests_of([12]), embeddings_of([12]))  # a new shard's minute begins


def test_a_writer_reads_the_log_once_and_again_where_somebody_else_wrote(tmp_path, monkeypatch):
    """A run of many shards costs what its shards cost; numbers go on from what stands there."""
    with new_store(tmp_path).writer(shard_rows=1) as writer:
        reads, read = [], commits.CommitLog.read
        monkeypatch.setattr(commits.CommitLog, "read", lambda self: reads.append(self) or read(self))
        for number in range(5):
            writer.append(digests_of([number]), embeddings_of([number]))
        assert len(reads) == 1
        commits.CommitLog(writer.store.root).drop("00000-00000000.h5")
        writer.append(digests_of([5]), embeddings_of([5]))
        assert len(reads) == 2
    names = [part.name.partition("-")[0] for part in again(new_store(tmp_path)).shards]
    assert names == [f"{number:05d}" for number in range(6)]


def test_a_shard_of_wide_rows_is_committed_before_it_fills_the_memory(tmp_path, monkeypatch):
    """Rows of all tokens of an image are published by their size, long before there are enough of them."""
    rows = embeddings_of([1, 2, 3])
    monkeypatch.setattr("featcache.store.waiting_rows.SHARD_BYTES", 2 * rows[0].nbytes)
    with new_store(tmp_path).writer() as writer:
        assert not writer.append(digests_of([1]), rows[:1])
        assert writer.append(digests_of([2]), rows[1:2])
        assert not writer.append(digests_of([3]), rows[2:])


def test_ctrl_c_while_a_shard_is_published_leaves_its_rows_to_the_next_flush(tmp_path, monkeypatch):
    """What is embedded is published before anything else happens; what the disk refused is not tried again."""
    with new_store(tmp_path).writer() as writer:
        for stopped in (KeyboardInterrupt(), MachineError("full")):  # the second adds no rows to the first's two
            with monkeypatch.context() as patch:

                def stop(*_, stopped=stopped, **__):
                    raise stopped

                patch.setattr("featcache.store.writer.publish", stop)
                writer.append(digests_of([1, 2]), embeddings_of([1, 2]))
                with pytest.raises(type(stopped)):
                    writer.flush()
            writer.flush()
            assert again(writer.store).holds(digests_of([1, 2])).all()
            assert again(writer.store).rows == 2
        with pytest.raises(MachineError, match="full"):  # a line behind one whose fsync failed could outlive it
            writer.append(digests_of([3]), embeddings_of([3]))


def test_where_rows_were_made_is_recorded_once(tmp_path):
    """Versions and hardware stand beside the spec, an entry for each change, and are no part of the identity."""
    store = new_store(tmp_path)
    for made in ({"device": "cpu"}, {"device": "cpu"}, {"device": "cuda"}):
        with store.writer() as writer:
            writer.record_provenance(made)
    found = again(store)
    assert [entry["device"] for entry in found.trunk.provenance] == ["cuda"]  # nothing was made on the others
    store = put(store, [1])
    for made in ({"device": "cuda"}, {"device": "cpu"}, {"device": "cuda"}):
        with store.writer() as writer:
            writer.record_provenance(made)
            writer.append(digests_of([2]), embeddings_of([2]))
            writer.flush()
    found = again(store)
    assert [entry["device"] for entry in found.trunk.provenance] == ["cuda", "cpu"]
    assert [part.made for part in found.shards] == [None, 0, 1, 0]
    assert found.trunk.spec == trunk_spec()
    assert json.loads((store.root / "trunk.json").read_bytes())["format"] == 1


class Shim:
    """Counts the calls that touch the disk; fails call number `fatal`, or every one from there on."""

    def __init__(self, patch: pytest.MonkeyPatch, death: Callable[[], BaseException], fatal: int, *, persistent: bool):
        self.count = 0
        for name in ("open", "write", "fchmod", "fsync", "rename", "ftruncate", "mkdir"):
            patch.setattr(os, name, self.wrap(getattr(os, name), death, fatal, persistent))

    def wrap(self, real, death, fatal, persistent):
        def call(*args, **kwargs):
            self.count += 1
            if self.count == fatal or (persistent and self.count > fatal):
                raise death()
            return real(*args, **kwargs)

        return call


DEATHS = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "Ctrl-C": KeyboardInterrupt,
}


def litter(cache: Path) -> list[Path]:
    return list(cache.rglob("*.partial"))


@pytest.mark.parametrize(("death", "persistent"), [("ENOSPC", False), ("EIO", True), ("Ctrl-C", False)])
def test_a_writer_that_fails_at_any_step_loses_nothing_that_was_committed(tmp_path, monkeypatch, death, persistent):
    """Fail disk call 1, 2, … to the end: what was committed stays, verify is clean, and a second run completes it."""
    template = put(new_store(tmp_path / "template"), [1, 2])
    torn = seal_line({"drop": "x"})[:20]
    publish.append_bytes(template.root / commits.LOG_NAME, torn, sync=False)  # what a crash before this run left
    for fatal in range(1, 200):
        cache = shutil.copytree(tmp_path / "template", tmp_path / str(fatal))
        store = find_stores(cache, StatLog(cache))[0]
        outcome: BaseException | None = None
        with monkeypatch.context() as patch:
            shim = Shim(patch, DEATHS[death], fatal, persistent=persistent)
            try:
                with store.writer() as writer:
                    writer.record_provenance({"device": "cpu"})
                    writer.append(digests_of([3]), embeddings_of([3]))
                    writer.flush()
                    writer.commit(an_extract([1, 3]))
            except BaseException as error:
                outcome = error
        if death != "Ctrl-C" and outcome is not None:
            assert isinstance(outcome, FeatcacheError), (fatal, outcome)
            assert outcome.exit_code in (3, 5)
        after = again(store)
        assert after.load(digests_of([2, 1])).tobytes() == embeddings_of([2, 1]).tobytes()
        assert after.verify() == []
        if death != "Ctrl-C":
            assert litter(cache) == []
        with after.writer() as writer:
            lacking = [number for number in (1, 3) if not writer.store.holds(digests_of([number]))[0]]
            if lacking:
                writer.append(digests_of(lacking), embeddings_of(lacking))
            writer.commit(an_extract([1, 3]))
        last = again(store)
        assert last.verify() == []
        assert last.load(last.listing(KEY).digests).tobytes() == embeddings_of([1, 3]).tobytes()
        if shim.count < fatal:
            break
    assert outcome is None
    assert fatal > 20


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from featcache.files import StatLog
from featcache.store import FeatureStore
store = FeatureStore.open(Path(sys.argv[1]), StatLog(Path(sys.argv[1])))
with store.writer() as writer:
    writer.append(np.full((1, 32), 7, np.uint8), np.ones((1, 5), np.float32))
    writer.flush()
    (store.root / ".trunk.json.00.partial").write_bytes(b"half")
    writer.append(np.full((1, 32), 8, np.uint8), np.ones((1, 5), np.float32))
    os.kill(os.getpid(), 9)
"""


def test_a_writer_that_was_killed_leaves_its_commits_and_a_free_store(tmp_path):
    """SIGKILL with one shard committed, another waiting, a scratch file open: the next writer finds the first alone."""
    store = new_store(tmp_path)
    assert subprocess.run([sys.executable, "-c", KILLED, str(store.root)], check=False).returncode == -9
    with again(store).writer() as writer:
        assert litter(tmp_path) == []
        found = writer.store.holds(np.array([[7] * 32, [8] * 32], dtype=np.uint8))
    assert found.tolist() == [True, False]
    assert again(store).verify() == []


def test_the_second_writer_is_told_and_changes_nothing(tmp_path):
    """Exit class 3 while another holds the store, and not one byte of the log is touched."""
    store = put(new_store(tmp_path), [1])
    with store.writer() as first:
        first.append(digests_of([2]), embeddings_of([2]))
        with pytest.raises(CacheError, match=f"pid {os.getpid()}"), again(store).writer():
            pytest.fail("two writers")
    with store.writer():
        pass
    assert again(store).rows == 1  # a writer that ends without flush or commit commits nothing


@pytest.mark.parametrize(
    ("value", "float32", "float16"),
    [
        (1.0, True, True),
        (65504.0, True, True),
        (65505.0, True, False),
        (-70000.0, True, False),
        (3e38, True, False),
        (np.inf, False, False),
        (-np.inf, False, False),
        (np.nan, False, False),
    ],
)
def test_a_row_is_stored_only_where_every_value_is_finite_and_fits(value, float32, float16):
    """One nan, inf or value beyond float16 in a row refuses that row, and no other."""
    rows = np.zeros((3, 4), dtype=np.float32)
    rows[1, 2] = value
    assert find_storable(rows, "float32").tolist() == [True, float32, True]
    assert find_storable(rows, "float16").tolist() == [True, float16, True]


@pytest.mark.parametrize(
    ("stored", "value"), [("float16", 65_505.0), ("float16", 1e5), ("float32", np.inf), ("float32", np.nan)]
)
def test_what_a_store_cannot_hold_is_refused_and_never_cast(tmp_path, stored, value):
    """float16 ends at 65504: a larger value, inf and nan are an error, and no shard holds the row."""
    store = new_store(tmp_path, stored=stored)
    with store.writer() as writer:
        writer.append(digests_of([1]), np.full((1, DIM), value, np.float32))
        with pytest.raises(DataError, match="not finite, or too large"):
            writer.flush()
    assert again(store).rows == 0
    assert put(store, [2]).rows == 1
