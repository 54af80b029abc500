"""What a process may take of the machine."""

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from threadpoolctl import ThreadpoolController, threadpool_info

from featcache.machine import available_memory, core_quota, cores, limit_threads, single_blas_thread

MB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    """A system's own files, as they stand below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


FREE = {"proc/meminfo": f"MemTotal: {9000 * 1024} kB\nMemAvailable:    {8000 * 1024} kB\n", "proc/self/cgroup": ""}


def group(folder: str, limit: str, used: int, cached: int = 0) -> dict[str, str]:
    """A group of the second version."""
    return {
        f"sys/fs/cgroup/{folder}memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{folder}memory.current": f"{used}\n",
        f"sys/fs/cgroup/{folder}memory.stat": f"anon {used - cached}\ninactive_file {cached}\n",
    }


def test_the_cores_are_those_that_this_process_may_run_on():
    """Not those that the machine has."""
    one = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from featcache.machine import cores; print(cores())"
    )
    done = subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert cores() == len(os.sched_getaffinity(0))


CPU = "1:cpu:/job\n"


@pytest.mark.parametrize(
    ("groups", "files", "paid"),
    [
        ("0::/user/job\n", {"user/job/cpu.max": "100000 100000"}, 1),
        ("0::/user/job\n", {"user/job/cpu.max": "max 100000", "user/cpu.max": "50000 100000"}, 1),
        ("0::/user/job\n", {"user/job/cpu.max": "400000 100000", "user/cpu.max": "300000 100000"}, 3),
        ("0::/docker/abc\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/../../elsewhere\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/job\n2:cpuset:/\n", {"unified/job/cpu.max": "100000 100000"}, 1),
        ("0::/job\n" + CPU, {"cpu/job/cpu.cfs_quota_us": "150000", "cpu/job/cpu.cfs_period_us": "50000"}, 3),
        ("4:cpu,cpuacct:/job\n", {"cpu,cpuacct/cpu.cfs_quota_us": "1000", "cpu,cpuacct/cpu.cfs_period_us": "5000"}, 1),
        ("4:cpuacct,cpu:/\n", {"cpu/cpu.cfs_quota_us": "200001", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (CPU, {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, None),
        (CPU, {"cpu/job/cpu.cfs_quota_us": "100000"}, None), (CPU, {}, None), ("", {"cpu.max": "100000 100000"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None), ("0::/\n", {"cpu.max": ""}, None), ("odd\n", {}, None),
    ],
)  # fmt: skip
def test_a_quota_of_processor_time_counts(tmp_path, groups, files, paid):
    """Of either version, of this group or one around it; rounded up, and never less than a core."""
    root = system(
        tmp_path, {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    )
    allowed = len(os.sched_getaffinity(0))
    assert core_quota(root) == paid
    assert cores(root) == min(allowed, paid or allowed)


def test_without_groups_it_is_what_the_machine_has_to_spare(tmp_path):
    """MemAvailable, which counts caches that would be given back."""
    assert available_memory(system(tmp_path, FREE)) == 8000 * MB


def test_nothing_is_said_where_the_system_says_nothing(tmp_path):
    """No /proc, no answer, and no guess."""
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("inner", "outer", "left"), [(f"{700 * MB}", "max", 600), ("max", f"{500 * MB}", 300), ("max", "max", 8000)]
)
def test_the_narrowest_group_around_the_process_counts(tmp_path, inner, outer, left):
    """Its own, or one that this stands in."""
    files = FREE | {"proc/self/cgroup": "0::/user/job\n"}
    files |= group("user/job/", inner, 100 * MB) | group("user/", outer, 200 * MB)
    assert available_memory(system(tmp_path, files)) == left * MB


def test_a_container_sees_its_group_at_the_top(tmp_path):
    """Where the group's path is a name of the host's that is not there."""
    files = FREE | {"proc/self/cgroup": "0::/docker/abc\n"} | group("", f"{400 * MB}", 100 * MB)
    assert available_memory(system(tmp_path, files)) == 300 * MB


def test_pages_of_files_that_were_read_are_not_in_use(tmp_path):
    """Reading the shards fills the group with their pages; the kernel takes them back."""
    files = FREE | {"proc/self/cgroup": "0::/\n"} | group("", f"{400 * MB}", 390 * MB, cached=350 * MB)
    assert available_memory(system(tmp_path, files)) == 360 * MB


def test_the_first_version_of_control_groups_is_read_too(tmp_path):
    """Its own files, under the controller's folder."""
    base = "sys/fs/cgroup/memory/job/"
    files = FREE | {
        "proc/self/cgroup": "11:cpu,cpuacct:/other\n5:memory:/job\n",
        f"{base}memory.limit_in_bytes": f"{400 * MB}",
        f"{base}memory.usage_in_bytes": f"{100 * MB}",
        f"{base}memory.stat": f"total_inactive_file {10 * MB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 310 * MB


@pytest.mark.parametrize(("which", "name"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_a_limit_of_the_process_counts_less_what_it_has(tmp_path, which, name):
    """`ulimit -v` and `ulimit -d`."""
    root = system(tmp_path, FREE | {"proc/self/status": f"{name}:\t {1000 * 1024} kB\n"})
    code = (
        "import resource, sys; from pathlib import Path; from featcache.machine import available_memory\n"
        f"resource.setrlimit(resource.{which}, ({4000 * MB}, resource.RLIM_INFINITY))\n"
        f"print(available_memory(Path({str(root)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 3000 * MB


def test_this_machine_answers():
    """Something between nothing and everything."""
    found = available_memory()
    assert found is not None
    assert 0 < found < 2**60


@pytest.mark.parametrize(("typed", "threads"), [(None, "1"), ("3", "3")])
def test_libraries_have_as_many_threads_as_the_quota_pays_for(tmp_path, monkeypatch, typed, threads):
    """Unless the user has said how many."""
    root = system(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"})
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": typed} if typed else {})
    limit_threads(root)
    assert os.environ["OMP_NUM_THREADS"] == threads
    monkeypatch.setattr(os, "environ", {})
    limit_threads(system(tmp_path / "none", FREE))
    assert "OMP_NUM_THREADS" not in os.environ


def test_blas_multiplies_on_one_thread():
    """Within the limit, of whichever thread and however nested; afterwards it has as many as before."""

    def blas_threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def multiply() -> None:
        for _ in range(20):
            with single_blas_thread(libraries), single_blas_thread():
                seen.append(max(blas_threads()))

    before, seen, libraries = blas_threads(), [], ThreadpoolController()
    threads = [threading.Thread(target=multiply) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 60
    assert blas_threads() == before


_LARGE = """
import resource, numpy
from featcache.machine import keep_large_blocks
if {}:
    keep_large_blocks()
def touch():
    block = numpy.empty(100 << 20, dtype=numpy.uint8)
    block[::4096] = 1
for _ in range(3):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_a_large_block_is_cleared_by_the_system_once():
    """Memory of 100 MB that is freed and taken again ten times has its pages still, and would not otherwise."""
    kept, not_kept = (
        int(subprocess.run([sys.executable, "-c", _LARGE.format(keep)], capture_output=True, check=True).stdout)
        for keep in (True, False)
    )
    assert kept < 1000
    assert not_kept > 1000
