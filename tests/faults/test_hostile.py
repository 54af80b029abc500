"""Caches, heads and HDF5 files from somebody else: refused, without opening, executing or allocating what they ask for.

The log here is the attacker's as well: its hashes fit the hostile files, so that what is shown is what the parser's
guards refuse, and not that a hash was wrong.
"""

import contextlib
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import featcache
from featcache.errors import CacheError, FeatcacheError
from featcache.files.sealed import seal_document, seal_line, unseal_document, unseal_line
from featcache.heads.saved import linear
from featcache.store import CommitLog, commits, listings
from tests.faults.conftest import reopened
from tests.faults.world import World, overwrite

KEY = ("digits", "all", "train")
ROOT = Path(__file__).parents[2]


def hdf5_file(fill: Callable[[h5py.File], object], place: Path) -> bytes:
    with h5py.File(place, "w", libver=("v110", "v110")) as file:
        fill(file)
    data = place.read_bytes()
    place.unlink()
    return data


def forge_shard(world: World, data: bytes, **fields: object) -> Path:
    """Put these bytes in the place of the first shard, with a log whose every hash fits."""
    log = world.store / commits.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    entry = unseal_line(lines[0][:-1])
    assert entry is not None
    old = world.store / "shards" / entry["add"]["name"]
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"00000-{sha256[:8]}.h5"
    old.unlink()
    (old.parent / name).write_bytes(data)
    forged = {**entry["add"], "name": name, "sha256": sha256, "bytes": len(data), **fields}
    log.write_bytes(seal_line({"add": forged}) + b"".join(lines[1:]))
    return old.parent / name


def forge_listing(world: World, data: bytes) -> None:
    """The same for the listing."""
    line = reopened(world).listings[KEY]
    forged = replace(line, sha256=hashlib.sha256(data).hexdigest())
    listings.listing_path(world.cache, forged).write_bytes(data)
    CommitLog(world.store).name_listing(forged)


def as_orphan(world: World, data: bytes) -> Path:
    """A published shard that the log does not know: what repair would adopt."""
    path = world.store / "shards" / f"00077-{hashlib.sha256(data).hexdigest()[:8]}.h5"
    path.write_bytes(data)
    return path


X, D = np.ones((2, 64), np.float32), np.full((2, 32), 7, np.uint8)
ODD: dict[str, dict[str, np.ndarray | None]] = {
    "another width": {"embeddings": X[:, :63], "digests": D},
    "another dtype": {"embeddings": X.astype("f8"), "digests": D},
    "big endian": {"embeddings": X.astype(">f4"), "digests": D},
    "fewer rows than digests": {"embeddings": X[:1], "digests": D},
    "digests of 31 bytes": {"embeddings": X, "digests": D[:, :31]},
    "no digests": {"embeddings": X},
    "one dataset more": {"embeddings": X, "digests": D, "more": D},
    "a group": {"embeddings": None, "digests": D},
    "nan": {"embeddings": X * np.nan, "digests": D},
}


def odd(file: h5py.File, kind: str) -> None:
    for name, array in ODD[kind].items():
        file.create_group(name) if array is None else file.create_dataset(name, data=array)


def refused_everywhere(world: World, data: bytes) -> int:
    """As a logged shard, as a listing, as an orphan: how often it was refused; nothing of it may be taken."""
    copies = [world.at(world.cache.with_name(f"copy{number}")) for number in range(3)]
    for copy in copies:
        shutil.copytree(world.cache, copy.cache)
    forge_shard(copies[0], data, digests_sha256=hashlib.sha256(bytes(64)).hexdigest(), embeddings_offset=0,
                digests_offset=0)  # fmt: skip
    assert {problem.kind for problem in copies[0].verify()} & {"hdf5", "damaged", "size", "log"}
    with pytest.raises(CacheError):
        copies[0].load()
    forge_listing(copies[1], data)
    assert any(problem.kind == "listing" for problem in copies[1].verify())
    with pytest.raises(CacheError, match="no listing that this version reads"):
        copies[1].load()
    orphan = as_orphan(copies[2], data)
    featcache.repair(cache=copies[2].cache)
    assert orphan.name not in {part.name for part in reopened(copies[2]).shards}
    copies[2].same()
    for copy in copies:
        shutil.rmtree(copy.cache)
    return 3


