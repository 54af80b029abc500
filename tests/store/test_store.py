"""FeatureStore: embeddings addressed by the digest of the image, whatever happens to the writer."""

import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import CacheError, DataError, FeatcacheError, MachineError
from featcache.files import publishing as publish
from featcache.files.sealed import seal_document, seal_line
from featcache.files.stat_log import StatLog
from featcache.store import commits
from featcache.store.catalog import create_store, find_stores
from featcache.store.index import pack_digests
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore, is_recorded
from featcache.store.writer import find_storable
from tests.builders import extracted, listing, new_store, trunk_spec

DIM = 5
KEY = ("digits", "all", "train")


def again(store: FeatureStore) -> FeatureStore:
    """The same store as the next process sees it, with what this one remembers of files forgotten."""
    return FeatureStore.open(store.root, StatLog(store.cache / "nothing"))


def digest_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def digests_of(numbers) -> np.ndarray:
    return pack_digests([digest_of(number) for number in numbers])


def embeddings_of(numbers, shift: float = 0.0) -> np.ndarray:
    """The embedding of image `number`: its own pseudo-random row."""
    rows = [np.random.default_rng(number).standard_normal(DIM) + shift for number in numbers]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def put(store: FeatureStore, *parts, shift: float = 0.0) -> FeatureStore:
    """One shard for each part."""
    with store.writer() as writer:
        for numbers in parts:
            writer.append(digests_of(numbers), embeddings_of(numbers, shift))
            writer.flush()
    return again(store)


def an_extract(numbers, split: str = "train") -> ExtractedListing:
    paths = tuple(f"{split}/0/{number}.png" for number in numbers)
    rows = listing([0] * len(numbers), split=split, data_set="digits", root="/data", classes=("0",), paths=paths)
    return extracted(rows, digests_of(numbers))


numbers = st.integers(0, 12)


@settings(max_examples=30, deadline=None)  # another process may have the machine
@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=5), st.integers(1, 7), st.data())
def test_load_gives_what_was_appended(parts, shard_rows, data):
    """In any order, with repeats, across shards of any size: each digest's own embedding, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder))
        with store.writer(shard_rows=shard_rows) as writer:
            for part in parts:
                committed = writer.append(digests_of(part), embeddings_of(part))
                assert committed == (not writer._waiting)
            writer.flush()
        store = again(store)
        held = sorted(set(itertools.chain(*parts)))
        wanted = data.draw(st.lists(st.sampled_from(held), max_size=12))
        assert store.load(digests_of(wanted)).tobytes() == embeddings_of(wanted).tobytes()
        every = list(range(13))
        assert store.holds(digests_of(every)).tolist() == [number in held for number in every]
        assert store.rows == sum(map(len, parts))
        assert store.verify() == []


def test_a_digest_that_is_not_there_is_an_error(tmp_path):
    """No row of zeros, no neighbour: how many are missing, and the command that embeds them."""
    store = put(new_store(tmp_path), range(4))
    with pytest.raises(CacheError, match=r"2 of 3 embeddings .*featcache extract"):
        store.load(digests_of([1, 8, 9]))
    with pytest.raises(CacheError, match="1 of 1"):
        new_store(tmp_path, weights_sha256="cd" * 32).load(digests_of([1]))


def test_an_empty_question_has_an_empty_answer(tmp_path):
    """No rows of the right width, and none of an empty store either."""
    assert new_store(tmp_path, weights_sha256="cd" * 32).load(digests_of([])).shape == (0, 0)
    assert put(new_store(tmp_path), [1]).load(digests_of([])).shape == (0, DIM)


def test_of_equal_digests_the_first_committed_wins(tmp_path):
    """A second embedding of an image changes nothing that was there."""
    store = put(new_store(tmp_path), [1, 2])
    store = put(store, [2, 3], shift=100.0)
    assert store.load(digests_of([1, 2])).tobytes() == embeddings_of([1, 2]).tobytes()
    assert store.load(digests_of([3])).tobytes() == embeddings_of([3], 100.0).tobytes()


def test_a_snapshot_sees_what_was_committed_and_nothing_else(tmp_path):
    """An open store stays as it was; one that is opened again sees the shard, but no row that still waits for one."""
    before = put(new_store(tmp_path), [1])
    with before.writer() as writer:
        writer.append(digests_of([2]), embeddings_of([2]))
        assert not again(before).holds(digests_of([2])).any()
        writer.flush()
        writer.append(digests_of([3]), embeddings_of([3]))
        assert again(before).holds(digests_of([1, 2, 3])).tolist() == [True, True, False]
    assert before.holds(digests_of([1, 2, 3])).tolist() == [True, False, False]
    assert again(before).rows == 2


def test_a_shard_that_is_not_in_the_log_does_not_exist(tmp_path):
    """A crash between the file and its line leaves a file that nobody reads, and that stops nobody."""
    store = put(new_store(tmp_path), [1], [2])
    log = store.root / commits.LOG_NAME
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    store = again(store)
    assert store.holds(digests_of([1, 2])).tolist() == [True, False]
    assert store.verify() == []
    store = put(store, [2, 3])
    assert store.load(digests_of([3, 2, 1])).tobytes() == embeddings_of([3, 2, 1]).tobytes()


def test_float16_is_stored_and_float32_is_given(tmp_path):
    """Half the disk; `load` rounds once and never changes the type."""
    store = put(new_store(tmp_path, stored="float16"), range(20))
    found = store.load(digests_of(range(20)))
    assert found.dtype == np.float32
    assert found.tobytes() == embeddings_of(range(20)).astype(np.float16).astype(np.float32).tobytes()


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


# --- listings and identity -------------------------------------------------------------------------------------------


def test_ctrl_c_while_a_shard_is_published_leaves_its_rows_to_the_next_flush(tmp_path, monkeypatch):
    """What is embedded is published before anything else happens; what the disk refused is not tried again."""
    with new_store(tmp_path).writer() as writer:
        for stopped in (KeyboardInterrupt(), MachineError("full")):  # the second adds no rows to the first's two
            with monkeypatch.context() as patch:

                def stop(*_, stopped=stopped, **__):
                    raise stopped

                patch.setattr(publish, "publish", stop)
                writer.append(digests_of([1, 2]), embeddings_of([1, 2]))
                with pytest.raises(type(stopped)):
                    writer.flush()
            writer.flush()
            assert again(writer.store).holds(digests_of([1, 2])).all()
            assert again(writer.store).rows == 2
        with pytest.raises(MachineError, match="full"):  # a line behind one whose fsync failed could outlive it
            writer.append(digests_of([3]), embeddings_of([3]))


def test_a_committed_listing_is_read_back_and_the_newest_wins(tmp_path):
    """One listing a split, the last that was committed; another split's stays."""
    store = new_store(tmp_path)
    with store.writer() as writer:
        writer.append(digests_of([1, 2, 3]), embeddings_of([1, 2, 3]))
        writer.commit(an_extract([1, 2]))
        writer.commit(an_extract([3], "val"))
        writer.commit(an_extract([3, 1]))
    store = again(store)
    assert store.listing(KEY).listing.paths == ("train/0/3.png", "train/0/1.png")
    assert store.listing(("digits", "all", "val")).digests.tobytes() == digest_of(3)
    with pytest.raises(CacheError, match="--split test"):
        store.listing(("digits", "all", "test"))


