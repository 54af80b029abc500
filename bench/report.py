"""python bench/report.py

Intervals alone, then `featcache report` as it is typed, on caches of made-up embeddings: the CPU seconds of all threads
and the largest resident size of each, every one in a process of its own. Of intervals the size is what they add to a
process that holds its rows. Ratios: CPU seconds over the three that an interval computation may take.

On 2 cores of an Intel Xeon with other work on them, 2026-11-29: no interval computation over 2 s, and none adds over
110 MB. `report` of 40,000 rows, 1,000 classes, 4,000 clips: 6.1 s, 386 MB; of 100,000 rows, 1,000 classes, 20,000
clips: 11.4 s, 912 MB; with `--against` 11.2 s, 620 MB and 24.3 s, 1,502 MB.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import Result, document, table

import featcache
from featcache.files import StatLog
from featcache.listing.listing import Listing
from featcache.metrics.bootstrap import bootstrap_differences, bootstrap_intervals
from featcache.metrics.groups import count_groups
from featcache.store import ExtractedListing, create_store
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

LIMIT = 3.0  # CPU seconds
DIM = 32
SHAPES = {  # rows, classes, groups (0: each row its own), whether a group has one class
    "40k rows, 1000 classes, 4k clips": (40_000, 1_000, 4_000, True),
    "100k rows, 34 classes, 20k clips": (100_000, 34, 20_000, True),
    "100k rows, 1000 classes, 20k clips": (100_000, 1_000, 20_000, True),
    "260k rows, 1000 classes, 20k subj.": (260_000, 1_000, 20_000, False),
    "260k rows, 34 classes": (260_000, 34, 0, False),
    "87k rows, 34 classes, 15 subjects": (87_315, 34, 15, False),
}
HEADS = {"single": 1, "paired": 2, "folds": 3}


def compute(name: str, kind: str) -> list[float]:
    """CPU seconds and added MB of one interval computation, in this process."""
    rows, classes, groups, is_clip = SHAPES[name]
    random, heads = np.random.default_rng(0), HEADS[kind]
    code = random.integers(0, max(groups, 1), rows)
    y = random.integers(0, classes, max(groups, 1))[code] if is_clip else random.integers(0, classes, rows)
    right = random.random((rows, heads)) < 0.8
    own = random.integers(0, 3, rows)[:, None] == np.arange(3) if kind == "folds" else None
    names = [f"group {number}" for number in code.tolist()] if groups else ()
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    of = count_groups("group", names, y, right, classes, own)
    bootstrap_differences(of) if kind == "paired" else bootstrap_intervals(of)
    seconds = time.process_time() - begun
    return [seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]


def make(cache: Path, name: str) -> list[str]:
    """A cache of a train and a test split, with two heads; their names."""
    rows, classes, groups, _ = SHAPES[name]
    random, arch = np.random.default_rng(0), architecture("vit_b_16")
    centres = random.standard_normal((classes, DIM))
    spec = TrunkSpec(arch=arch.name, weights_sha256="0" * 64, transform=arch.transform)
    with create_store(cache, spec, weights_name="report", stat_log=StatLog(cache)).writer() as writer:
        for split, count, clips in (("train", 4 * classes, 2 * classes), ("test", rows, groups)):
            label = random.permutation(np.arange(clips) % classes)
            clip = np.sort(np.append(np.arange(clips), random.integers(0, clips, count - clips)))
            x = centres[label[clip]] + 1.5 * random.standard_normal((count, DIM))
            digests = b"".join(hashlib.sha256(f"{split}{row}".encode()).digest() for row in range(count))
            packed = np.frombuffer(digests, np.uint8).reshape(count, 32)
            writer.append(packed, x.astype(np.float32))
            listing = Listing(
                data_set="made-up", variant="all", split=split, root="/data/made-up", labels=label[clip],
                classes=tuple(f"class {number:04d}" for number in range(classes)), part="", subjects=("",) * count,
                paths=tuple(f"{split}/{row}.png" for row in range(count)),
                clips=tuple(f"{split} {number}" for number in clip.tolist()),
            )  # fmt: skip
            writer.commit(ExtractedListing(listing, packed, ("",) * count))
    heads = []
    for lr in (0.1, 0.01):
        fit = featcache.fit_head(lr, data="/data/made-up", cache=cache, epochs=2, device="cpu", check_seconds=None)
        assert fit.best is not None
        heads.append(fit.best.name)
    return heads


def watched(words: list[str]) -> list[float]:
    """CPU seconds and the largest resident size in MB of a command."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return [float(number) for number in ran.stdout.split()]


def measure(reports: list[str]) -> tuple[list[Result], dict[str, float]]:
    results, ratios = [], {}
    for name in SHAPES:
        for kind in HEADS:
            ran = subprocess.run([sys.executable, __file__, "--one", name, kind], check=True, capture_output=True)
            seconds, size = json.loads(ran.stdout)
            results += [Result.of(f"{name}, {kind}", "CPU s", [seconds]), Result.of("", "MB added", [size])]
            ratios[f"{name}, {kind}: of {LIMIT:.0f} s"] = seconds / LIMIT
    for name in reports:
        with tempfile.TemporaryDirectory(prefix="featcache-report-") as folder:
            heads = make(Path(folder, "cache"), name)
            typed = [sys.executable, "-m", "featcache", "report", heads[0], "--data", "/data/made-up",
                     "--cache", f"{folder}/cache"]  # fmt: skip
            for title, words in (("report", []), ("report --against", ["--against", heads[1]])):
                seconds, size = watched([*typed, *words])
                results += [Result.of(f"{title}: {name}", "CPU s", [seconds]), Result.of("", "MB", [size])]
    return results, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description="what intervals and reports cost", allow_abbrev=False)
    parser.add_argument("--no-reports", action="store_true", help="intervals alone")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(compute(*asked.one)))
        return
    results, ratios = measure([] if asked.no_reports else list(SHAPES)[:3])
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
