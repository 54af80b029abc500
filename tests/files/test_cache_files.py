"""Reading a file of the cache: what is no regular file is refused; what need not pass the page cache, does not."""

import errno
import fcntl
import os
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.errors import CacheError
from featcache.files.cache_files import (
    is_missing,
    list_folders,
    open_cache_file,
    read_cache_file,
)
from featcache.files.direct_io import ALIGNMENT_BYTES, AlignedBuffer, bypass_page_cache
from featcache.maintenance.verification import run_verification


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Three pages and a bit, no two bytes in a row alike."""
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(np.random.default_rng(0).bytes(3 * ALIGNMENT_BYTES + 777))
    return path


@pytest.mark.parametrize("past", [True, False])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    reads=st.lists(
        st.tuples(st.integers(0, 4 * ALIGNMENT_BYTES), st.integers(0, 3 * ALIGNMENT_BYTES)), min_size=1, max_size=4
    )
)
def test_scratch_reads_what_stands_there(file, past, reads):
    """Any stretch, one after the other through the same memory; what lies behind the end is left out."""
    whole, handle, scratch = file.read_bytes(), open_cache_file(file), AlignedBuffer()
    try:
        if past:
            bypass_page_cache(handle)
        for offset, size in reads:
            assert bytes(scratch.read(handle, offset, size)) == whole[offset : offset + size]
    finally:
        os.close(handle)


@pytest.mark.parametrize("habit", ["stops at a sector", "wants other places"])
def test_a_disk_with_habits_of_its_own_is_read_through_the_cache(monkeypatch, file, habit):
    """Direct reads that end at another multiple, or are refused: every byte comes all the same."""
    real, direct = os.preadv, getattr(os, "O_DIRECT", 0)

    def reads(handle, buffers, offset):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & direct:
            if habit == "wants other places":
                raise OSError(22, "Invalid argument")
            return real(handle, [buffers[0][:512]], offset)
        return real(handle, buffers, offset)

    handle = open_cache_file(file)
    try:
        if not bypass_page_cache(handle):
            pytest.skip("this file system has no direct reads")
        monkeypatch.setattr(os, "preadv", reads)
        assert bytes(AlignedBuffer().read(handle, 100, 9_000)) == file.read_bytes()[100:9_100]
    finally:
        os.close(handle)


def test_a_file_system_without_direct_reads_is_read_as_ever(monkeypatch, file):
    """Where the kernel refuses, the answer is False and the handle reads on."""

    def refuse(handle, command, *_):
        if command == fcntl.F_SETFL:
            raise OSError(22, "Invalid argument")
        return 0

    handle = open_cache_file(file)
    try:
        monkeypatch.setattr(fcntl, "fcntl", refuse)
        assert bypass_page_cache(handle) is False
        assert os.pread(handle, 7, 1) == file.read_bytes()[1:8]
    finally:
        os.close(handle)


def test_a_link_a_pipe_and_a_folder_are_no_regular_files(tmp_path, file):
    """None is opened, and none blocks."""
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(OSError, match=r".+"):
            os.close(open_cache_file(tmp_path / name))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    """A sparse terabyte takes no memory."""
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(OSError, match="more than any such file has"):
        read_cache_file(tmp_path / "sparse")


@pytest.mark.parametrize("what", ["may not be read", "a file", "a pipe", "a link without end"])
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch, what):
    """A glob passes over it, and `verify` would find no problem in a cache that it never looked into."""
    folder = tmp_path / "stores"
    if what == "may not be read":  # root may read everything
        folder.mkdir()
        monkeypatch.setattr(os, "scandir", partial(refuse, errno.EACCES))
    elif what == "a file":
        folder.write_bytes(b"x")
    elif what == "a pipe":
        os.mkfifo(folder)
    else:
        folder.symlink_to("stores")
    with pytest.raises(CacheError, match="stores: cannot be listed"):
        list_folders(folder)
    with pytest.raises(CacheError, match="cannot be listed"):
        run_verification(cache=tmp_path)


def test_the_folders_in_a_folder(tmp_path):
    """Sorted, links to folders among them; files and links that lead nowhere are none; a missing folder has none."""
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    assert [path.name for path in list_folders(tmp_path)] == ["a", "b", "c"]
    assert list_folders(tmp_path / "nothing") == []


def test_what_nobody_may_look_into_is_not_missing(tmp_path, monkeypatch):
    """A store whose folder is another user's alone is named, not passed over."""
    assert is_missing(tmp_path / "trunk.json")
    monkeypatch.setattr(os, "lstat", partial(refuse, errno.EACCES))
    with pytest.raises(CacheError, match="cannot be looked into"):
        is_missing(tmp_path / "trunk.json")


def refuse(code, path):
    raise OSError(code, os.strerror(code), str(path))
