"""verify, repair, gc, export and --wait as they are typed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Nano, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("i") / "photos", {"train": {"0": 9, "1": 8}})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def test_the_way_from_damage_to_a_sound_cache(run, nano: Nano, images: Path, tmp_path: Path) -> None:
    """Verify names it (exit 3), repair takes it out, extract embeds what was lost, gc merges, export writes a file."""
    flags = ("--data", images, *nano.flags, "--batch-size", "4", "--shard-rows", "4", "--workers", "1")
    assert run("extract", *flags).code == 0
    cache = tmp_path / "here" / "cache"
    assert run("export", "train", "--data", images, "--to", "before.npz").code == 0
    flip(sorted(cache.rglob("shards/*.h5"))[1])

    quick, full = run("verify", "--quick"), run("verify", "--json")
    assert (quick.code, full.code) == (0, 3)  # its size is right
    assert "0 problems (sizes and logs" in quick.out
    document = json.loads(full.out)
    assert [problem["kind"] for problem in document["problems"]] == ["damaged"]
    assert {"where", "kind", "message"} == set(document["problems"][0])

    planned = run("repair", "--dry-run")
    assert "would be dropped: " in planned.out
    assert run("verify", "--quick").code == 0
    done = json.loads(run("repair", "--json").out)
    assert len(done["embed_again"]) == 4
    assert set(done) == {"dry_run", "actions", "unmended", "embed_again"}
    again = run("extract", "--json", *flags)
    assert json.loads(again.out)[0]["embedded"] == 4

    assert "nothing was done; --apply does it" in run("gc").out
    assert "turned 5 of 5 shards into 1" in run("gc", "--apply").out
    deep = run("verify", "--deep", "--sample", "3", "--device", "cpu")
    assert deep.code == 0, deep.err
    assert "3 images embedded again" in deep.out

    exported = run("export", "train", "--data", images, "--to", "after.npz", "--json")
    assert json.loads(exported.out)["rows"] == 17
    with np.load(cache.parent / "before.npz") as before, np.load(cache.parent / "after.npz") as after:
        assert before["embeddings"].tobytes() == after["embeddings"].tobytes()
    assert run("export", "train", "--data", images, "--to", "x.csv").code == 2
    assert run("verify", "--quick", "--deep").code == 2


def test_a_second_extract_waits_or_leaves(run, nano: Nano, images: Path, tmp_path: Path) -> None:
    """With who holds the store, on which host, since when (exit 3); with --wait it waits, and then goes on."""
    flags = ("--data", str(images), *nano.flags, "--workers", "1")
    assert run("extract", *flags).code == 0
    (store,) = (tmp_path / "here" / "cache" / "stores").iterdir()
    write_images(images, {"test": {"0": 2}})
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom featcache.files.lock import hold_store\n"
        "with hold_store(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(float(sys.argv[2]))\n"
    )

    def held(seconds: float) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", hold, str(store), str(seconds)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    with held(600) as holder:
        refused = run("extract", *flags)
        assert refused.code == 3
        assert f"pid {holder.pid} on " in refused.err
        assert ", since 20" in refused.err
        holder.kill()
    with held(6) as holder:
        begun = time.monotonic()
        waited = run("extract", "--wait", "60", *flags)
        assert waited.code == 0, waited.err
        assert time.monotonic() - begun < 50
        assert f"note: waiting for the store: pid {holder.pid} on" in waited.err
