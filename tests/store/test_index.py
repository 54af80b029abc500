"""Which row holds a digest."""

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.machine import run_in_threads
from featcache.store import index
from featcache.store.index import DigestArray, DigestIndex, group_positions, pack_digests

# 32 bytes from few different pieces: equal digests are common, and so are those that share their first 8 bytes.
heads = st.sampled_from([bytes(8), b"\xff" * 8, b"\x01" + bytes(7), bytes(7) + b"\x01"])
tails = st.sampled_from([bytes(24), b"\xff" * 24, bytes(23) + b"\x01", b"\x01" + bytes(23)])
digests = st.builds(bytes.__add__, heads, tails) | st.binary(min_size=32, max_size=32)


@given(st.lists(digests, max_size=40), st.lists(digests, max_size=20), st.data())
def test_find_is_what_a_linear_search_finds(held, others, data):
    """The first committed row of each digest, -1 where there is none; also where digests share their first 8 bytes."""
    wanted = data.draw(st.permutations(held + others))
    found = DigestIndex(pack_digests(held)).find(pack_digests(wanted))
    assert found.dtype == np.int64
    assert found.tolist() == [held.index(digest) if digest in held else -1 for digest in wanted]


@given(st.integers(2, 60), st.data())
def test_many_digests_with_one_beginning_are_told_apart(count, data):
    """Sixty digests that differ only in their last byte each have their own row."""
    held = [b"\x07" * 31 + bytes([number]) for number in data.draw(st.permutations(range(count)))]
    found = DigestIndex(pack_digests(held)).find(pack_digests([*held, b"\x07" * 31 + b"\xff"]))
    assert found.tolist() == [*range(count), -1]


def test_an_empty_index_finds_nothing_and_no_question_has_no_answer():
    """Neither an empty store nor an empty question is a special case for the caller."""
    assert DigestIndex(pack_digests([])).find(pack_digests([bytes(32)])).tolist() == [-1]
    assert DigestIndex(pack_digests([bytes(32)])).find(pack_digests([])).tolist() == []


@given(st.lists(digests, max_size=10))
def test_pack_keeps_every_byte_in_order(held):
    """(rows, 32) uint8, row for row the digests."""
    packed = pack_digests(held)
    assert (packed.shape, packed.dtype) == ((len(held), 32), np.uint8)
    assert [row.tobytes() for row in packed] == held


@given(
    st.lists(st.lists(digests, max_size=12), max_size=6),
    st.lists(digests, max_size=10),
    st.integers(1, 9),
    st.sampled_from([0, index.MAX_DIGESTS_IN_MEMORY]),
)
def test_parts_and_runs_change_no_answer(parts, others, run, in_memory):
    """However the digests are cut, sorted and kept, the first row is found."""
    held = [digest for part in parts for digest in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "RUN_SLOTS", run)
        patch.setattr(index, "MAX_DIGESTS_IN_MEMORY", in_memory)
        patch.setattr(index, "QUESTIONS", run)
        found = DigestIndex([DigestArray(pack_digests(part)) for part in parts if part])
        wanted = [*others, *held]
        positions = found.find(pack_digests(wanted))
    expected = [held.index(digest) if digest in held else -1 for digest in wanted]
    singly = [found.find(pack_digests([digest])) for digest in wanted]
    assert (positions.dtype, positions.tolist()) == (np.int64, expected)
    assert [position.tolist() for position in singly] == [[row] for row in expected]


@given(st.lists(st.lists(digests, max_size=12), max_size=6), st.integers(1, 9), st.integers(1, 9))
def test_repeated_are_rows_whose_digest_an_earlier_row_has(parts, run, questions):
    """Exactly those; also where different digests begin alike, and however the table is cut."""
    held = [digest for part in parts for digest in part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "RUN_SLOTS", run)
        patch.setattr(index, "QUESTIONS", questions)
        repeated = DigestIndex([DigestArray(pack_digests(part)) for part in parts if part]).find_repeated()
    assert repeated.tolist() == [held.index(digest) < row for row, digest in enumerate(held)]


@given(st.lists(st.tuples(st.integers(0, 299), st.integers(1, 60)), max_size=12), st.integers(1, 299))
def test_stretches_of_what_was_committed_are_found_as_one_by_one(stretches, cut):
    """Questions in stretches, some running past the end into images that are new, with repeats: row for row."""
    named = pack_digests([hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(360)])
    wanted = np.concatenate([np.arange(start, start + length) for start, length in [(0, 0), *stretches]])
    found = DigestIndex([DigestArray(named[:cut]), DigestArray(named[cut:300])]).find(named[wanted])
    assert found.tolist() == np.where(wanted < 300, wanted, -1).tolist()


def test_only_what_a_question_could_mean_is_read_again(monkeypatch):
    """Of a part, the rows that are looked at are those that begin as a wanted digest does: none for a new image."""
    monkeypatch.setattr(index, "MAX_DIGESTS_IN_MEMORY", 0)  # a store too large for its digests to stay in memory

    class Watched(DigestArray):
        asked = 0

        def take(self, rows):
            Watched.asked += len(rows)
            return super().take(rows)

    held = pack_digests([hashlib.sha256(bytes([number])).digest() for number in range(200)])
    found = DigestIndex([Watched(held[:120]), Watched(held[120:])])
    assert (found.find(pack_digests([hashlib.sha256(b"new").digest()])) == -1).all()
    assert Watched.asked == 0
    assert found.find(held[[5, 150]]).tolist() == [5, 150]
    assert Watched.asked == 2


@given(st.lists(st.integers(-3, 5), max_size=30))
def test_groups_name_every_place_once(numbers):
    """Ascending numbers, each with the places where it stands, ascending."""
    found = [(number, places.tolist()) for number, places in group_positions(np.array(numbers, dtype=np.int64))]
    assert found == [(one, [i for i, n in enumerate(numbers) if n == one]) for one in sorted(set(numbers))]


def test_an_error_in_a_thread_is_raised_and_stops_the_rest():
    """The first one comes out; what had not begun is not done."""
    done = []

    def work(item):
        if item == 3:
            raise ValueError(item)
        done.append(item)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="3"):
        run_in_threads(work, range(1000))
    assert len(done) < 999
    assert run_in_threads(lambda item: 2 * item, range(5)) == [0, 2, 4, 6, 8]