def test_a_listing_is_recorded_once_and_only_while_its_file_is_whole(tmp_path):
    """The same listing adds no line; one whose file was damaged or lost is written again by the next commit."""
    store = new_store(tmp_path)
    extracted = an_extract([1])
    with store.writer() as writer:
        writer.commit(extracted)
        writer.commit(extracted)
    store = again(store)
    assert (store.root / commits.LOG_NAME).read_bytes().count(b"\n") == 1
    assert is_recorded(store, extracted)
    assert not is_recorded(store, an_extract([2]))
    file = next((tmp_path / "listings").rglob("*.h5"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert not is_recorded(again(store), extracted)
    assert [problem.kind for problem in again(store).verify()] == ["listing"]
    with store.writer() as writer:
        writer.commit(extracted)
    assert is_recorded(again(store), extracted)
    file.unlink()
    assert not is_recorded(again(store), extracted)


def test_the_same_spec_is_the_same_store(tmp_path):
    """However its weights were called; and each keyed field makes another."""
    first = new_store(tmp_path)
    assert (
        create_store(tmp_path, trunk_spec(), weights_name="renamed.pth", stat_log=StatLog(tmp_path)).root == first.root
    )
    others = [
        new_store(tmp_path, weights_sha256="cd" * 32),
        new_store(tmp_path, stored="float16"),
        new_store(tmp_path, compute="bfloat16"),
    ]
    assert len({store.root for store in [first, *others]}) == 4
    assert [store.trunk.spec for store in find_stores(tmp_path, StatLog(tmp_path))].count(trunk_spec()) == 1


@pytest.mark.parametrize("asked", ["../../etc", "IMAGENET1K_V1", "a b/c?.pth", "ü" * 300, ".", ""])
def test_a_store_stands_in_the_cache_whatever_its_weights_are_called(tmp_path, asked):
    """The name of the weights can neither leave the cache nor be too long for a folder."""
    store = create_store(tmp_path, trunk_spec(), weights_name=asked, stat_log=StatLog(tmp_path))
    assert store.root.parent == tmp_path / "stores"
    assert again(store).trunk.weights_name == asked


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


def test_a_folder_that_was_never_finished_is_no_store(tmp_path):
    """A kill while a store is made leaves nothing that counts, and the next create finishes it."""
    store = new_store(tmp_path)
    (store.root / "trunk.json").unlink()
    assert find_stores(tmp_path, StatLog(tmp_path)) == []
    assert new_store(tmp_path).root == store.root
    assert len(find_stores(tmp_path, StatLog(tmp_path))) == 1


def edited(store: FeatureStore) -> None:
    path = store.root / "trunk.json"
    path.write_bytes(path.read_bytes().replace(b"float", b"floot").replace(b"nano", b"vano"))


def of_format_two(store: FeatureStore) -> None:
    (store.root / "trunk.json").write_bytes(seal_document({"format": 2}))


def with_a_new_field(store: FeatureStore) -> None:
    document = {"format": 1, "asked": "x", "made": [], "spec": {**trunk_spec().to_json(), "pooling": "mean"}}
    (store.root / "trunk.json").write_bytes(seal_document(document))


def without_a_log(store: FeatureStore) -> None:
    (store.root / commits.LOG_NAME).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [(edited, "damaged"), (of_format_two, "format 2"), (with_a_new_field, "pooling"), (without_a_log, "log")],
)
def test_a_store_that_cannot_be_understood_is_refused(tmp_path, damage, said):
    """A damaged trunk.json, a newer format, a field that this version does not know, a lost log: each is named."""
    store = put(new_store(tmp_path), [1])
    damage(store)
    with pytest.raises(CacheError, match=said):
        again(store)


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_shard_is_never_loaded(tmp_path):
    """A flipped bit in an embedding: load and verify name the shard; rows of other shards are still given."""
    store = put(new_store(tmp_path), [1, 2], [3, 4])
    part = store.shards[0]
    path = store.root / "shards" / part.name
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(part.embeddings_offset + 2)
        file.write(b"\x55\x55")
    with pytest.raises(CacheError, match=part.name):
        again(store).load(digests_of([1]))
    assert [(problem.kind, Path(problem.where)) for problem in again(store).verify()] == [("damaged", path)]
    assert again(store).load(digests_of([4, 3])).tobytes() == embeddings_of([4, 3]).tobytes()


def test_two_shards_whose_names_were_swapped_are_refused(tmp_path):
    """Whole and valid, but each in the other's place: an error, never another image's row."""
    store = put(new_store(tmp_path), [1, 2], [3, 4])
    first, second = (store.root / "shards" / part.name for part in store.shards)
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    with pytest.raises(CacheError, match="00000-"):
        again(store).load(digests_of([1]))
    assert len(again(store).verify()) == 2


def test_a_hash_that_was_remembered_does_not_outlive_its_file(tmp_path):
    """With everything remembered in stat.log, a shard that is edited in place is still refused."""
    store = put(new_store(tmp_path), [1, 2])
    time.sleep(0.03)  # a file younger than the clock's grain is not trusted
    known = StatLog(tmp_path)
    FeatureStore.open(store.root, known).load(digests_of([1]))
    known.flush()
    path = store.root / "shards" / store.shards[0].name
    assert StatLog(tmp_path).look_up([str(path)]) != [None]
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(store.shards[0].embeddings_offset)
        file.write(b"\x55")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CacheError, match="sha256"):
        FeatureStore.open(store.root, StatLog(tmp_path)).load(digests_of([1]))


