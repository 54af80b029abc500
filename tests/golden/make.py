"""python -m tests.golden.make      (from the root of a checkout; 5 seconds)

Makes tests/golden/format1/, a tiny cache of format 1, and tests/golden/format1.json, what a reader must find in it.
Run once, by featcache 0.1.0 on 2026-11-25. It is never made again: later versions must read this very one.

Two splits of scans, one file that is no image, one name that is no UTF-8, two makings of the same trunk (batches of 4
and of 3), shards that gc has merged and dropped, and a head.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch

import featcache
from featcache import Settings
from featcache.trunks.architectures import architecture
from featcache.trunks.weights import build_network
from tests.conftest import ARCH, write_images

HERE = Path(__file__).parent
WORK = Path("/tmp/featcache-golden")  # its name stands in the cache: no person's folder


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    torch.set_num_threads(1)
    photos, cache = write_images(WORK / "photos", {"train": {"0": 5, "1": 4}, "val": {"0": 2, "1": 2}}), WORK / "cache"
    (photos / "train" / "0" / "broken.png").write_bytes(b"no picture")
    os.rename(photos / "train" / "1" / "0003.png", os.fsencode(photos / "train" / "1") + b"/\xff.png")
    torch.manual_seed(7)
    built = build_network(architecture(ARCH), 64).state_dict()
    torch.save({name: value + 0.1 * torch.randn_like(value) for name, value in built.items()}, WORK / "nano.pth")
    where = {"data": str(photos), "cache": cache}
    for split, batch_size in (("train", 4), ("val", 3)):
        settings = Settings(device="cpu", workers=1, batch_size=batch_size, shard_rows=4, max_bad=1)
        featcache.extract(
            split, **where, arch=ARCH, weights=str(WORK / "nano.pth"), precision="fp32", settings=settings
        )
    featcache.gc(cache=cache, apply=True)
    featcache.fit_head(0.1, **where, epochs=2, check_seconds=None, device="cpu")
    expected = {}
    for split in ("train", "val"):
        found = featcache.load(split, **where)
        expected[split] = {
            "x": hashlib.sha256(found.x.tobytes()).hexdigest(),
            "rows": len(found.y),
            "y": found.y.tolist(),
            "classes": found.classes,
            "paths": [os.fsencode(path).hex() for path in found.paths],
            "failed": found.failed,
        }
    for litter in [*cache.rglob(".*.lock"), *cache.rglob(".lock")]:
        litter.unlink()
    shutil.rmtree(HERE / "format1", ignore_errors=True)
    shutil.copytree(cache, HERE / "format1")
    (HERE / "format1.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
