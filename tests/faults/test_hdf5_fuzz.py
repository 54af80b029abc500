"""The metadata of an HDF5 file at random, and three ways to read what is in one."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from featcache.errors import CacheError
from tests.faults.conftest import reopened

ROOT = Path(__file__).parents[2]

FUZZ = """
import pickle, sys
import numpy as np
from pathlib import Path
from featcache.store import hdf5, listing_files, listings, shard, check
from featcache.errors import CacheError
kind, work = sys.argv[1], Path(sys.argv[2])
entry, whole, places = pickle.loads((work / "case").read_bytes())
with open(work / "progress", "r+b", buffering=0) as progress:
    for number, (place, value) in enumerate(places):
        progress.seek(0); progress.write(b"%8d" % number)
        data = bytearray(whole); data[place] = value
        if kind == "listing":
            try:
                found = listings.decode_listing(bytes(data))
            except (ValueError, KeyError, TypeError, IndexError):
                outcome = "refused"
            else:
                outcome = "as it was" if listings.encode_listing(found) == whole else "WRONG"
        else:
            path = work / entry.name
            path.write_bytes(data)
            import os
            handle = os.open(path, os.O_RDONLY)
            wrong = check._compare_with_hdf5(handle, work, entry)
            os.close(handle)
            out = np.empty((entry.rows, entry.dim), np.float32)
            rows = np.arange(entry.rows)
            shard.gather_rows(work, entry, rows, out, rows)
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
