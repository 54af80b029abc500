"""LMDB files: a key names an image, whatever bytes the key is of."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.containers import ContainerError, LmdbFile, MemberPath, MemberReader, open_container, read_member
from tests.packed import write_lmdb

LIMIT = 1 << 20


@given(st.dictionaries(st.binary(min_size=1, max_size=100), st.binary(max_size=3000), min_size=1, max_size=8))
def test_every_key_reads_as_it_was_written(tmp_path_factory, values):
    """Keys that are no text, and values of any length."""
    path = write_lmdb(tmp_path_factory.mktemp("lmdb") / "data.mdb", values)
    container = open_container(str(path))
    names = list(container.names)
    container.close()
    assert [os.fsencode(name) for name in names] == sorted(values)
    with MemberReader() as reader:
        for name in names:
            assert reader.read(MemberPath(str(path), name), LIMIT) == values[os.fsencode(name)]


def test_what_is_not_there_or_too_large_is_told(tmp_path):
    """A key that nobody wrote, and a value beyond the limit."""
    path = str(write_lmdb(tmp_path / "data.mdb", {b"a": b"x" * 100}))
    with pytest.raises(OSError, match="no such key"):
        read_member(MemberPath(path, "b"), LIMIT)
    with pytest.raises(OSError, match="100 bytes: larger"):
        read_member(MemberPath(path, "a"), 99)


@pytest.mark.parametrize("data", [b"", b"no LMDB", b"\0" * 20000])
def test_what_is_no_lmdb_file_is_refused(tmp_path: Path, data: bytes):
    """An empty file, text and zeros."""
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(ContainerError, match="no LMDB file"):
        LmdbFile(str(tmp_path / "data.mdb"))
