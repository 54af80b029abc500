"""Files that are no longer what they were: bits, ends, places."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

import featcache
from featcache.errors import CacheError, FeatcacheError
from featcache.files import StatLog
from featcache.heads.saved import linear, run_log
from featcache.maintenance.verification import run_verification
from featcache.store import find_stores
from tests.faults.conftest import reopened
from tests.faults.world import World, overwrite


@pytest.mark.fault(7)
def test_every_bit_of_a_small_shard(hurt, saw, portion):
    """One bit of the file flipped, each in turn: no embedding is read from it."""
    path = hurt.shards[0]
    data, store = path.read_bytes(), reopened(hurt)
    digests = store.listing(("digits", "all", "train")).digests
    path.chmod(0o644)
    for bit in range(0, len(data) * 8, portion(1, 23)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        store = reopened(hurt)
        with pytest.raises(CacheError, match=path.name):
            store.load(digests)
        saw("one bit of a shard", "refused before use, the shard named")
    path.write_bytes(data)
    assert reopened(hurt).load(digests).tobytes() == hurt.truth["train"].x.tobytes()


MEMORIES = ("stat.log", "weights.json")  # what featcache remembers; lost, it costs a reading
UNREAD = (".lock", ".runs.jsonl.lock")  # never read: they have no bytes


@pytest.fixture
def whole_cache(small, tmp_path) -> World:
    """With a head, a second split's worth of files, and everything else that a cache can hold."""
    world = small.at(shutil.copytree(small.cache, tmp_path / "whole"))
    for lr in (0.1, 0.2):
        featcache.fit_head(lr, **where(world), epochs=2, check_seconds=None, device="cpu")
    return world


def where(world: World) -> dict[str, object]:
    return {"data": str(world.images), "cache": world.cache}


def heads_of(world: World) -> dict[str, bytes]:
    """Every head as it is read: name -> its weights."""
    found = {}
    for store in find_stores(world.cache, StatLog(world.cache / "nothing")):
        for run in run_log.read_runs(store, "digits", "all"):
            for name in run.heads:
                head = linear.load_head(store.root / "heads" / "digits" / "all" / name)
                found[name] = head.head.weight.tobytes() + head.head.bias.tobytes() + repr(head.head.config).encode()
    return found


@pytest.mark.fault(7)
def test_random_bits_of_every_file(whole_cache, saw, portion):
    """A bit anywhere in a cache: verify names the file (or notes a memory that is lost), and what is read is the truth
    or an error. Harmless are the bytes of stat.log and weights.json alone: memories, each line with its own checksum.
    """
    world, dice, kinds = whole_cache, random.Random(3), Counter()
    files = [path for path in sorted(world.cache.rglob("*")) if path.is_file() and path.name not in UNREAD]
    sizes = [path.stat().st_size for path in files]
    assert {path.name.split("-")[0] for path in files} >= {
        "trunk.json",
        "commits.jsonl",
        "stat.log",
        "head.json",
        "00000",
    }
    heads, truth = heads_of(world), world.committed()
    assert len(heads) == 2
    flips = portion(10_000, 400)
    for turn in range(flips):
        # Half of them by size, as a disk would; half of them spread over the files, small ones too.
        path = dice.choices(files, sizes)[0] if turn % 2 else dice.choice(files)
        data = path.read_bytes()
        bit = dice.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        overwrite(path, bytes(damaged))
        place = f"bit {bit} of {path.relative_to(world.cache)}"
        found = run_verification(cache=world.cache)
        relative = str(path.relative_to(world.cache))
        if path.name in MEMORIES:
            assert found.problems == [], place
            kind = f"a bit of {path.name}"
            outcome = "harmless: noted, and read once more" if found.notes else "harmless: an unused byte"
        else:
            assert found.problems, f"{place} was not detected"
            kind = f"a bit of {'listings' if relative.startswith('listings') else kind_of(path)}"
            outcome = "named by verify; what is read is right or an error"
        for read, right in ((world.committed, truth), (lambda: heads_of(world), heads)):
            try:
                rows = read()
            except FeatcacheError:
                continue
            assert rows.items() <= right.items(), f"{place} gave a wrong row"
        try:
            features = world.load()
        except FeatcacheError:
            features = None
        if features is not None:
            expected = world.truth["train"]
            assert features.x.tobytes() == expected.x.tobytes(), place
            assert (features.paths, features.y.tobytes()) == (expected.paths, expected.y.tobytes()), place
        overwrite(path, data)
        kinds[outcome] += 1
        saw(kind, outcome)
    assert world.verify() == []
    assert len(kinds) > 1


