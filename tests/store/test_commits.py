"""The log of a store: what is not in it does not exist."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import CacheError
from featcache.files.sealed import seal_line
from featcache.store.commits import CommitLog, Commits, ListingLine
from featcache.store.shard import Shard, build_shard


def a_shard(number: int, dim: int = 2, dtype: str = "float32") -> Shard:
    rng = np.random.default_rng(number)
    embeddings = rng.standard_normal((1, dim)).astype(dtype)
    return build_shard(number, rng.integers(0, 256, (1, 32), np.uint8), embeddings)[0]


def a_listing(split: str = "train", sha256: str = "0" * 64) -> ListingLine:
    return ListingLine(data_set="digits", variant="all", split=split, sha256=sha256)


SHARDS = [a_shard(number) for number in range(4)]
LINES = [
    seal_line({"add": dataclasses.asdict(SHARDS[0])}),
    seal_line({"listing": dataclasses.asdict(a_listing())}),
    seal_line({"add": dataclasses.asdict(SHARDS[1])}),
]


def log_of(folder: Path, *lines: bytes) -> CommitLog:
    log = CommitLog(folder)
    log.path.write_bytes(b"".join(lines))
    return log


def test_what_was_added_is_read_in_order(tmp_path):
    """Shards in commit order, the newest listing of each split, and the next shard's number."""
    log = log_of(tmp_path)
    log.add(SHARDS[0])
    log.name_listing(a_listing())
    log.add(SHARDS[1])
    log.name_listing(a_listing("val"))
    log.name_listing(a_listing("train", "f" * 64))
    found = log.read()
    assert found.shards == (SHARDS[0], SHARDS[1])
    assert found.listings[("digits", "all", "train")].sha256 == "f" * 64
    assert (len(found.listings), found.shards_ever_added, found.size) == (2, 2, log.path.stat().st_size)


def test_an_empty_log_is_an_empty_store(tmp_path):
    """A store that was just made has nothing, which is no error; a missing log is one."""
    assert log_of(tmp_path).read() == Commits()
    with pytest.raises(CacheError, match="cannot be read"):
        CommitLog(tmp_path / "none").read()


def test_a_torn_last_line_is_ignored_and_cut_by_the_next_writer(tmp_path):
    """Wherever a crash cut the last line: the lines before it count, it does not, and what follows is whole."""
    before = b"".join(LINES[:2])
    for cut in (*range(0, len(LINES[2]), 9), len(LINES[2]) - 2):
        log = log_of(tmp_path, before, LINES[2][:cut])
        found = log.read()
        assert (found.shards, found.size) == ((SHARDS[0],), len(before))
        log.repair_end(found)
        assert log.path.read_bytes() == before
        log.add(SHARDS[1])
        assert log.read().shards == (SHARDS[0], SHARDS[1])


def test_cutting_a_whole_log_changes_nothing(tmp_path):
    """A log that ends with a whole line keeps every byte."""
    log = log_of(tmp_path, *LINES)
    log.repair_end(log.read())
    assert log.path.read_bytes() == b"".join(LINES)


def test_a_damaged_line_is_named(tmp_path):
    """A flipped bit in any byte of a complete line is an error with that line's number, never a smaller store."""
    data = b"".join(LINES)
    for place in range(len(data) - 1):
        log = log_of(tmp_path, data[:place], bytes([data[place] ^ 1]), data[place + 1 :])
        with pytest.raises(CacheError, match=f"line {data[:place].count(bytes([10])) + 1} is damaged"):
            log.read()


def test_a_last_line_that_lacks_nothing_but_its_newline_is_committed(tmp_path):
    """Its checksum says that it is whole; the next writer ends it, so that the line after it stands for itself."""
    log = log_of(tmp_path, *LINES[:2], LINES[2][:-1])
    found = log.read()
    assert (found.shards, found.size) == ((SHARDS[0], SHARDS[1]), log.path.stat().st_size)
    log.repair_end(found)
    log.add(SHARDS[2])
    assert log.read().shards == tuple(SHARDS[:3])


