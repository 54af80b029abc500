"""What gc would drop: what a set of digests in Python says of the same rows."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.store import compaction, index, plan_compaction
from tests.builders import new_store
from tests.store.rows import again, an_extract, digests_of, embeddings_of

images = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(max_examples=25)
@given(
    before=st.lists(images, max_size=4), after=st.lists(images, max_size=2), listed=st.lists(images, max_size=2),
    everything=st.booleans(), together=st.integers(1, 4),
)  # fmt: skip
def test_a_row_is_kept_where_it_is_the_first_and_named_or_newer_than_all_listings(
    before, after, listed, everything, together
):
    """However the shards are cut and how many are looked up together; and each row that goes is counted once."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store = new_store(Path(folder))
        with store.writer() as writer:
            for part in before:
                writer.append(digests_of(part), embeddings_of(part))
                writer.flush()
            for number, part in enumerate(listed):
                writer.commit(an_extract(part, split=f"split{number}"))
            for part in after:
                writer.append(digests_of(part), embeddings_of(part))
                writer.flush()
        for module in (compaction, index):
            patch.setattr(module, "QUESTIONS", together)
        patch.setattr(compaction, "SHARD_ROWS", 1)
        plan = plan_compaction(again(store), everything=everything)
    numbers = [number for part in [*before, *after] for number in part]
    first = np.array([number not in numbers[:row] for row, number in enumerate(numbers)], dtype=bool)
    named = np.array([any(number in part for part in listed) for number in numbers], dtype=bool)
    is_new = np.arange(len(numbers)) >= (sum(map(len, before)) if listed else 0)
    late = is_new & ~named & (not everything)
    kept = first & (named | late)
    counts = (plan.repeated, plan.forgotten, plan.unfinished)
    assert counts == ((~first).sum(), (first & ~kept).sum(), (first & late).sum())
    masks = np.split(kept, np.cumsum([len(part) for part in [*before, *after]])[:-1])
    expected = [mask.tolist() for mask in masks if not mask.all()]
    assert [mask.tolist() for _, mask in plan.rewritten] == expected
