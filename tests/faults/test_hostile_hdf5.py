"""HDF5 files from somebody else: refused, without opening or allocating what they ask for.

The log here is the attacker's as well: its hashes fit the hostile files, so that what is shown is what the parser's
guards refuse, and not that a hash was wrong.
"""

import hashlib
import os
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
from featcache.errors import CacheError
from featcache.files.sealed import seal_line, unseal_line
from featcache.store import CommitLog, commits, listing_files, listings
from tests.faults.conftest import reopened
from tests.faults.world import KEY, World

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
    with pytest.raises(CacheError, match="this listing cannot be read by this version"):
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
        for name, (dtype, dimensions) in listing_files._EXPECTED.items():
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


def test_the_shard_that_is_forged_here_would_be_read_if_it_were_right(hurt):
    """A sound file that is forged the same way is loaded: the refusals above refuse what is hostile."""
    forge_shard(hurt, hurt.shards[0].read_bytes())
    assert hurt.verify() == []
    hurt.same()
