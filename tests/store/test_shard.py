"""A shard: built to the byte, read at its offsets, refused when it is not the one that was committed."""

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import CacheError
from featcache.files import publishing
from featcache.files.stat_log import StatLog
from featcache.store import hdf5
from featcache.store.shard import Shard, build_shard, check_shard_hash, gather_rows, read_digests


def rows_of(seed: int, rows: int = 5, dim: int = 3, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, 32), dtype=np.uint8), rng.standard_normal((rows, dim)).astype(dtype)


def put(folder: Path, seed: int = 0, number: int = 0, **shape) -> tuple[Shard, np.ndarray, np.ndarray]:
    digests, embeddings = rows_of(seed, **shape)
    entry, data = build_shard(number, digests, embeddings)
    publishing.publish(folder / entry.name, data)
    return entry, digests, embeddings


def read(folder: Path, entry: Shard) -> tuple[np.ndarray, np.ndarray]:
    """As a store reads it, with nothing remembered: digests, hash, then every row."""
    digests = read_digests(folder, entry)
    check_shard_hash(folder, entry, StatLog(folder / "nothing"))
    out, every = np.empty((entry.rows, entry.dim), np.float32), np.arange(entry.rows)
    gather_rows(folder, entry, every, out, every)
    return digests, out


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 9), st.sampled_from(["float32", "float16"]))
def test_the_same_rows_give_the_same_file(seed, rows, dim, dtype):
    """Bytes, name and log entry are a function of number, digests and embeddings alone."""
    first = build_shard(3, *rows_of(seed, rows, dim, dtype))
    assert first == build_shard(3, *rows_of(seed, rows, dim, dtype))
    entry, data = first
    assert entry.name == f"00003-{entry.sha256[:8]}.h5"
    assert (entry.rows, entry.dim, entry.dtype, entry.bytes) == (rows, dim, dtype, len(data))


@pytest.fixture(scope="module", params=["float32", "float16"])
def shard(request, tmp_path_factory) -> tuple[Path, Shard, np.ndarray]:
    """Sixty rows on disk, and what h5py reads of them."""
    folder = tmp_path_factory.mktemp(request.param)
    entry, _, _ = put(folder, rows=60, dim=7, dtype=request.param)
    with h5py.File(folder / entry.name, "r") as file:
        return folder, entry, file["embeddings"][...]


@given(data=st.data())
def test_gather_reads_what_h5py_reads(shard, data):
    """Any rows to any places: empty, repeated, unsorted, in runs; bit for bit, and no other place is touched."""
    folder, entry, held = shard
    run = st.tuples(st.integers(0, 59), st.integers(1, 30)).map(lambda at: list(range(at[0], min(60, sum(at)))))
    rows = np.array([row for part in data.draw(st.lists(run, max_size=5)) for row in part], dtype=np.int64)
    to = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)
    if data.draw(st.booleans()):
        to = np.sort(to)
    out = np.full((len(rows) + 1, entry.dim), np.float32(-7.5))
    gather_rows(folder, entry, rows, out, to)
    expected = np.full_like(out, -7.5)
    expected[to] = held[rows].astype(np.float32)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows", [[-1], [60], list(range(-9, 0)), list(range(52, 61)), list(range(-4, 9))])
def test_gather_refuses_rows_that_are_not_there(shard, rows):
    """Neither a negative row nor one past the end is read from whatever lies before or after the embeddings."""
    folder, entry, _ = shard
    out = np.zeros((len(rows), entry.dim), np.float32)
    with pytest.raises(IndexError):
        gather_rows(folder, entry, np.array(rows), out, np.arange(len(rows)))
    assert not out.any()


def test_digests_are_what_h5py_reads(shard):
    """The lookup table is the file's own."""
    folder, entry, _ = shard
    with h5py.File(folder / entry.name, "r") as file:
        assert read_digests(folder, entry).tobytes() == file["digests"][...].tobytes()


def test_nan_inf_and_negative_zero_keep_their_bits(tmp_path):
    """A shard judges no value: what went in comes out."""
    special = np.array([[np.nan, np.inf, -0.0, 1e-45]], dtype=np.float32)
    entry, data = build_shard(0, np.zeros((1, 32), np.uint8), special)
    publishing.publish(tmp_path / entry.name, data)
    assert read(tmp_path, entry)[1].tobytes() == special.tobytes()


def test_a_flipped_bit_anywhere_is_refused_before_use(tmp_path):
    """One bit in every single byte of a small shard: no reading of it succeeds."""
    entry, _, _ = put(tmp_path)
    data, bits = (tmp_path / entry.name).read_bytes(), random.Random(0)
    (tmp_path / entry.name).unlink()
    for place in range(len(data)):
        hurt = bytearray(data)
        hurt[place] ^= 1 << bits.randrange(8)
        (tmp_path / entry.name).write_bytes(hurt)
        with pytest.raises(CacheError, match=entry.name):
            read(tmp_path, entry)


