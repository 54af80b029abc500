"""Limits of the system, from far too little up to enough, over the commands: done, or exit 5 with one sentence."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featcache import MachineError
from featcache.os_refusals import FILES, MEMORY, PROCESSES, translate_exhaustion, translate_refusal
from tests.conftest import ARCH

pytestmark = pytest.mark.timeout(900)

MB = 2**20
COMMANDS = ("--help", "info", "verify", "export", "fit-head", "extract")
SIZES = {
    "AS": [MB * size for size in (20, 40, 80, 120, 150, 200, 250, 300, 400, 600, 1000, 2000, 3000, 3400, 4000, 6000)],
    "DATA": [MB * size for size in (10, 20, 40, 80, 150, 200, 300, 400)],
    "NOFILE": [8, 10, 12, 16, 24, 32, 64],
    "FSIZE": [0, 1, 700, 4096, 10**6],
}
LIMITS = {"AS": "memory", "DATA": "data memory", "NOFILE": "open files", "FSIZE": "file sizes"}
FEW = [
    ("AS", 20 * MB, "--help"), ("DATA", 10 * MB, "--help"), ("AS", 80 * MB, "info"), ("AS", 150 * MB, "info"),
    ("AS", 250 * MB, "verify"),
    ("DATA", 80 * MB, "info"), ("NOFILE", 10, "info"), ("FSIZE", 0, "info"), ("AS", 2000 * MB, "fit-head"),
    ("NOFILE", 10, "extract"),
]  # fmt: skip
ALL = [(name, size, command) for name, sizes in SIZES.items() for size in sizes for command in COMMANDS]


def typed(world, cache: Path, command: str) -> list[str]:
    """The words of a command on the small data set."""
    where = ["--data", str(world.images), "--cache", str(cache)]
    trunk = ["--arch", ARCH, "--weights", str(world.weights), "--precision", "fp32", "--workers", "1"]
    return {
        "--help": ["--help"],
        "info": ["info", "--cache", str(cache)],
        "verify": ["verify", "--cache", str(cache)],
        "export": ["export", "train", *where, "--to", str(cache.parent / "plain.npz")],
        "fit-head": ["fit-head", *where, "--lr", "0.01"],
        "extract": ["extract", *where, "--split", "train", *trunk],
    }[command]


def under(name: str, size: int) -> Callable[[], None]:
    """For a process that is about to start: the limit."""

    def limit() -> None:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (size, size))

    return limit


@pytest.mark.fault(37)
def test_every_command_under_every_limit(small, hurt, tmp_path, portion, saw):
    """Never a bug, a traceback, a signal or a hang; with exit 5 the last line says the way out."""
    for name, size, command in portion(ALL, FEW):
        cache = tmp_path / "new" if command == "extract" else hurt.cache
        done = subprocess.run(
            [sys.executable, "-m", "featcache", *typed(small, cache, command)],
            capture_output=True, text=True, check=False, timeout=300, preexec_fn=under(name, size),
        )  # fmt: skip
        seen = (name, size, command, done.returncode, done.stderr)
        assert done.returncode in (0, 3, 5), seen
        assert "Traceback" not in done.stderr, seen
        assert "bug in featcache" not in done.stderr, seen
        if done.returncode == 5 and name != "FSIZE":
            (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert re.search("raise the limit|--workers", line), seen
            assert done.stderr.strip().splitlines()[-1].startswith(("error: ", "try: ")), seen
        assert done.returncode != 3 or command == "fit-head", seen  # it has no val split
        saw(f"a limit on {LIMITS[name]}", f"exit {done.returncode}")


def wrapped(error: BaseException, outer: BaseException) -> BaseException:
    """`outer`, as raised while `error` was handled, and in place of it."""
    try:
        try:
            raise error
        except BaseException:
            raise outer from None
    except BaseException as raised:
        return raised


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), MEMORY), (OSError(12, "Cannot allocate memory"), MEMORY), (OSError(24, "Too many"), FILES),
        (BlockingIOError(11, "Resource temporarily unavailable"), PROCESSES),
        (RuntimeError("can't start new thread"), PROCESSES),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), MEMORY),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), FILES),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 80 bytes"), MEMORY),
        (RuntimeError("std::bad_alloc"), MEMORY), (OSError("Unable to open file (errno = 24, error message)"), FILES),
    ],
)  # fmt: skip
@pytest.mark.parametrize("outer", [None, ImportError("numpy's C-extensions failed"), ValueError("x"), AttributeError()])
def test_what_ran_out_is_told_however_it_is_wrapped(error, text, outer):
    """The sentence is about memory, threads or files, not about the last of the exceptions that followed."""
    raised = error if outer is None else wrapped(error, outer)
    for found in (translate_refusal(raised), translate_exhaustion(raised)):
        assert isinstance(found, MachineError)
        assert str(found) == text


@pytest.mark.fault(37)
def test_other_refusals_name_the_file():
    """An OSError that nothing else told of: which file, why, and exit 5."""
    found = translate_refusal(PermissionError(13, "Permission denied", "/some/file"))
    assert str(found).startswith("/some/file: the system refused it: Permission denied")
    assert translate_exhaustion(PermissionError(13, "Permission denied", "/some/file")) is None


@pytest.mark.fault(37)
@pytest.mark.parametrize("error", [ValueError("out of memory"), OSError(9, "Bad file descriptor"), KeyError("x")])
def test_a_bug_stays_a_bug(error):
    """What the system has not refused is not blamed on it."""
    assert translate_refusal(error) is None


@pytest.mark.fault(37)
def test_an_interruption_without_threads_is_none(tmp_path):
    """OpenBLAS sends its own process a Ctrl-C where it cannot have its threads: exit 5, not 130."""
    pids = Path("/sys/fs/cgroup/pids")
    group = pids / f"featcache-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        (group / "pids.max").write_text("1")

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run(
            [sys.executable, "-m", "featcache", "info", "--cache", str(tmp_path)],
            capture_output=True, text=True, check=False, timeout=120, preexec_fn=join,
            env={name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")},
        )  # fmt: skip
    finally:
        group.rmdir()
    if len(os.sched_getaffinity(0)) > 1:
        assert done.returncode == 5, done.stderr
        assert "no further thread" in done.stderr