@pytest.mark.fault(10)
@pytest.mark.parametrize("kind", ODD)
def test_valid_hdf5_of_another_make(hurt, tmp_path, saw, kind):
    """Another shape, dtype, row count, set of names; with hashes that fit: refused as shard, as listing, as orphan."""
    data = hdf5_file(lambda file: odd(file, kind), tmp_path / "odd.h5")
    saw(f"valid HDF5: {kind}", "refused as a shard, a listing and an orphan", refused_everywhere(hurt, data))


def external(file: h5py.File, target: str) -> None:
    file.create_dataset("embeddings", shape=(2, 64), dtype="f4", external=[(target, 0, 512)])
    file.create_dataset("digests", data=D)


def virtual(file: h5py.File, target: str) -> None:
    layout = h5py.VirtualLayout((2, 64), "f4")
    layout[:] = h5py.VirtualSource(target, "embeddings", (2, 64))
    file.create_virtual_dataset("embeddings", layout)
    file.create_dataset("digests", data=D)


def external_link(file: h5py.File, target: str) -> None:
    file["embeddings"] = h5py.ExternalLink(target, "embeddings")
    file.create_dataset("digests", data=D)


def soft_link(file: h5py.File, target: str) -> None:
    file["embeddings"] = h5py.SoftLink("/digests")
    file.create_dataset("digests", data=D)


def filtered(file: h5py.File, target: str) -> None:
    file.create_dataset("embeddings", data=X, chunks=(1, 64), compression="gzip")
    file.create_dataset("digests", data=D)


LEADING_AWAY = [external, virtual, external_link, soft_link, filtered]

READ = """
import sys
from pathlib import Path
import featcache
for cache in sys.argv[2:]:
    problems = featcache.verify(cache=cache)
    assert problems, cache
    try:
        featcache.load("train", data=sys.argv[1], cache=cache)
    except featcache.CacheError:
        pass
    else:
        raise SystemExit(f"{cache} was loaded")
    featcache.repair(cache=cache)
"""


