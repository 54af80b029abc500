"""python bench/scale.py

What grows with the rows of a cache, and how: open, a million questions, a listing, gc, verify --quick, the replay of
the log, and what an extract plans, each in a process of its own, at ten times the rows each time; seconds of the clock,
of processor time, and the largest resident size above that of a process without rows. Then what bounds an extract
whose trunk costs nothing. Figures and machine: docs/benchmarks.md; what follows for 10^9 rows:
docs/guides/internet-scale.md.

- Rows are 4 float16 wide, so that the embeddings do not hide the rest; digests, log, listings and shards are real.
- Above 10^7 rows the embeddings are holes in their files, and nothing is said of publishing.
- ceiling: the sha256 of the rows' digests, one thread, which alternates with the others at each size.
- The exponent is that of the last two sizes: 1.0 is ten times for ten times the rows.
- plan is what an extract does before the first image: the memory of the files (`stat.log`) and the store are asked
  about every row. Its files are real and empty; there are at most --files of them.
- pipeline: `featcache.extract` of --images images of 8 pixels by a trunk of one convolution, by 1, 2 and 4 workers.
- --bucket URL: the pipeline once more, into this cache (an object store, where featcache has one).
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.files import KnownFile, StatLog, now_ns, read_file_stat
from featcache.listing import CodedColumn, Listing, TextColumn
from featcache.store import CommitLog, ExtractedListing, FeatureStore, create_store, find_stores, plan_compaction

DIM, CLASSES, MILLION, SHARD = 4, 1_000, 1_000_000, 16_384
REAL = 10_000_000  # rows, up to which the writer writes the store; the embeddings of a larger one are holes
TASKS = ("replay", "open", "holds", "listing", "gc", "verify")


# --- the cache ---------------------------------------------------------------------------------------------------


def digests_of(shard: int, rows: int) -> npt.NDArray[np.uint8]:
    """Return the digests of a shard's rows, which can be made again."""
    random = np.frombuffer(np.random.default_rng((1, shard)).bytes(32 * rows), dtype=np.uint8)
    return random.reshape(rows, 32)