def test_a_damaged_newline_at_the_end_is_damage(tmp_path):
    """A flipped bit in the very last byte is no torn line: a crash writes too little, never something else."""
    log = log_of(tmp_path, *LINES[:2], LINES[2][:-1] + b"\x0b")
    with pytest.raises(CacheError, match="line 3 is damaged"):
        log.read()


def test_what_a_damaged_log_still_says_is_told(tmp_path):
    """`replay` gives the state after the lines that hold, those lines, and the number of each other one."""
    torn = b'{"add'
    found = log_of(tmp_path, LINES[0], b"{}\n", LINES[2], LINES[1][:-3] + b"??\n", torn).replay()
    assert found.commits.shards == (SHARDS[0], SHARDS[1])
    assert found.lines == (LINES[0][:-1], LINES[2][:-1])
    assert [number for number, _ in found.damaged] == [2, 4]
    assert found.torn == len(torn)


def test_a_drop_takes_a_listing_out_too(tmp_path):
    """`drop` names a listing's file below listings/; only that very listing goes, not a newer one of its split."""
    log = log_of(tmp_path, *LINES)
    log.drop(a_listing(sha256="1" * 64).file)
    assert list(log.read().listings) == [a_listing().key]
    log.drop(a_listing().file)
    assert log.read().listings == {}


def test_shards_after_the_last_listing_are_unfinished(tmp_path):
    """What was added since a listing was complete belongs to an extract that has not ended."""
    log = log_of(tmp_path, *LINES)
    assert log.read().unfinished == {SHARDS[1].name}
    log.name_listing(a_listing("val"))
    assert log.read().unfinished == set()


def test_a_dropped_shard_is_remembered_with_its_time(tmp_path):
    """So that nobody adopts its file again, and gc knows how long readers have had."""
    log = log_of(tmp_path, *LINES)
    log.drop(SHARDS[0].name)
    (at,) = log.read().dropped.values()
    assert abs(at - time.time()) < 60
    log.add(SHARDS[0])
    assert log.read().dropped == {}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_line_in_the_wrong_place_is_no_damage_but_an_empty_one_is(tmp_path, lost):
    """Lines stand for themselves; a blank line never came from here."""
    lines = [*LINES]
    lines[lost] = b"\n"
    with pytest.raises(CacheError, match=f"line {lost + 1} is damaged"):
        log_of(tmp_path, *lines).read()


def test_a_duplicate_add_is_harmless(tmp_path):
    """The same shard added twice is one shard, and takes one number."""
    found = log_of(tmp_path, LINES[0], *LINES, LINES[2]).read()
    assert (found.shards, found.shards_ever_added) == ((SHARDS[0], SHARDS[1]), 2)


def test_a_dropped_shard_is_gone_and_its_number_is_not_used_again(tmp_path):
    """`drop` takes a shard out; dropping one that is not there is harmless."""
    drop = seal_line({"drop": SHARDS[0].name})
    found = log_of(tmp_path, drop, *LINES, drop, drop).read()
    assert (found.shards, found.shards_ever_added) == ((SHARDS[1],), 2)


ADD = dataclasses.asdict(SHARDS[0])
LISTING = dataclasses.asdict(a_listing())


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"gc": {}},
        {"add": "00000-00000000.h5"},
        {"add": {}},
        {"add": {**ADD, "name": "../../etc/passwd"}},
        {"add": {**ADD, "rows": 10**12}},
        {"add": {**ADD, "colour": "red"}},
        {"drop": 3},
        {"listing": {}},
        {"listing": {**LISTING, "split": ["train"]}},
        {"listing": {**LISTING, "data_set": 3}},
        {"listing": {**LISTING, "data_set": "../../home"}},
        {"listing": {**LISTING, "variant": "/etc"}},
        {"listing": {**LISTING, "split": ""}},
        {"listing": {**LISTING, "sha256": "0" * 63 + "/"}},
    ],
)
def test_a_sealed_line_that_this_version_does_not_read_is_named(tmp_path, entry):
    """A newer version's line, or one that leads out of the cache, stops the reading; it is not passed over."""
    with pytest.raises(CacheError, match="line 2 cannot be read by this version"):
        log_of(tmp_path, LINES[0], seal_line(entry)).read()


