"""A log is read in bounded memory, and each of its lines is what it was, torn, or named."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from featcache.files import append_log
from featcache.files.append_log import AppendLog
from featcache.files.sealed import seal_line


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(content=b"\naabcbc\n", block=8)  # a line that is longer than the longest, whole in one block
@given(content=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\0" * 7])).map(b"".join), block=st.integers(1, 9))
def test_lines_are_those_of_the_file_however_it_is_cut(tmp_path, monkeypatch, content, block):
    """Blocks of any size give the lines of the whole file; longer lines than the longest are counted and not held."""
    with monkeypatch.context() as patched:
        patched.setattr(append_log, "_BLOCK", block)
        patched.setattr(append_log, "MAX_LINE_BYTES", 5)
        path = tmp_path / "log"
        path.write_bytes(content)
        *whole, rest = content.split(b"\n")
        expected = [(line, True) for line in whole] + ([(rest, False)] if rest else [])
        found = list(AppendLog(path).iter_lines())
        assert [(line.size, line.whole) for line in found] == [(len(line), ended) for line, ended in expected]
        assert [line.data for line in found] == [line if len(line) <= 5 else None for line, _ in expected]
        blocks = list(AppendLog(path).iter_blocks())
        short = [line for _, lines in blocks for line in lines]
        assert short == [line.data for line in found if line.data is not None]
        for at, lines in blocks:
            assert content[at:].split(b"\n")[: len(lines)] == lines
            assert [line for _, rest in AppendLog(path).iter_blocks(at) for line in rest][: len(lines)] == lines


@pytest.mark.parametrize("zeros", [10, 1 << 27])
def test_zeros_at_the_end_are_torn_or_damaged_and_never_held(tmp_path, zeros):
    """A short tail of zeros is what a crash leaves; one that is longer than any line is damage, and named."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(seal_line({"a": 1}))
        file.truncate(file.tell() + zeros)
    seen = []
    log = AppendLog(path).read(lambda entry: seen.append(entry) or "")
    assert seen == [{"a": 1}]
    assert (log.torn, [number for number, _ in log.damaged]) == ((zeros, []) if zeros == 10 else (0, [2]))
