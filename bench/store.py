"""python bench/store.py

The store beside plain reading, beside sha256, and beside what else holds an array; at Drive&Act's size, and at a
hundred million rows. Figures and machine: docs/benchmarks.md.

- load: 259,865 x 768 float32 in listing order (`load`), as a second fold that re-deals the same clips of 49 frames
  (`load, clips re-dealt`), and in no order at all (`load, rows shuffled`); hashes known, but a store that was just
  opened: its log, its digests and their hashes are in the time. `read`: the same files with plain read, into an array
  that is as new. h5py, zarr and safetensors hold the same array; zarr in chunks of a shard's size, not compressed.
- first load: the same without the memory of the shards' hashes. `sha256`: hashing those bytes from memory, one thread.
- open: a store of 100,000,000 rows, its log and digests real, its shards sparse files; in a process of its own.
- no-op: `featcache extract` from the shell, over 260,000 image files that the cache knows.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
import zarr
from machine import Result, alternate, document, table
from PIL import Image

import featcache
from featcache.extraction.rows import RowStates
from featcache.files import StatLog
from featcache.files.file_stat import now_ns, read_file_stat
from featcache.files.sealed import seal_line
from featcache.listing.folder import list_folder
from featcache.listing.listing import Listing
from featcache.store import FeatureStore, create_store, find_stores
from featcache.store.index import pack_digests
from featcache.store.shard import Shard
from featcache.store.writer import SHARD_ROWS
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

ROWS, DIM, CLIP = 259_865, 768, 49
MANY = 100_000_000
FILES, CLASSES = 260_000, 34
TRUNK = ("--arch", "vit_nano_16", "--weights", "random", "--precision", "fp32")
NAMES = ("load", "open", "no-op")


def empty_store(cache: Path) -> FeatureStore:
    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="ab" * 32, transform=arch.transform)
    return create_store(cache, spec, weights_name="seeded.pth", stat_log=StatLog(cache))


def numbered(rows: int) -> np.ndarray:
    return pack_digests([hashlib.sha256(row.to_bytes(8, "little")).digest() for row in range(rows)])


# --- load --------------------------------------------------------------------------------------------------------


def load(scratch: Path, runs: int) -> tuple[list[Result], dict[str, float]]:
    rng = np.random.default_rng(0)
    digests, x = numbered(ROWS), rng.standard_normal((ROWS, DIM), dtype=np.float32)
    root = empty_store(scratch / "cache").root
    with FeatureStore.open(root, StatLog(scratch / "cache")).writer() as writer:
        for start in range(0, ROWS, SHARD_ROWS):
            writer.append(digests[start : start + SHARD_ROWS], x[start : start + SHARD_ROWS])
        writer.flush()
    files = sorted((root / "shards").iterdir())
    zarr.create_array(
        scratch / "peer.zarr", data=x, chunks=(SHARD_ROWS, DIM), compressors=None, filters=None, fill_value=0
    )
    safetensors.numpy.save_file({"x": x}, scratch / "peer.safetensors")

    clips = np.split(np.arange(ROWS), range(CLIP, ROWS, CLIP))
    redealt = np.concatenate([clips[clip] for clip in rng.permutation(len(clips))])
    shuffled = rng.permutation(ROWS)

    def opened(order: np.ndarray, *, known: bool) -> Callable[[], object]:
        nobody = scratch / "nothing is known here"
        wanted = digests[order]
        return lambda: FeatureStore.open(root, StatLog(scratch / "cache" if known else nobody)).load(wanted)

    in_order = np.arange(ROWS)
    for order in (in_order, redealt, shuffled):
        found = FeatureStore.open(root, StatLog(scratch / "cache"))
        assert np.array_equal(found.load(digests[order]), x[order])
        found.stat_log.flush()
    size = sum(file.stat().st_size for file in files)
    whole = np.concatenate([np.frombuffer(file.read_bytes(), dtype=np.uint8) for file in files])

    def read() -> None:
        out, at = np.empty(size, dtype=np.uint8), 0
        for file in files:
            with file.open("rb", buffering=0) as opened_file:
                at += opened_file.readinto(out[at : at + file.stat().st_size].data)
        assert at == size

    def h5py_slices() -> None:
        out, at = np.empty((ROWS, DIM), dtype=np.float32), 0
        for file in files:
            with h5py.File(file, "r") as opened_file:
                part = opened_file["embeddings"]
                out[at : at + len(part)] = part[:]
                at += len(part)

    tasks: dict[str, Callable[[], object]] = {
        "read": read,
        "load": opened(in_order, known=True),
        "load, clips re-dealt": opened(redealt, known=True),
        "load, rows shuffled": opened(shuffled, known=True),
        "h5py slices": h5py_slices,
        "zarr": lambda: zarr.open_array(scratch / "peer.zarr", mode="r")[:],
        "safetensors": lambda: safetensors.numpy.load_file(scratch / "peer.safetensors"),
        "sha256": lambda: hashlib.sha256(whole.data).digest(),
        "first load": opened(in_order, known=False),
        "verify": lambda: featcache.verify(cache=scratch / "cache"),
    }

    def touch() -> None:
        """Virtual machines give memory slowly that they have not given before: that falls on nobody."""
        np.ones(size, dtype=np.uint8)

    read()
    timed = {result.name: result for result in alternate(tasks, runs, before=touch)}
    seconds = {name: result.median for name, result in timed.items()}
    ratios = {
        "load_vs_read": seconds["read"] / seconds["load"],
        "redealt_vs_read": seconds["read"] / seconds["load, clips re-dealt"],
        "shuffled_vs_read": seconds["read"] / seconds["load, rows shuffled"],
        "load_vs_h5py": seconds["h5py slices"] / seconds["load"],
        "load_vs_zarr": seconds["zarr"] / seconds["load"],
        "load_vs_safetensors": seconds["safetensors"] / seconds["load"],
        "first_load_vs_sha256": seconds["sha256"] / seconds["first load"],
        "verify_vs_sha256": seconds["sha256"] / seconds["verify"],
    }
    return list(timed.values()), ratios


# --- open --------------------------------------------------------------------------------------------------------


def make_many(cache: Path, rows: int) -> None:
    """A store of so many rows: a whole log, real digests, and holes where the embeddings would be."""
    root = empty_store(cache).root
    lines = []
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        here = min(SHARD_ROWS, rows - start)
        digests = np.random.default_rng((1, number)).bytes(32 * here)
        end = 2048 + here * DIM * 4
        name = hashlib.sha256(digests).hexdigest()
        part = Shard(
            name=f"{number:05d}-{name[:8]}.h5", rows=here, dim=DIM, dtype="float32", embeddings_offset=2048,
            digests_offset=end, bytes=end + len(digests), sha256=name, digests_sha256=name,
        )  # fmt: skip
        with (root / "shards" / part.name).open("wb") as file:
            file.seek(end)
            file.write(digests)
        lines.append(seal_line({"add": {key: value for key, value in asdict(part).items() if value is not None}}))
    (root / "commits.jsonl").write_bytes(b"".join(lines))


def look_up(cache: Path) -> None:
    """Open it and ask; the only thing that this process does. One JSON document on stdout."""
    import time

    began = time.perf_counter()
    (store,) = find_stores(cache, StatLog(cache))
    read = time.perf_counter()
    store.holds(np.zeros((1, 32), dtype=np.uint8))
    opened = time.perf_counter()
    wanted = np.frombuffer(np.random.default_rng(2).bytes(32 * FILES), dtype=np.uint8).reshape(-1, 32).copy()
    known = np.sort(np.random.default_rng(3).choice(len(store.shards), FILES // 2))
    for number in np.unique(known):
        rows = np.flatnonzero(known == number)
        of = np.random.default_rng((1, number)).bytes(32 * store.shards[number].rows)
        wanted[rows] = np.frombuffer(of, dtype=np.uint8).reshape(-1, 32)[: len(rows)]
    asked = time.perf_counter()
    held = store.holds(wanted)
    done = time.perf_counter()
    one = [store.holds(wanted[row : row + 1]) for row in range(100)]
    last = time.perf_counter()
    assert held[: FILES // 2].all()
    assert not held[FILES // 2 :].any()
    assert all(found.all() for found in one)
    print(json.dumps({
        "rows": store.rows, "log": read - began, "open": opened - began, "look up": done - asked,
        "one": (last - done) / 100, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


def forget(folder: Path) -> None:
    """Take a folder's files out of the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_many(scratch: Path, runs: int, rows: int) -> tuple[list[Result], dict[str, float]]:
    cache = scratch / "many"
    make_many(cache, rows)
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(runs):
        for state in found:
            if state == "cold":
                forget(cache)
            command = [sys.executable, __file__, "--look-up", str(cache)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[state].append(json.loads(done.stdout))
            print(f"{state}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    results = [Result.of("rows", "rows", [found["warm"][0]["rows"]])]
    for state, runs_ in found.items():
        results += [
            Result.of(f"{what}, {state}", "s", [run[what] for run in runs_]) for what in ("log", "open", "look up")
        ]
    results.append(Result.of("look up one", "ms", [1000 * run["one"] for run in found["warm"]]))
    results.append(Result.of("peak memory", "GB", [run["peak"] / 1e9 for run in found["warm"]]))
    return results, {}


# --- no-op -------------------------------------------------------------------------------------------------------


def make_files(root: Path, files: int) -> Path:
    """So many different small images under one split, and the same ones (hard links) dealt to three."""
    split = {0: "val", 1: "test"}
    for number in range(files):
        name = f"class {number % CLASSES:02d}/{number:06d}.png"
        one, three = root / "one" / "train" / name, root / "three" / split.get(number % 6, "train") / name
        for path in (one, three):
            if number < 12 * CLASSES:
                path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.array([number >> shift & 255 for shift in (0, 8, 16)] * 16, dtype=np.uint8).reshape(4, 4, 3)
        Image.fromarray(picture).save(one, compress_level=1)
        os.link(one, three)
    return root


def settle(cache: Path, listings: Sequence[Listing]) -> None:
    """What an extract of these listings would leave in the cache, but for the embeddings: those are random."""
    known = StatLog(cache)
    (store,) = find_stores(cache, known)
    key = architecture("vit_nano_16").transform.key()
    for listing in listings:
        for row in range(len(listing)):
            path = listing.file(row)
            digest = hashlib.sha256(Path(path).read_bytes()).digest()
            status = read_file_stat(path)
            assert status is not None
            known.remember(path, status, digest, read_at=now_ns() + 10**10)
        rows = RowStates(listing, known.look_up([listing.file(row) for row in range(len(listing))]), key)
        with store.writer() as writer:
            todo = rows.extracted().digests[rows.missing(store, retry_failed=False)]
            for start in range(0, len(todo), SHARD_ROWS):
                part = todo[start : start + SHARD_ROWS]
                writer.append(
                    part, np.random.default_rng(0).standard_normal((len(part), store.dim or 0), dtype=np.float32)
                )
            writer.commit(rows.extracted())
        store = FeatureStore.open(store.root, known)
    known.flush()


def no_op(scratch: Path, runs: int, files: int) -> tuple[list[Result], dict[str, float]]:
    root, cache = make_files(scratch / "images", files), scratch / "known"

    def typed(*words: str) -> str:
        command = [sys.executable, "-X", "importtime", "-m", "featcache", *words, "--cache", str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + ("\ntorch was imported" if " torch\n" in done.stderr else "")

    one, three = ("--data", str(root / "one")), ("--data", str(root / "three"))
    typed("extract", *one, *TRUNK, "--limit", str(CLASSES))
    settle(cache, [list_folder(str(root / "one"), "train", data_set="one")])
    settle(cache, [list_folder(str(root / "three"), split, data_set="three") for split in ("train", "val", "test")])
    commands = {
        "no-op extract, one split": ("extract", "--split", "train", *one, *TRUNK, "--json"),
        "no-op extract, three splits": ("extract", *three, *TRUNK, "--json"),
    }
    for words in commands.values():
        typed(*words)
        said = typed(*words)
        assert '"embedded": 0' in said, said
        assert "torch was imported" not in said, said
    read = f"import featcache; featcache.load('train', data={str(root / 'one')!r}, cache={str(cache)!r})"
    tasks: dict[str, Callable[[], object]] = {
        name: partial(
            subprocess.run,
            [sys.executable, "-m", "featcache", *words, "--cache", str(cache)],
            check=True,
            capture_output=True,
        )
        for name, words in commands.items()
    }
    tasks["featcache.load, start-up included"] = lambda: subprocess.run([sys.executable, "-c", read], check=True)
    tasks["featcache --version"] = lambda: subprocess.run(
        [sys.executable, "-m", "featcache", "--version"], check=True, capture_output=True
    )
    return alternate(tasks, runs), {}


def main() -> None:
    parser = argparse.ArgumentParser(description="The store beside plain reading, and at a hundred million rows.")
    parser.add_argument("--only", choices=NAMES, action="append", help="this part alone; can be repeated")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of everything")
    parser.add_argument("--many", type=int, default=MANY, help="rows of the large store")
    parser.add_argument("--files", type=int, default=FILES, help="image files of the no-op extract")
    parser.add_argument(
        "--scratch", type=Path, help="where to work; 8 GB of a real disk (default: the temporary folder)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the tables")
    parser.add_argument("--look-up", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look_up is not None:
        look_up(args.look_up)
        return
    results: list[Result] = []
    ratios: dict[str, float] = {}
    for name in args.only or NAMES:
        scratch = Path(tempfile.mkdtemp(prefix="featcache-bench-", dir=args.scratch))
        try:
            if name == "load":
                more, of = load(scratch, args.runs)
            elif name == "open":
                more, of = open_many(scratch, args.runs, args.many)
            else:
                more, of = no_op(scratch, args.runs, args.files)
        finally:
            shutil.rmtree(scratch)
        results += more
        ratios |= of
    print(document(results, ratios) if args.json else table(results, ratios))


if __name__ == "__main__":
    main()
