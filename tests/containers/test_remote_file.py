"""A file elsewhere that is read by ranges says what a file of this machine says."""

import io
from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.containers import ContainerError
from featcache.containers.remote_file import RemoteFile

STEPS = st.lists(st.tuples(st.sampled_from(["seek", "read", "ahead", "end", "at"]), st.integers(0, 3000)), max_size=12)


def serve(data: bytes, ranges: list[tuple[int, int]] | None = None) -> RemoteFile:
    """Return a file elsewhere with these bytes; what is asked for is noted."""

    def fetch(start: int, end: int) -> bytes:
        if ranges is not None:
            ranges.append((start, end))
        assert 0 <= start < end <= len(data)
        return data[start:end]

    return RemoteFile((len(data), 0, 0, 1), fetch)


@given(st.binary(max_size=2000), STEPS)
def test_whatever_is_read_in_whatever_order_is_what_stands_there(data: bytes, steps: list[tuple[str, int]]) -> None:
    """Seeks to any place, reads of any size, ranges by themselves: each as of a file in memory."""
    with patch("featcache.containers.remote_file.BLOCK", 64), patch("featcache.containers.remote_file._KEPT", 3):
        remote, local = serve(data), io.BytesIO(data)
        for kind, number in steps:
            if kind == "at":
                assert remote.read_at(number, 100) == data[number : number + 100]
                continue
            step: dict[str, Callable[[io.BytesIO | RemoteFile], object]] = {
                "seek": lambda file, to=number: file.seek(to), "read": lambda file, size=number: file.read(size),
                "ahead": lambda file, by=number: file.seek(by, io.SEEK_CUR), "end": lambda file: file.seek(0, 2),
            }  # fmt: skip
            assert step[kind](remote) == step[kind](local)
            assert remote.tell() == local.tell()


def test_what_lies_between_is_read_through_or_skipped() -> None:
    """Reading in order asks for each block once; of a far place no more than its block is asked for."""
    data = bytes(range(256)) * 4096
    ranges: list[tuple[int, int]] = []
    remote = serve(data, ranges)
    while remote.read(10_000):
        pass
    assert sorted(ranges) == [(start, start + (1 << 18)) for start in range(0, len(data), 1 << 18)]
    large: list[tuple[int, int]] = []
    far = serve(bytes(1 << 24), large)
    for place in range(0, 1 << 24, 1 << 22):
        far.seek(place)
        far.read(512)
    assert len([start for start, _ in large if start]) < 3 + 16  # ahead of the first block, and one for each place


def test_another_version_is_refused() -> None:
    """Not half of one and half of the other: the container has changed."""

    def changed(*_: int) -> bytes:
        raise FileExistsError

    remote = RemoteFile((100, 0, 0, 1), changed)
    for read in (lambda: remote.read(10), lambda: remote.read_at(50, 10)):
        with pytest.raises(ContainerError, match="its container changed while it was read"):
            read()