def swapped(folder: Path, entry: Shard) -> None:
    other, _, _ = put(folder, seed=1, number=1)
    os.rename(folder / other.name, folder / entry.name)


def of_another_shape(folder: Path, entry: Shard) -> None:
    other, _, _ = put(folder, number=1, rows=7)
    os.rename(folder / other.name, folder / entry.name)


def same_arrays_built_otherwise(folder: Path, entry: Shard) -> None:
    digests, embeddings = rows_of(0)
    (folder / entry.name).unlink()
    with h5py.File(folder / entry.name, "w") as file:
        file["digests"], file["embeddings"] = digests, embeddings


def a_link(folder: Path, entry: Shard) -> None:
    os.rename(folder / entry.name, folder / "elsewhere.h5")
    (folder / entry.name).symlink_to("elsewhere.h5")


def a_folder(folder: Path, entry: Shard) -> None:
    (folder / entry.name).unlink()
    (folder / entry.name).mkdir()


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path, Shard], None]:
    def damage(folder: Path, entry: Shard) -> None:
        data = (folder / entry.name).read_bytes()
        (folder / entry.name).unlink()
        (folder / entry.name).write_bytes(change(data))

    return damage


DAMAGE: dict[str, Callable[[Path, Shard], None]] = {
    "one byte short": rewrite(lambda data: data[:-1]),
    "a page short": rewrite(lambda data: data[:-512]),
    "half": rewrite(lambda data: data[: len(data) // 2]),
    "empty": rewrite(lambda data: b""),
    "zeroed tail": rewrite(lambda data: data[:-512] + bytes(512)),
    "zeros": rewrite(lambda data: bytes(len(data))),
    "junk appended": rewrite(lambda data: data + b"junk"),
    "gone": lambda folder, entry: (folder / entry.name).unlink(),
    "swapped": swapped,
    "of another shape": of_another_shape,
    "built otherwise": same_arrays_built_otherwise,
    "a link": a_link,
    "a folder": a_folder,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_not_the_committed_one_is_refused(tmp_path, kind):
    """Truncated, extended, zeroed, swapped, rebuilt or linked: an error that names the shard, never another row."""
    entry, _, _ = put(tmp_path)
    DAMAGE[kind](tmp_path, entry)
    with pytest.raises(CacheError, match=entry.name):
        read(tmp_path, entry)


def test_a_hash_that_was_checked_is_remembered_until_the_file_changes(tmp_path):
    """The second look costs a stat; an edit that keeps size and mtime is still seen."""
    entry, _, _ = put(tmp_path)
    path = tmp_path / entry.name
    os.utime(path, ns=(10**18, 10**18))
    log = StatLog(tmp_path)
    import time

    time.sleep(0.05)  # a file younger than the clock's grain is not trusted
    check_shard_hash(tmp_path, entry, log)
    assert log.look_up([str(path)])[0].digest.hex() == entry.sha256
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(entry.embeddings_offset)
        file.write(b"\xff")
    os.utime(path, ns=(10**18, 10**18))
    with pytest.raises(CacheError, match="sha256"):
        check_shard_hash(tmp_path, entry, log)


@settings(max_examples=200)
@given(
    st.sampled_from([field.name for field in dataclasses.fields(Shard)]),
    st.sampled_from(
        [
            -1,
            0,
            1 << 48,
            10**30,
            True,
            1.0,
            None,
            "",
            "..",
            "/etc/passwd",
            "../00000-00000000.h5",
            "float64",
            b"x",
            [],
            {},
        ]
    ),
)
def test_an_entry_that_makes_no_sense_is_refused_on_the_way_in(field, value):
    """A log can come from anybody: paths out of the folder, negative or astronomic sizes never get past the door."""
    entry, _ = build_shard(0, *rows_of(0))
    harmless = field in ("embeddings_offset", "digests_offset", "made") and type(value) is int and value == 0
    if harmless or (field == "made" and value is None):
        return  # another place within the file: the hash of the digests, or of the file, decides; made is a note
    with pytest.raises((ValueError, TypeError)):
        Shard(**{**dataclasses.asdict(entry), field: value})


@pytest.mark.parametrize("field", ["rows", "dim", "embeddings_offset", "digests_offset"])
def test_an_entry_that_reaches_past_its_file_is_refused(field):
    """A header that declares 10^12 rows is refused; nothing is allocated for it."""
    entry, _ = build_shard(0, *rows_of(0))
    with pytest.raises(ValueError, match=r"do not fit|more than a shard may hold"):
        Shard(**{**dataclasses.asdict(entry), field: 10**12})


def test_a_shard_is_an_hdf5_file_with_two_plain_arrays(tmp_path):
    """Anybody's h5py reads /embeddings and /digests, contiguous and unfiltered."""
    entry, digests, embeddings = put(tmp_path)
    found = hdf5.parse_file(
        (tmp_path / entry.name).read_bytes(), {"digests": ("uint8", 2), "embeddings": ("float32", 2)}
    )
    assert found["digests"].tobytes() == digests.tobytes()
    assert found["embeddings"].tobytes() == embeddings.tobytes()