def kind_of(path: Path) -> str:
    return {"shards": "a shard"}.get(path.parent.name, path.name)


def states(log: bytes) -> set[bytes]:
    """Return what a log once was: its first lines, the last of them with or without its newline."""
    lines = log.splitlines(keepends=True)
    whole = {b"".join(lines[:count]) for count in range(len(lines) + 1)}
    return whole | {state.removesuffix(b"\n") for state in whole}


HURTS = {
    "cut by 1 byte": lambda data: data[:-1],
    "cut by 4,096 bytes": lambda data: data[:-4096] if len(data) > 4096 else data[:1],
    "cut to half": lambda data: data[: len(data) // 2],
    "emptied": lambda _: b"",
    "a zeroed tail": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "junk appended": lambda data: data + b"junk",
}


@pytest.mark.fault(8)
@pytest.mark.parametrize("how", HURTS)
def test_a_file_of_another_length_or_end(whole_cache, saw, how):
    """Every file in turn: verify names it, and nothing wrong is read; repair, then extract, and all is as it was."""
    world = whole_cache
    for path in sorted(path for path in world.cache.rglob("*") if path.is_file() and path.name not in UNREAD):
        data = path.read_bytes()
        overwrite(path, HURTS[how](data))
        found = run_verification(cache=world.cache)
        only_newline = path.suffix.startswith(".json") and how == "cut by 1 byte"  # what stands before it is whole
        told = found.problems
        if path.suffix == ".jsonl":  # a log that ends amid a line is as a crash leaves it: noted, and read up to there
            told = found.problems + found.notes
        left = HURTS[how](data)
        earlier = path.suffix == ".jsonl" and left in states(data)
        if path.name not in MEMORIES and not only_newline and not earlier:
            assert [one for one in told if path.name in one.message or path.parent.name in one.message], path
        if path.suffix == ".h5" and "shards" in path.parts:
            with pytest.raises(CacheError, match=path.name):
                world.load()
        try:
            assert world.load().x.tobytes() == world.truth["train"].x.tobytes()
            outcome = "what is read is right"
        except FeatcacheError:
            outcome = "an error that names it"
        saw(f"{kind_of(path) if path.suffix != '.h5' or 'shards' in path.parts else 'a listing'}, {how}", outcome)
        overwrite(path, data)
    assert world.verify() == []


@pytest.mark.fault(9)
def test_a_shard_that_stands_elsewhere(hurt, small, saw):
    """Deleted, renamed, swapped with another, another's copy in its place: an error that names a shard, never a row."""
    one, other = hurt.shards[:2]
    first, second = one.read_bytes(), other.read_bytes()

    def deleted() -> None:
        one.unlink()

    def renamed() -> None:
        one.rename(one.with_name("00009-" + one.name[6:]))

    def swapped() -> None:
        overwrite(one, second)
        overwrite(other, first)

    def copied() -> None:
        overwrite(one, second)

    for harm in (deleted, renamed, swapped, copied):
        harm()
        with pytest.raises(CacheError, match=one.name):
            hurt.load()
        assert any(one.name in problem.message for problem in hurt.verify())
        with pytest.raises(CacheError):
            hurt.extract()
        featcache.repair(cache=hurt.cache)
        hurt.complete()
        saw(f"a shard {harm.__name__}", "an error that names it; repaired, extracted: complete")
        shutil.rmtree(hurt.cache)
        shutil.copytree(small.cache, hurt.cache)


@pytest.mark.fault(9)
def test_a_listing_that_stands_elsewhere(hurt, saw):
    """Deleted, or another listing in its place: an error; the next extract writes it again and embeds nothing."""
    path = hurt.listing_file
    other = hurt.at(hurt.cache.with_name("other"))
    other.extract(limit=3)
    for harm in ("deleted", "swapped"):
        if harm == "swapped":
            overwrite(path, other.listing_file.read_bytes())
        else:
            path.unlink()
        with pytest.raises(CacheError, match="featcache extract --split train"):
            hurt.load()
        assert hurt.verify()
        assert hurt.extract()[0].embedded == 0
        hurt.complete()
        saw(f"a listing {harm}", "an error with the way out; extract writes it again, nothing embedded")