# --- a writer that fails ---------------------------------------------------------------------------------------------


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


def test_a_cache_that_may_not_be_written_to_can_be_read(tmp_path):
    """A read-only cache folder: load, verify and listings work, remembering is given up; a writer fails cleanly."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # tmp_path is closed to everybody but its owner
    store = put(new_store(folder), [1, 2])
    with store.writer() as writer:
        writer.commit(an_extract([2]))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # permissions do not bind root: nobody reads in its place
        known = StatLog(folder)
        found = FeatureStore.open(store.root, known)
        assert found.load(found.listing(KEY).digests).tobytes() == embeddings_of([2]).tobytes()
        assert found.verify() == []
        known.try_flush()
        with pytest.raises(FeatcacheError) as told, found.writer():
            pytest.fail("a writer without a lock")
        assert told.value.exit_code == 5
        with pytest.raises(FeatcacheError, match="cannot be written"):
            create_store(folder, trunk_spec(weights_sha256="cd" * 32), weights_name="x", stat_log=known)
    finally:
        os.seteuid(user)
    for path in sorted((folder, *folder.rglob("*")), reverse=True):
        path.parent.chmod(0o755) if path != folder else None
        path.rmdir() if path.is_dir() else path.unlink()


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


def test_a_listing_cannot_ask_for_more_than_the_machine_has(tmp_path):
    """Many rows that all name one wide embedding: refused with what it would take, before anything is allocated."""
    store = put(new_store(tmp_path), [1])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = np.broadcast_to(digests_of([1]), (pages // (4 * DIM) + 1, 32))
    with pytest.raises(MachineError, match="GB of embeddings do not fit"):
        store.load(wanted)
