"""A file that was written just now is waited for, one from the future is not."""

import time

import pytest

from featcache.files.file_stat import is_racy, now_ns, to_file_stat, wait_while_racy


def test_once_waited_for_another_change_shows(tmp_path):
    """A file that was written this very moment is no longer racy behind the wait."""
    path = tmp_path / "x"
    path.write_bytes(b"1")
    status = to_file_stat(path.stat())
    wait_while_racy(status, now_ns(), longest=0.5)
    assert not is_racy(status, now_ns())


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_file_dated_in_the_future_is_not_waited_for(seconds):
    """What would take longer than the longest wait takes no time."""
    looked_at, begun = now_ns(), time.monotonic()
    stamp = looked_at + seconds * 1_000_000_000 + 1
    wait_while_racy((1, stamp, stamp, 7), looked_at, longest=0.5)
    assert time.monotonic() - begun < 0.2
