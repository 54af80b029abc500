"""Which row holds a digest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featcache.store.index import DigestIndex, pack

# 32 bytes from few different pieces: equal digests are common, and so are those that share their first 8 bytes.
heads = st.sampled_from([bytes(8), b"\xff" * 8, b"\x01" + bytes(7), bytes(7) + b"\x01"])
tails = st.sampled_from([bytes(24), b"\xff" * 24, bytes(23) + b"\x01", b"\x01" + bytes(23)])
digests = st.builds(bytes.__add__, heads, tails) | st.binary(min_size=32, max_size=32)


@given(st.lists(digests, max_size=40), st.lists(digests, max_size=20), st.data())
def test_find_is_what_a_linear_search_finds(held, others, data):
    """The first committed row of each digest, -1 where there is none; also where digests share their first 8 bytes."""
    wanted = data.draw(st.permutations(held + others))
    found = DigestIndex(pack(held)).find(pack(wanted))
    assert found.dtype == np.int64
    assert found.tolist() == [held.index(digest) if digest in held else -1 for digest in wanted]


@given(st.integers(2, 60), st.data())
def test_many_digests_with_one_beginning_are_told_apart(count, data):
    """Sixty digests that differ only in their last byte each have their own row."""
    held = [b"\x07" * 31 + bytes([number]) for number in data.draw(st.permutations(range(count)))]
    found = DigestIndex(pack(held)).find(pack([*held, b"\x07" * 31 + b"\xff"]))
    assert found.tolist() == [*range(count), -1]


def test_an_empty_index_finds_nothing_and_no_question_has_no_answer():
    """Neither an empty store nor an empty question is a special case for the caller."""
    assert DigestIndex(pack([])).find(pack([bytes(32)])).tolist() == [-1]
    assert DigestIndex(pack([bytes(32)])).find(pack([])).tolist() == []


@given(st.lists(digests, max_size=10))
def test_pack_keeps_every_byte_in_order(held):
    """(rows, 32) uint8, row for row the digests."""
    packed = pack(held)
    assert (packed.shape, packed.dtype) == ((len(held), 32), np.uint8)
    assert [row.tobytes() for row in packed] == held
