"""FeatureStore: embeddings addressed by the digest of the image, and what damage does to them."""

import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import CacheError, FeatcacheError, MachineError
from featcache.files.sealed import seal_document
from featcache.files.stat_log import StatLog
from featcache.store import commits
from featcache.store.catalog import create_store
from featcache.store.store import FeatureStore
from tests.builders import new_store, trunk_spec
from tests.store.rows import DIM, KEY, again, an_extract, digests_of, embeddings_of, put

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
                assert committed == (not writer.waiting)
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


def test_a_listing_cannot_ask_for_more_than_the_machine_has(tmp_path):
    """Many rows that all name one wide embedding: refused with what it would take, before anything is allocated."""
    store = put(new_store(tmp_path), [1])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = np.broadcast_to(digests_of([1]), (pages // (4 * DIM) + 1, 32))
    with pytest.raises(MachineError, match="GB of embeddings do not fit"):
        store.load(wanted)
