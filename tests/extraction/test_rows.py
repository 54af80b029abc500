"""What is known of each row: resume is subtraction."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.extraction.rows import RowStates
from featcache.files.stat_log import KnownFile, StatLog
from featcache.listing.listing import Listing
from featcache.loader.reader import ImageRead
from featcache.store.index import pack_digests
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from tests.builders import listing, new_store, reopen

STAT = (1, 2, 3, 4)
LONG_AFTER = 10**18


def digest_of(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def a_listing(rows: int) -> Listing:
    paths = tuple(f"train/0/{row}.png" for row in range(rows))
    return listing([0] * rows, data_set="digits", root="/data", classes=("0",), paths=paths)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """A store that holds images 0 to 4, and the listing of a run in which row 0's image was refused."""
    made = new_store(tmp_path_factory.mktemp("cache"))
    with made.writer() as writer:
        writer.append(pack_digests([digest_of(number) for number in range(5)]), np.ones((5, 4), np.float32))
        digests = pack_digests([digest_of(8), digest_of(1), bytes(32)])
        writer.commit(ExtractedListing(a_listing(3), digests, ("not finite", "", "cannot be read: gone")))
    return reopen(made)


# One row: never read, read and good, or read and of no use; of an image that the store may hold.
files = st.none() | st.builds(
    KnownFile, st.just(STAT), st.integers(0, 9).map(digest_of), st.sampled_from(["", "damaged"])
)


@given(known=st.lists(files, max_size=12), retry=st.booleans())
def test_missing_are_new_files_and_good_ones_that_the_store_lacks(store, known, retry):
    """Exactly those, in listing order; failed ones only where they are to be tried again."""
    found = RowStates(a_listing(len(known)), list(known)).missing(store, retry_failed=retry)
    held = {digest_of(number) for number in range(5)}
    expected = [
        row for row, file in enumerate(known) if file is None or (retry if file.reason else file.digest not in held)
    ]
    assert found.tolist() == expected


def test_what_a_store_refused_before_is_remembered_by_its_image(store):
    """An image whose embedding could not be stored is not tried again, under whatever name; an unreadable file is."""
    known = [KnownFile(STAT, digest_of(number), "") for number in (7, 8, 8)]
    rows = RowStates(a_listing(4), [*known, None])
    rows.remember_refused(store)
    assert rows.missing(store, retry_failed=False).tolist() == [0, 3]
    assert rows.reasons() == ("", "not finite", "not finite", "")


def test_a_row_that_was_read_is_known_here_and_to_the_cache(store, tmp_path):
    """Digest and outcome go to the row and to stat.log; all rows of a bad image have its reason."""
    rows, memory = RowStates(a_listing(3), [None] * 3), StatLog(tmp_path)
    rows.record_read(0, ImageRead(0, digest_of(8), STAT, LONG_AFTER, "damaged"), memory)
    rows.record_read(1, ImageRead(1, digest_of(8), STAT, LONG_AFTER), memory)  # the same bytes, and not decoded again
    rows.record_read(2, ImageRead(2, digest_of(1), STAT, LONG_AFTER), memory)
    assert rows.reasons() == ("damaged", "damaged", "")
    assert memory.find("/data/train/0/2.png", STAT) == KnownFile(STAT, digest_of(1), "")
    assert rows.extracted().digests.tobytes() == digest_of(8) * 2 + digest_of(1)


def test_a_file_that_could_not_be_read_has_zeros_and_its_reason(tmp_path: Path):
    """It keeps its row, so that rows stay aligned, and it is not remembered: it is asked for again."""
    rows, memory = RowStates(a_listing(2), [None] * 2), StatLog(tmp_path)
    rows.record_read(1, ImageRead(0, failed="cannot be read: Permission denied"), memory)
    memory.flush()
    assert not memory.path.exists()
    extracted = rows.extracted()
    assert not extracted.digests.any()
    assert extracted.reasons == ("", "cannot be read: Permission denied")


def test_an_image_of_a_newer_container_than_its_label_is_none(tmp_path):
    """A key may mean another image there by now; what was read is remembered for the container as it is."""
    members = replace(a_listing(2), members=True, stats=np.array([STAT, STAT]))
    rows, memory = RowStates(members, [None] * 2), StatLog(tmp_path)
    rows.record_read(0, ImageRead(0, digest_of(1), STAT, LONG_AFTER), memory)
    rows.record_read(1, ImageRead(1, digest_of(2), (9, 9, 9, 9), LONG_AFTER), memory)
    assert rows.reasons() == ("", "its container changed since its labels were read")
    assert not rows.extracted().digests[1].any()


def test_an_image_that_this_store_holds_never_fails_for_another_trunks_sake(store):
    """What another transform could not use is no reason here, where the embedding stands already."""
    known = [KnownFile(STAT, digest_of(number), "too large when resized", "t") for number in (1, 9)]
    rows = RowStates(a_listing(2), list(known), "t")
    rows.forget_failures_of_held(store)
    assert rows.reasons() == ("", "too large when resized")


def test_a_reason_counts_only_under_the_transform_that_gave_it(store):
    """A picture that one transform refused is decoded again under another; its digest is known all the same."""
    known = [KnownFile(STAT, digest_of(9), "too large when resized", "one")]
    assert RowStates(a_listing(1), list(known), "one").missing(store, retry_failed=False).tolist() == []
    other = RowStates(a_listing(1), list(known), "other")
    assert other.reasons() == ("",)
    assert other.missing(store, retry_failed=False).tolist() == [0]
    assert other.known_files[0].digest == digest_of(9)


def test_a_store_is_asked_once_for_a_listing(store, monkeypatch):
    """Forgiving and subtracting share one look-up; a row that was read since is looked up again."""
    asked = []
    monkeypatch.setattr(
        type(store), "holds", lambda self, digests: asked.append(len(digests)) or np.zeros(len(digests), bool)
    )
    rows = RowStates(a_listing(2), [KnownFile(STAT, digest_of(1), ""), None])
    rows.forget_failures_of_held(store)
    rows.missing(store, retry_failed=False)
    assert asked == [2]
    rows.record_read(1, ImageRead(1, digest_of(2), STAT, LONG_AFTER), StatLog(Path("/nowhere")))
    rows.missing(store, retry_failed=False)
    assert asked == [2, 2]