@pytest.mark.fault(12)
@pytest.mark.parametrize("lead", LEADING_AWAY)
def test_storage_that_leads_elsewhere(hurt, tmp_path, saw, lead):
    """External storage, virtual data sets, links, filters: refused by load, verify and repair. The target is a pipe
    that nobody writes to, so that whoever opened it would wait for ever; nobody does.
    """
    target = tmp_path / "target.h5"
    os.mkfifo(target)
    data = hdf5_file(lambda file: lead(file, str(target)), tmp_path / "hostile.h5")
    copies = [hurt.at(shutil.copytree(hurt.cache, tmp_path / name)) for name in ("shard", "listing")]
    forge_shard(copies[0], data, digests_sha256=hashlib.sha256(D.tobytes()).hexdigest(),
                embeddings_offset=0, digests_offset=data.index(D.tobytes()))  # fmt: skip
    forge_listing(copies[1], data)
    as_orphan(copies[1], data)
    words = [sys.executable, "-c", READ, str(hurt.images), *(str(copy.cache) for copy in copies)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    saw(
        f"HDF5 with {lead.__name__.replace('_', ' ')} (a shard, a listing, an orphan)",
        "refused, the target not opened",
        3,
    )


HUGE = """
import resource, sys
import h5py, featcache
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
def peak():  # kB; ru_maxrss would begin with what the process that forked this one held
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
before = peak()
try:
    featcache.load("train", data=sys.argv[1], cache=sys.argv[2])
except featcache.FeatcacheError:
    pass
else:
    raise SystemExit("it was loaded")
assert featcache.verify(cache=sys.argv[2])
featcache.repair(cache=sys.argv[2])
grown = peak() - before
print(grown // 1024)
"""


def huge_header(world: World, place: Path) -> None:
    data = hdf5_file(
        lambda file: (
            file.create_dataset("embeddings", shape=(10**12, 64), dtype="f4"),
            file.create_dataset("digests", shape=(10**12, 32), dtype="u1"),
        ),
        place,
    )
    forge_shard(world, data)
    as_orphan(world, data)


def huge_listing(world: World, place: Path) -> None:
    def fill(file: h5py.File) -> None:
        for name, (dtype, dimensions) in listings._EXPECTED.items():
            file.create_dataset(name, shape=(10**12, 32)[:dimensions], dtype=dtype)

    forge_listing(world, hdf5_file(fill, place))


def huge_line(world: World, place: Path) -> None:
    part = reopened(world).shards[0]
    fields = {**asdict(part), "rows": 10**12}
    log = world.store / commits.LOG_NAME
    log.write_bytes(seal_line({"add": fields}) + b"".join(log.read_bytes().splitlines(keepends=True)[1:]))


@pytest.mark.fault(13)
@pytest.mark.parametrize("make", [huge_header, huge_listing, huge_line])
def test_ten_to_the_twelfth_rows(hurt, tmp_path, saw, make):
    """A header, a listing, a line of the log that declares 10^12 rows: refused under a limit of 4 GiB of addresses, and
    the process grows by less than 100 MiB.
    """
    make(hurt, tmp_path / "huge.h5")
    words = [sys.executable, "-c", HUGE, str(hurt.images), str(hurt.cache)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
    saw(f"10^12 rows: {make.__name__.replace('_', ' ')}", "refused; nothing allocated")


FUZZ = """
import pickle, sys
import numpy as np
from pathlib import Path
from featcache.store import hdf5, listings, shard, check
from featcache.errors import CacheError
kind, work = sys.argv[1], Path(sys.argv[2])
entry, whole, places = pickle.loads((work / "case").read_bytes())
with open(work / "progress", "r+b", buffering=0) as progress:
    for number, (place, value) in enumerate(places):
        progress.seek(0); progress.write(b"%8d" % number)
        data = bytearray(whole); data[place] = value
        if kind == "listing":
            try:
                found = listings.decode(bytes(data))
            except (ValueError, KeyError, TypeError, IndexError):
                outcome = "refused"
            else:
                outcome = "as it was" if listings.encode(found) == whole else "WRONG"
        else:
            path = work / entry.name
            path.write_bytes(data)
            import os
            handle = os.open(path, os.O_RDONLY)
            wrong = check._compare_with_hdf5(handle, work, entry)
            os.close(handle)
            out = np.empty((entry.rows, entry.dim), np.float32)
            rows = np.arange(entry.rows)
            shard.gather(work, entry, rows, out, rows)
            right = whole[entry.embeddings_offset:][:out.nbytes] == out.tobytes()
            outcome = "WRONG" if not right else "refused" if wrong else "as it was"
        print(outcome, flush=True)
"""


@pytest.mark.fault(14)
@pytest.mark.parametrize("kind", ["shard", "listing"])
def test_metadata_fuzz_without_the_hash_check(small, tmp_path, saw, portion, kind):
    """A byte of the HDF5 metadata is replaced and the file given to the readers as if its hash were right: refused, or
    read as it was. Never other values; a crash or a hang of libhdf5 stays in its process.
    """
    store = reopened(small)
    if kind == "shard":
        entry, whole = store.shards[0], small.shards[0].read_bytes()
        arrays = [(entry.embeddings_offset, entry.rows * entry.row_bytes), (entry.digests_offset, entry.rows * 32)]
    else:
        entry, whole = None, small.listing_file.read_bytes()
        with h5py.File(small.listing_file, "r") as file:
            arrays = [(file[name].id.get_offset() or 0, file[name].size * file[name].dtype.itemsize) for name in file]
    inside = {place for start, size in arrays for place in range(start, start + size)}
    metadata = [place for place in range(len(whole)) if place not in inside]
    dice = random.Random(kind)
    places = [(dice.choice(metadata), dice.randrange(256)) for _ in range(portion(6000, 400))]
    places = [(place, value) for place, value in places if whole[place] != value]
    crashed = hung = 0
    said: list[str] = []
    while places:
        (tmp_path / "case").write_bytes(pickle.dumps((entry, whole, places)))
        (tmp_path / "progress").write_bytes(b" " * 8)
        words = [sys.executable, "-c", FUZZ, kind, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60 + len(places) / 50, env=environment)
            said += done.stdout.split("\n")[:-1]
            if done.returncode == 0:
                break
            assert done.returncode < 0, done.stderr
            crashed += 1
        except subprocess.TimeoutExpired as expired:
            said += (expired.stdout or b"").decode().split("\n")[:-1]
            hung += 1
        places = places[int((tmp_path / "progress").read_text() or 0) + 1 :]
    assert "WRONG" not in said
    for outcome in ("refused", "as it was"):
        assert said.count(outcome) > 0
        saw(f"a byte of the HDF5 metadata of a {kind}", outcome, said.count(outcome))
    for outcome, times in (("the process crashed, and it alone", crashed), ("the process hung, and it alone", hung)):
        if times:
            saw(f"a byte of the HDF5 metadata of a {kind}", outcome, times)


BAD_NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b.h5",
    "00000-5d41402a.h5/../x",
    "00000-5d41402a.h5\n",
]


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_shard_that_is_named_out_of_its_folder(hurt, saw, name):
    """A line whose shard stands elsewhere is no line: the log is refused, and the file is never opened."""
    fields = {**asdict(reopened(hurt).shards[0]), "name": name}
    with (hurt.store / commits.LOG_NAME).open("ab") as log:
        log.write(seal_line({"add": fields}))
    for ask in (hurt.load, hurt.extract):
        with pytest.raises(CacheError, match="name or hash is malformed"):
            ask()
    assert hurt.verify()
    saw("a shard's name in the log that leads elsewhere", "the line is refused")


@pytest.mark.fault(15)
def test_a_dropped_name_that_leads_elsewhere_removes_nothing(hurt, tmp_path, saw):
    """Gc removes the files of dropped shards: of names that are a shard's, in the store's folder, alone."""
    precious = tmp_path / "precious.h5"
    precious.write_bytes(b"precious")
    for name in (f"../../../../{precious.name}", str(precious), "../trunk.json", "../commits.jsonl"):
        with (hurt.store / commits.LOG_NAME).open("ab") as log:
            log.write(seal_line({"drop": name, "at": 0}))
        featcache.gc(cache=hurt.cache, apply=True)
        saw("a drop line that names a file elsewhere", "nothing removed")
    assert precious.read_bytes() == b"precious"
    hurt.same()


@pytest.mark.fault(15)
@pytest.mark.parametrize("what", ["a shard", "a listing", "trunk.json", "commits.jsonl", "stat.log", "weights.json"])
def test_a_link_in_the_place_of_a_file(hurt, tmp_path, saw, what):
    """A symbolic link, even to the right bytes: not followed for reading, and never written through."""
    path = {"a shard": hurt.shards[0], "a listing": hurt.listing_file}.get(what) or next(hurt.cache.rglob(what))
    target = tmp_path / "target"
    shutil.copy(path, target)
    before = target.read_bytes()
    path.unlink()
    path.symlink_to(target)
    if what == "weights.json":  # which loading does not need
        hurt.same()
    else:
        with pytest.raises(FeatcacheError):
            hurt.load()
    if what not in ("stat.log", "weights.json"):
        assert hurt.verify()
    with contextlib.suppress(FeatcacheError):
        hurt.extract()
    assert target.read_bytes() == before
    saw(f"a symbolic link in the place of {what}", "not followed; its target untouched")


@pytest.mark.fault(15)
def test_a_listing_line_that_leads_elsewhere(hurt, saw):
    """Names of data set, variant and split with .. or / are refused in the log and in the listing's own text."""
    line = asdict(reopened(hurt).listings[KEY])
    for field in ("data_set", "variant", "split"):
        for bad in ("../..", "/etc", "a/b", ".."):
            with (hurt.store / commits.LOG_NAME).open("r+b") as log:
                whole = log.read()
                log.write(seal_line({"listing": {**line, field: bad}}))
            with pytest.raises(CacheError, match="is no name of a listing"):
                reopened(hurt)
            overwrite(hurt.store / commits.LOG_NAME, whole)
            saw("a listing's name in the log that leads elsewhere", "the line is refused")
    hurt.same()


class Canary:
    """Unpickled, it sings."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.fault(16)
def test_a_head_that_carries_pickle(hurt, tmp_path, saw):
    """Pickle in the place of any of a head's files, its checksums put right: refused, nothing executed."""
    featcache.fit_head(0.1, data=str(hurt.images), cache=hurt.cache, epochs=2, check_seconds=None, device="cpu")
    canary = tmp_path / "canary"
    song = pickle.dumps(Canary(canary))
    pickle.loads(song)
    assert canary.exists()
    canary.unlink()
    (folder,) = {path.parent for path in hurt.cache.rglob("head.json")}
    document = unseal_document((folder / "head.json").read_bytes())
    assert document is not None
    sums = [name for name in document if name.endswith("sha256")]
    for file in ("head.safetensors", "head.json", "history.csv"):
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        overwrite(folder / file, song)
        if file == "head.safetensors":
            key = next(name for name in sums if document[name] == hashlib.sha256(whole[folder / file]).hexdigest())
            forged = {**document, key: hashlib.sha256(song).hexdigest()}
            overwrite(folder / "head.json", seal_document(forged))
        try:
            linear.load_head(folder)
            read = True
        except CacheError:
            read = False
        assert not read or file == "history.csv"  # which no head is read from
        assert hurt.verify()
        assert not canary.exists()
        saw(f"pickle in {file}", "refused or not read; not executed")
        for path, data in whole.items():
            overwrite(path, data)
    assert hurt.verify() == []


@pytest.mark.fault(16)
def test_weights_that_carry_pickle(small, tmp_path, saw):
    """A checkpoint that would run code when it is unpickled: exit 5 (weights out of reach) or 2, nothing executed."""
    import torch

    canary = tmp_path / "canary"
    for name, save in (
        ("plain.pth", lambda path: path.write_bytes(pickle.dumps(Canary(canary)))),
        ("zip.pth", lambda path: torch.save({"conv_proj.weight": Canary(canary)}, path)),
    ):
        save(tmp_path / name)
        world = World(small.images, tmp_path / "cache", tmp_path / name)
        with pytest.raises(FeatcacheError) as told:
            world.extract()
        assert told.value.exit_code in (2, 3, 4, 5)
        assert not canary.exists()
        saw("pickle in a file of weights", "refused; not executed")


@pytest.mark.fault(30)
def test_three_ways_to_read_a_row(small, saw, portion, tmp_path):
    """h5py, np.memmap at the log's offset, and load (pread and memmap): bit-equal for random index sets, with repeated
    rows and none; over float32 and float16.
    """
    dice = np.random.default_rng(4)
    half = small.at(tmp_path / "half")
    half.extract(stored="float16")
    for world in (small, half):
        store = reopened(world)
        parts, everything = store.shards, []
        for part in parts:
            path = store.shard_folder / part.name
            mapped = np.memmap(path, part.dtype, "r", part.embeddings_offset, (part.rows, part.dim))
            with h5py.File(path, "r") as file:
                assert file["embeddings"][...].tobytes() == mapped.tobytes()
                everything += list(zip(file["digests"][...], mapped.astype(np.float32), strict=True))
        digests = np.array([digest for digest, _ in everything])
        x = np.array([row for _, row in everything])
        for _ in range(portion(5000, 300)):
            rows = dice.integers(0, len(x), dice.integers(0, 12))
            assert store.load(digests[rows]).tobytes() == x[rows].tobytes()
            saw(f"a random set of rows, {parts[0].dtype}", "h5py, memmap and load bit-equal")
        unknown = digests[:1] ^ 1
        with pytest.raises(CacheError, match="not in this store"):
            store.load(np.concatenate([digests, unknown]))


def test_the_shard_that_is_forged_here_would_be_read_if_it_were_right(hurt):
    """A sound file that is forged the same way is loaded: the refusals above refuse what is hostile."""
    forge_shard(hurt, hurt.shards[0].read_bytes())
    assert hurt.verify() == []
    hurt.same()
