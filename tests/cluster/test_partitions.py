"""What a split lacks, in partitions: all of it, once, and an image or a video never in two."""

import hashlib
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featcache.extraction.partitions import cut_partitions
from featcache.extraction.rows import RowStates
from featcache.files import KnownFile
from featcache.listing import Listing, frame_path


def rows_of(paths: list[str], digests: list[bytes], *, videos: bool = False) -> RowStates:
    count = len(paths)
    listing = Listing(
        "set", "all", "train", "/data", ("0",), tuple(paths), np.zeros(count, np.int64), ("",) * count, ("",) * count,
        videos=videos,
    )  # fmt: skip
    return RowStates(listing, [KnownFile((1, 1, 1, 1), digest) if digest else None for digest in digests])


DIGESTS = st.one_of(st.just(b""), st.integers(0, 20).map(lambda number: hashlib.sha256(bytes([number])).digest()))


@given(
    st.lists(DIGESTS, min_size=1, max_size=200), st.integers(1, 5), st.integers(1, 40), st.integers(1, 20), st.data()
)
def test_every_row_is_in_one_partition_and_an_image_too(digests, workers, most, least, data):
    """Of rows in any state: each once, equal digests together, ascending; none too long but for one image's rows."""
    todo = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(digests))), min_size=1))))
    rows = rows_of([f"{row}.png" for row in range(len(digests))], digests)
    parts = [part.rows for part in cut_partitions(rows, todo, workers=workers, most=most, least=least)]
    assert sorted(np.concatenate(parts).tolist()) == todo.tolist()
    known = [[digests[row] for row in part if digests[row]] for part in parts]
    assert [digest for part in known for digest in part] == sorted(digest for part in known for digest in part)
    for left, right in itertools.pairwise(known):
        assert not set(left) & set(right)
    for part in parts:
        assert len({digests[row] or row for row in part}) <= most


def test_a_video_is_decoded_by_one_worker():
    """The frames of a video stand together, in their order, however the listing has them."""
    paths = [frame_path(f"{video}.mp4", f"{frame:06d}") for frame in range(30) for video in "abcd"]
    rows = rows_of(paths, [b""] * len(paths), videos=True)
    parts = cut_partitions(rows, np.arange(len(paths)), workers=4, most=1000, least=1)
    named = [[paths[row] for row in part.rows] for part in parts]
    assert sorted(path for part in named for path in part) == sorted(paths)
    assert all(part == sorted(part) and len(part) % 30 == 0 for part in named)


def test_partitions_grow_smaller_so_that_workers_end_together():
    """The first are large, the last small: nobody waits long for the last one."""
    rows = rows_of([f"{row}.png" for row in range(10_000)], [b""] * 10_000)
    sizes = [len(part.rows) for part in cut_partitions(rows, np.arange(10_000), workers=4, most=16_384)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-2]) == (1250, 256)
    assert sizes[-1] <= 256
