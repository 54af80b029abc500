"""A set of digests in arrays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.store import DigestSet, digest_set

# Few first bytes and few others: many digests begin alike.
digests = st.builds(bytes.__add__, st.sampled_from([bytes(8), b"\xff" * 8, b"\1" + bytes(7)]), st.sampled_from(
    [bytes(24), b"\xff" * 24, bytes(23) + b"\1", b"\1" + bytes(23)]
))  # fmt: skip


@given(st.lists(digests, max_size=30), st.integers(1, 4))
def test_it_holds_what_a_set_holds(coming, recent):
    """However many are held one by one, and though digests begin alike: after each, what came is in it and no other."""
    held, expected = DigestSet(), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_set, "_RECENT", recent)
        for digest in coming:
            assert (digest in held) == (digest in expected)
            if digest not in held:
                held.add(digest)
            expected.add(digest)
            assert len(held) == len(expected)
    assert [digest in held for digest in coming] == [True] * len(coming)