@pytest.mark.parametrize("other", [a_shard(1, dim=3), a_shard(1, dtype="float16")], ids=["width", "dtype"])
def test_shards_of_one_store_are_of_one_kind(tmp_path, other):
    """A shard of another width or dtype than those before it belongs to another store."""
    with pytest.raises(CacheError, match="line 2"):
        log_of(tmp_path, LINES[0], seal_line({"add": dataclasses.asdict(other)})).read()


@given(st.data())
def test_any_beginning_of_a_log_is_a_beginning_of_the_store(tmp_path_factory, data):
    """Cut anywhere, a log says what had been committed by then: a prefix, never anything else."""
    numbers = data.draw(st.lists(st.integers(0, 3), max_size=6))
    whole = b"".join(seal_line({"add": dataclasses.asdict(SHARDS[number])}) for number in numbers)
    cut = data.draw(st.integers(0, len(whole)))
    found = log_of(tmp_path_factory.getbasetemp(), whole[:cut]).read()
    full = list(dict.fromkeys(numbers))
    assert [SHARDS.index(shard) for shard in found.shards] == full[: len(found.shards)]
    committed = (whole + b"\n")[: cut + 1].count(b"\n") if whole[cut : cut + 1] == b"\n" else whole[:cut].count(b"\n")
    assert len(found.shards) == len(set(numbers[:committed]))  # with or without its newline, a whole line counts


@pytest.mark.parametrize(
    "entry",
    [
        {"drop": "x", "at": "now"}, {"drop": "x", "at": True}, {"drop": "x", "at": -1}, {"drop": "x", "at": 10**400},
        {"drop": "x", "at": float("nan")}, {"drop": 3}, {"drop": None}, {"add": []}, {"add": {}}, {"listing": []},
        {"listing": {}}, {"drop": "x", "add": {}}, {"drop": "x", "listing": {}}, {},
        {"listing": {"data_set": "a", "variant": "all", "split": "train", "sha256": 3}},
        {"listing": {"data_set": "a", "variant": "all", "split": "train", "sha256": "ab" * 32, "more": 1}},
        {"listing": {"data_set": "..", "variant": "all", "split": "train", "sha256": "ab" * 32}},
    ],
)  # fmt: skip
def test_a_line_of_no_kind_or_of_two_is_refused_and_named(tmp_path, entry):
    """docs/format.md: a line of another kind, or with another key or value, is no line of this version."""
    log = log_of(tmp_path)
    log.path.write_bytes(seal_line(entry))
    with pytest.raises(CacheError, match="line 1"):
        log.read()


def test_adding_a_shard_again_changes_nothing_and_another_under_its_name_is_refused(tmp_path):
    """The same line twice is one shard; a line that says something else of it contradicts the first."""
    log = log_of(tmp_path)
    entry = {
        "name": "00000-abababab.h5", "rows": 2, "dim": 3, "dtype": "float32", "embeddings_offset": 0,
        "digests_offset": 24, "bytes": 88, "sha256": "ab" * 32, "digests_sha256": "cd" * 32,
    }  # fmt: skip
    log.path.write_bytes(seal_line({"add": entry}) * 2)
    assert [shard.rows for shard in log.read().shards] == [2]
    log.path.write_bytes(seal_line({"add": entry}) + seal_line({"add": {**entry, "rows": 1}}))
    with pytest.raises(CacheError, match="line 2"):
        log.read()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": None}, "split is missing"),
        ({"sha256": None}, "sha256 is missing"),
        ({"colour": "red"}, "there is no key 'colour'"),
        ({"sha256": 7}, "sha256 is 7, expected a text"),
    ],
)
def test_a_key_at_fault_is_named_in_plain_words(tmp_path, change, said):
    """A line without a key, with one too many, or with a number for a text, is refused with that key's name."""
    for kind, entry in (("listing", a_listing()), ("add", SHARDS[0])):
        fields = {**dataclasses.asdict(entry), **change}
        if kind == "add" and "split" in change:
            continue
        line = seal_line({kind: {name: value for name, value in fields.items() if value is not None}})
        with pytest.raises(CacheError, match=f"line 1 cannot be read by this version: {said}. `featcache verify`"):
            log_of(tmp_path, line).read()