def shards(rows: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the rows of each shard."""
    for number, start in enumerate(range(0, rows, SHARD)):
        yield number, min(SHARD, rows - start)


def names_of(first: int, count: int) -> TextColumn:
    """Return paths such as "train/0012/000000012.jpg", made without one str a row."""
    text = np.frombuffer(b"train/0000/000000000.jpg\0", dtype=np.uint8)
    packed = np.tile(text, (count, 1))
    for start in range(0, count, MILLION):
        part = packed[start : start + MILLION]
        rows = np.arange(first + start, first + start + len(part))
        for width, place, numbers in ((4, 6, rows % CLASSES), (9, 11, rows)):
            for digit in range(width):
                part[:, place + digit] = 48 + numbers // 10 ** (width - 1 - digit) % 10
    return TextColumn(packed.reshape(-1), np.arange(1, count + 1) * len(text) - 1)


def listing_of(split: str, first: int, count: int) -> Listing:
    """Return a listing of so many rows."""
    none = CodedColumn(("",), np.zeros(count, dtype=np.int32))
    return Listing(
        data_set="scale", variant="all", split=split, root="/data", classes=tuple(f"{n:04d}" for n in range(CLASSES)),
        paths=names_of(first, count), labels=np.arange(first, first + count) % CLASSES, clips=none, subjects=none,
    )  # fmt: skip


def write_holes(store: FeatureStore, rows: int) -> None:
    """Write shards whose digests are real and whose embeddings are holes of a sparse file, and their log."""
    import hashlib
    from dataclasses import asdict

    from featcache.files.sealed import seal_line
    from featcache.store import Shard

    store.shard_folder.mkdir(exist_ok=True)
    with CommitLog(store.root).path.open("ab") as log:
        for number, here in shards(rows):
            data, end = digests_of(number, here).tobytes(), 2048 + here * DIM * 2
            sha256 = hashlib.sha256(data).hexdigest()
            part = Shard(
                name=f"{number:05d}-{sha256[:8]}.h5", rows=here, dim=DIM, dtype="float16", embeddings_offset=2048,
                digests_offset=end, bytes=end + len(data), sha256=sha256, digests_sha256=sha256,
            )  # fmt: skip
            with (store.shard_folder / part.name).open("wb") as file:
                file.seek(end)
                file.write(data)
            log.write(seal_line({"add": {key: value for key, value in asdict(part).items() if value is not None}}))


def make(cache: Path, rows: int, listing_rows: int) -> dict[str, float]:
    """Write a store of so many rows and the listings of all of them; return the seconds of both."""
    from featcache.trunks.architectures import architecture
    from featcache.trunks.spec import TrunkSpec

    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="ab" * 32, transform=arch.transform, stored="float16")
    store = create_store(cache, spec, weights_name="seeded.pth", stat_log=StatLog(cache))
    none = CodedColumn(("",), np.zeros(0, dtype=np.int32))
    begun = time.perf_counter()
    if rows > REAL:
        write_holes(store, rows)
    with store.writer(shard_seconds=1e9) as writer:
        for number, here in shards(rows) if rows <= REAL else ():
            writer.append(digests_of(number, here), np.ones((here, DIM), dtype=np.float32))
        writer.flush()
        published = time.perf_counter()
        for place, first in enumerate(range(0, rows, listing_rows)):
            count = min(listing_rows, rows - first)
            digests = np.empty((count, 32), dtype=np.uint8)
            for number, here in shards(rows):
                start, end = number * SHARD - first, number * SHARD + here - first
                if end > 0 and start < count:
                    part = digests_of(number, here)[max(0, -start) : here - max(0, end - count)]
                    digests[max(0, start) : max(0, start) + len(part)] = part
            none = CodedColumn(("",), np.zeros(count, dtype=np.int32))
            writer.commit(ExtractedListing(listing_of(f"part{place}", first, count), digests, none))
        return {"publish": published - begun, "commit": time.perf_counter() - published}


# --- one task in one process -------------------------------------------------------------------------------------


def the_store(cache: Path) -> FeatureStore:
    """Return the cache's only store."""
    (store,) = find_stores(cache, StatLog(cache))
    return store


def ask_a_million(cache: Path) -> Callable[[], object]:
    """Return the task of asking about a million digests in no order, half of which are held."""
    store = the_store(cache)
    wanted = np.frombuffer(np.random.default_rng(2).bytes(32 * MILLION), dtype=np.uint8).reshape(-1, 32).copy()
    of_shard = np.sort(np.random.default_rng(3).integers(0, len(store.shards), MILLION // 2))
    for number in np.unique(of_shard):
        rows = np.flatnonzero(of_shard == number)
        there = digests_of(int(number), store.shards[number].rows)
        wanted[rows] = there[np.arange(len(rows)) % len(there)]
    wanted = wanted[np.random.default_rng(4).permutation(MILLION)]
    store.holds(wanted[:1])

    def ask() -> None:
        assert store.holds(wanted).sum() == MILLION // 2

    return ask


def read_listings(cache: Path) -> object:
    """Read every listing, and look at each column of it."""
    store = the_store(cache)
    for key in store.listings:
        extracted = store.listing(key)
        listing = extracted.listing
        assert len(extracted.embedded) == len(listing) == len(listing.support()[listing.labels])
        assert listing.paths[0].startswith("train/")
        assert listing.paths[-1].endswith(".jpg")
    return store


def prepare_task(task: str, cache: Path) -> Callable[[], object]:
    """Return a task, what it needs done."""
    import featcache

    store = the_store(cache)
    nothing = np.zeros((1, 32), dtype=np.uint8)
    return {
        "replay": lambda: CommitLog(store.root).read(),
        "open": lambda: the_store(cache).holds(nothing),
        "holds": ask_a_million(cache) if task == "holds" else lambda: None,
        "listing": lambda: read_listings(cache),
        "gc": lambda: plan_compaction(the_store(cache)),
        "verify": lambda: featcache.verify(cache=cache, depth="quick"),
    }[task]


def plan_rows(cache: Path, root: Path, files: int) -> Callable[[], object]:
    """Return what an extract does before its first image: each row is looked up in the memory and in the store."""
    from featcache.extraction.rows import RowStates

    listing = Listing(
        data_set="scale", variant="all", split="train", root=str(root), classes=("a",), paths=file_names(files),
        labels=np.zeros(files, dtype=np.int64), clips=CodedColumn(("",), np.zeros(files, dtype=np.int32)),
        subjects=CodedColumn(("",), np.zeros(files, dtype=np.int32)),
    )  # fmt: skip
    store = the_store(cache)

    def plan() -> None:
        rows = RowStates.remembered(listing, StatLog(cache), "")
        assert len(rows.missing(store, retry_failed=False)) == files

    return plan


def file_names(files: int) -> TextColumn:
    """Return the names of the planned files: a thousand in a folder."""
    return TextColumn.pack(f"{number // 1000:06d}/{number % 1000:03d}.jpg" for number in range(files))


def make_files(cache: Path, root: Path, files: int) -> None:
    """Make empty files, and the memory of them as if each had been read."""
    known = StatLog(cache)
    for number, name in enumerate(file_names(files)):
        path = root / name
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        status = read_file_stat(str(path))
        assert status is not None
        digest = number.to_bytes(32, "big")
        known.remember(str(path), status, digest, read_at=now_ns() + 10**10)
        assert known.find(str(path), status) == KnownFile(status, digest)
    known.flush()


def measured(task: Callable[[], object]) -> dict[str, float]:
    """Return seconds and processor time of a task, and by how much the process grew, MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    before, begun, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    task()
    seconds, processor = time.perf_counter() - begun, time.process_time() - cpu
    return {"s": seconds, "CPU s": processor, "MB": max(0.0, resident("VmHWM") - before)}


def resident(name: str) -> float:
    """Return a size of this process, MB: pages of mapped files count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def run_in_process(*words: str) -> dict[str, Any]:
    """Return what this script prints when it does one thing in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(" ".join(words[:2]), done.stdout.strip(), file=sys.stderr, flush=True)
    return found


def hash_digests(rows: int) -> dict[str, float]:
    """Return what hashing 32 bytes a row costs: the ceiling of all that looks at each."""
    import hashlib

    block = np.ones((min(rows, 1 << 20), 32), dtype=np.uint8)
    return measured(lambda: [hashlib.sha256(block[: rows - at].data) for at in range(0, rows, len(block))])


# --- growth ------------------------------------------------------------------------------------------------------


def grow(scratch: Path, sizes: list[int], runs: int, listing_rows: int, files: int) -> dict[str, dict[int, list[Any]]]:
    """Return what every task measured at every size."""
    found: dict[str, dict[int, list[Any]]] = {}
    for rows in sizes:
        cache = scratch / f"{rows}"
        taken = run_in_process("--make", str(cache), "--rows", str(rows), "--listing-rows", str(listing_rows))
        for part, seconds in taken.items() if rows <= REAL else ():
            found.setdefault(part, {})[rows] = [{"s": seconds}]
        if rows <= files:
            run_in_process("--make-files", str(cache), "--rows", str(rows))
        for _ in range(runs):
            found.setdefault("ceiling", {}).setdefault(rows, []).append(hash_digests(rows))
            for task in TASKS:
                found.setdefault(task, {}).setdefault(rows, []).append(run_in_process("--task", task, str(cache)))
            if rows <= files:
                planned = run_in_process("--task", "plan", str(cache), "--rows", str(rows))
                found.setdefault("plan", {}).setdefault(rows, []).append(planned)
        shutil.rmtree(cache)
    return found


def exponent(values: dict[int, float]) -> float:
    """Return the exponent between the last two sizes; nan where one is too small to say."""
    if len(values) < 2 or min(list(values.values())[-2:]) <= 0:
        return float("nan")
    (a, low), (b, high) = list(values.items())[-2:]
    return math.log(high / low) / math.log(b / a)


def show_growth(found: dict[str, dict[int, list[Any]]]) -> tuple[list[Any], dict[str, float], str]:
    """Return results and ratios, and the table of growth as text."""
    from machine import Result

    results: list[Any] = []
    ratios: dict[str, float] = {}
    sizes = list(found["ceiling"])
    lines = [f"{'':22} {'':6}" + "".join(f"{size:>11,}" for size in sizes) + f"{'exponent':>10}"]
    for task, by_size in found.items():
        for unit in next(iter(by_size.values()))[0]:
            made = {
                rows: Result.of(f"{task}, {rows:,} rows", unit, [run[unit] for run in runs])
                for rows, runs in by_size.items()
            }
            results += made.values()
            medians = {rows: result.median for rows, result in made.items()}
            ratios[f"{task}: exponent of {unit}"] = exponent(medians)
            cells = "".join(f"{medians[size]:11.3f}" if size in medians else f"{'':>11}" for size in sizes)
            lines.append(f"{task:22} {unit:6}{cells}{exponent(medians):10.2f}")
    return results, ratios, "\n".join(lines)


# --- the pipeline ------------------------------------------------------------------------------------------------


def make_images(root: Path, images: int) -> None:
    """Write different images of 8 pixels, a thousand in a folder."""
    from PIL import Image

    for number in range(images):
        path = root / "train" / f"{number // 1000:04d}" / f"{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.array([number >> shift & 255 for shift in (0, 8, 16)] * 64, dtype=np.uint8).reshape(8, 8, 3)
        Image.fromarray(pixels).save(path, compress_level=1)


def instant_trunk() -> Any:
    """Return a network of one convolution."""
    import torch

    convolution = torch.nn.Conv2d(3, 8, 8, bias=False)
    torch.nn.init.constant_(convolution.weight, 0.01)
    network = torch.nn.Sequential(convolution, torch.nn.Flatten())
    network.transform = {"resize": 8, "crop": 8, "mean": 0.5, "std": 0.5}  # type: ignore[assignment]
    return network


def extract_all(data: str, cache: str, workers: int) -> dict[str, Any]:
    """Return the images a second of an extract by an instant trunk, and where its time went.

    A first extract of few images pays for torch and for the start of everything.
    """
    import featcache

    settings = featcache.Settings(workers=workers, device="cpu", batch_size=256)
    trunk = instant_trunk()
    featcache.extract(data=data, cache=cache, arch=trunk, settings=settings, limit=100)
    before = os.times()
    (done,) = featcache.extract(data=data, cache=cache, arch=trunk, settings=settings)
    after = os.times()
    parent, loaders = ((after[at] + after[at + 1] - before[at] - before[at + 1]) / done.embedded * 1e6 for at in (0, 2))
    return {
        "images/s": done.embedded / done.seconds, "us CPU, parent": parent, "us CPU, loaders": loaders,
        "shares": done.shares, "held back": done.held_back,
    }  # fmt: skip


def pipeline(scratch: Path, images: int, runs: int, bucket: str) -> tuple[list[Any], dict[str, float]]:
    """Return images a second by 1, 2 and 4 workers, and processor time an image; on stderr what holds them back."""
    from machine import Result

    make_images(scratch / "images", images)
    measures: dict[tuple[str, str], list[float]] = {}
    places = {"folder": str(scratch / "cache")} | ({"bucket": f"{bucket}/cache"} if bucket else {})
    for run in range(runs):
        for workers in (1, 2, 4):
            for where, cache in places.items():
                words = (str(scratch / "images"), f"{cache}-{run}-{workers}", str(workers))
                found = run_in_process("--extract", *words)
                for unit in ("images/s", "us CPU, parent", "us CPU, loaders"):
                    name = f"extract, {where}, {workers} workers"
                    measures.setdefault((name, unit), []).append(found[unit])
    results = [Result.of(name, unit, values) for (name, unit), values in measures.items()]
    medians = {result.name: result.median for result in results if result.unit == "images/s"}
    one = medians["extract, folder, 1 workers"]
    ratios = {f"workers{count}_vs_one": medians[f"extract, folder, {count} workers"] / one for count in (2, 4)}
    if bucket:
        ratios["bucket_vs_folder"] = medians["extract, bucket, 2 workers"] / medians["extract, folder, 2 workers"]
    return results, ratios


def do_one_thing(args: argparse.Namespace) -> dict[str, Any] | None:
    """Do what this process was started for, and return what it found; None where it is the whole script."""
    if args.make:
        return make(args.make, args.rows, args.listing_rows)
    if args.make_files:
        make_files(args.make_files, args.make_files / "files", args.rows)
        return {}
    if args.extract:
        return extract_all(args.extract[0], args.extract[1], int(args.extract[2]))
    if args.task:
        task, cache = args.task[0], Path(args.task[1])
        is_plan = task == "plan"
        return measured(plan_rows(cache, cache / "files", args.rows) if is_plan else prepare_task(task, cache))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="the largest size")
    parser.add_argument("--from-rows", type=int, default=10_000, help="the smallest size, a power of ten")
    parser.add_argument("--listing-rows", type=int, default=10**9, help="the most rows of one listing")
    parser.add_argument("--files", type=int, default=1_000_000, help="the most files of which a plan is made")
    parser.add_argument("--images", type=int, default=20_000, help="images of the pipeline; 0: no pipeline")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of everything")
    parser.add_argument("--bucket", default="", help="a cache in an object store, for the pipeline")
    parser.add_argument("--scratch", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the tables")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make-files", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--extract", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (found := do_one_thing(args)) is not None:
        print(json.dumps(found))
        return
    from machine import document, table

    sizes = [10**power for power in range(4, 12) if args.from_rows <= 10**power <= args.rows]
    scratch = Path(tempfile.mkdtemp(prefix="featcache-bench-", dir=args.scratch))
    try:
        results, ratios, growth = show_growth(grow(scratch, sizes, args.runs, args.listing_rows, args.files))
        if args.images:
            more, of = pipeline(scratch, args.images, args.runs, args.bucket)
            results, ratios = results + more, ratios | of
    finally:
        shutil.rmtree(scratch)
    print(document(results, ratios) if args.json else f"{table(results, ratios)}\n\n{growth}")


if __name__ == "__main__":
    main()
