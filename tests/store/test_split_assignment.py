"""splits.json: which group was dealt to which split, kept and checked."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import CacheError, MachineError
from featcache.files import publishing
from featcache.store import split_assignment

KEY = ("birds", "all-val0.1-image-seed0")
PLACE = "listings/birds/all-val0.1-image-seed0/splits.json"
name = st.text(max_size=8) | st.binary(max_size=8).map(os.fsdecode)


@given(st.dictionaries(name, st.sampled_from(["train", "val", "test"])))
def test_what_was_written_is_read(tmp_path_factory, groups):
    """Every group comes back in its split, whatever its name; without a file nothing was dealt."""
    cache = tmp_path_factory.mktemp("cache")
    assert split_assignment.read_split_assignment(cache, *KEY) == {}
    split_assignment.write_split_assignment(cache, *KEY, groups)
    assert split_assignment.read_split_assignment(cache, *KEY) == groups


def test_groups_are_added_and_none_is_lost(tmp_path):
    """A second writing adds; what it does not know stays; what it knows already is not written again."""
    split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train", "b": "val"})
    split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train", "c": "val"})
    everything = {"a": "train", "b": "val", "c": "val"}
    assert split_assignment.read_split_assignment(tmp_path, *KEY) == everything
    before = (tmp_path / PLACE).stat()
    split_assignment.write_split_assignment(tmp_path, *KEY, everything)
    assert (tmp_path / PLACE).stat() == before


def test_a_group_that_another_process_dealt_otherwise_is_refused(tmp_path):
    """Two extracts that dealt at once: the second is refused, and the first one's word stands."""
    split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train"})
    with pytest.raises(CacheError, match="another extract has assigned"):
        split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "val", "b": "val"})
    assert split_assignment.read_split_assignment(tmp_path, *KEY) == {"a": "train"}


def test_every_bit_is_checked(tmp_path):
    """A flipped bit or a cut file is refused, or it changes nothing; the error names the file and the way out."""
    groups = {"ann": "train", "bob": "val"}
    split_assignment.write_split_assignment(tmp_path, *KEY, groups)
    path = tmp_path / PLACE
    whole = path.read_bytes()
    for damaged in [*(whole[:size] for size in range(len(whole) - 1)), *_flipped(whole)]:
        path.write_bytes(damaged)
        try:
            found = split_assignment.read_split_assignment(tmp_path, *KEY)
        except CacheError:
            continue
        assert found == groups  # a bit of white space
    path.write_bytes(b"{}")
    with pytest.raises(CacheError, match=r"splits\.json: damaged.*assigns the splits anew"):
        split_assignment.read_split_assignment(tmp_path, *KEY)


def _flipped(data: bytes):
    for bit in range(8 * len(data)):
        yield data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_a_newer_format_and_a_link_are_refused(tmp_path):
    """A file of a newer featcache is refused by its format; a symbolic link is not followed."""
    split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train"})
    path = tmp_path / PLACE
    publishing.publish(path, split_assignment.seal_document({"format": 2, "splits": {}}), replace=True)
    with pytest.raises(CacheError, match="format 2, this featcache reads 1"):
        split_assignment.read_split_assignment(tmp_path, *KEY)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CacheError, match="cannot be read"):
        split_assignment.read_split_assignment(tmp_path, *KEY)


def test_a_write_that_fails_leaves_what_was(tmp_path, monkeypatch):
    """A disk that refuses costs nothing that was written down, and leaves no scratch file."""
    split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="make room"):
        split_assignment.write_split_assignment(tmp_path, *KEY, {"a": "train", "b": "val"})
    assert split_assignment.read_split_assignment(tmp_path, *KEY) == {"a": "train"}
    assert {path.name for path in (tmp_path / PLACE).parent.iterdir()} <= {"splits.json", ".splits.lock"}
