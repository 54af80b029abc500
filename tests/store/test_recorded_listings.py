"""The listings of a store: committed, read back, and written once."""

import pytest

from featcache.errors import CacheError
from featcache.store import commits
from featcache.store.writer import is_recorded
from tests.builders import new_store
from tests.store.rows import KEY, again, an_extract, digest_of, digests_of, embeddings_of


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
