"""A disk that is really full, and a file that may not grow."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import featcache
from tests.faults.attempts import holds_up
from tests.faults.world import litter

FULL_DISK = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28]  # pages of 4,096 bytes that are free


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A real disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(
            f"no tmpfs can be mounted here ({made.stderr.decode().strip()}); the size limit below stands for it"
        )
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.fault(2)
def test_a_disk_that_is_really_full(small, disk, tmp_path, zygote, saw, portion):
    """A tmpfs with so many pages free: exit 5, the way out, no scratch file; with room again the run is completed."""
    said = tmp_path / "said"
    for pages in FULL_DISK[:: portion(1, 4)]:
        world, filler = small.at(disk / "cache"), disk / "filler"
        filler.write_bytes(b"")
        room = os.statvfs(disk)
        filler.write_bytes(bytes((room.f_bavail - pages) * room.f_bsize))
        code = zygote.run(world, said=str(said))
        assert code in (0, 5), said.read_text()
        if code:
            assert "make room" in said.read_text()
            assert "Traceback" not in said.read_text()
        assert litter(disk) == []
        saw("a tmpfs that is full after some pages", "exit 5, no scratch file" if code else "had room enough")
        filler.unlink()
        holds_up(small, world, {})
        shutil.rmtree(world.cache)


@pytest.mark.fault(2)
def test_a_file_that_may_not_grow(small, tmp_path, zygote, saw, portion):
    """RLIMIT_FSIZE at many sizes, the write failing in the middle: exit 5 and nothing lost."""
    said, seen = tmp_path / "said", set()
    for size in range(700, 9000, portion(200, 2100)):  # what is said must fit too
        world = small.at(tmp_path / "cache")
        code = zygote.run(world, said=str(said), file_size=size, workers=1)
        assert code in (0, 5), said.read_text()
        seen.add(code)
        assert litter(world.cache) == []
        saw("RLIMIT_FSIZE in the middle of a file", "exit 5, no scratch file" if code else "no file was that large")
        holds_up(small, world, {})
        shutil.rmtree(world.cache)
    assert 5 in seen
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.fault(2)
def test_the_command_line_ends_with_5(small, disk):
    """Featcache extract on a full disk: exit 5, one message, no traceback."""
    filler = disk / "filler"
    filler.write_bytes(b"")
    room = os.statvfs(disk)
    filler.write_bytes(bytes((room.f_bavail - 6) * room.f_bsize))
    words = ["extract", "--data", small.images, "--cache", disk / "cache", "--arch", "vit_nano_16"]
    done = subprocess.run(
        [sys.executable, "-m", "featcache", *words, "--weights", small.weights, "--precision", "fp32"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "No space left on device; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert featcache.verify(cache=disk / "cache") == []
