"""Which devices --device means."""

import os

import pytest
import torch

from featcache import MachineError, UsageError, machine
from featcache.extraction import Settings
from featcache.extraction.placement import Placement, choose_placements
from tests.conftest import single_thread

# As many threads here as a device process of one core has: the same sums in the same order.
one_thread = pytest.fixture(autouse=True)(single_thread)


def test_domains_are_read_as_linux_lists_them(tmp_path, monkeypatch):
    """Ranges and single cores; what this process may not use is left out; one domain where nobody says anything."""
    usable = os.sched_getaffinity(0)
    monkeypatch.setattr(machine, "NODES", tmp_path)
    assert machine.numa_domains() == [tuple(sorted(usable))]
    for number, text in enumerate((f"0-{max(usable)},5000-5003\n", "6000\n", "\n")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}/cpulist").write_text(text)
    assert machine.numa_domains() == [tuple(sorted(usable))]


def test_which_devices_are_meant(two_domains, monkeypatch):
    """All: every domain of a CPU, or the CPU as it is where it has one; a list is taken as typed, nothing twice."""
    if torch.cuda.is_available():
        pytest.skip("here `all` is the GPUs")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    assert choose_placements("all") == [Placement("cpu", (first,)), Placement("cpu", (second,))]
    assert choose_placements("cpu") == [Placement("cpu")]
    monkeypatch.setattr(machine, "NODES", two_domains / "node0")
    assert choose_placements("all") == [Placement("cpu")]
    for twice in ("cuda:1,cuda:1", "cuda:1,cuda:01"):
        with pytest.raises(UsageError, match="twice"):
            choose_placements(twice)
    with pytest.raises(MachineError, match="no such device"):
        choose_placements("cuda:0,cuda:99")
    for wrong in ("cuda:0,", "cuda,cuda:1", "cpu,cuda:0", "all,cpu"):
        with pytest.raises(UsageError, match="expected auto, all, cpu"):
            Settings(device=wrong)
