"""Which devices there are, and what they compute fast; torch is asked only where it has to be."""

import sys

import pytest
import torch

from featcache.errors import MachineError, UsageError
from featcache.trunks import hardware


@pytest.mark.parametrize("asked", ["gpu", "", "cpu:x", "cuda:-1", "cuda:", "tpu:0"])
def test_a_name_that_is_no_device_is_refused(asked):
    """A device that does not exist anywhere is the user's mistake."""
    if asked == "cuda:" and torch.cuda.is_available():
        pytest.skip("this is cuda's name here")
    with pytest.raises((UsageError, MachineError), match=f"--device {asked}"):
        hardware.choose_device(asked)


def test_a_device_that_is_not_here_is_the_machines_fault():
    """A sound name of what this machine lacks is exit 5, and says what to type."""
    with pytest.raises(MachineError, match="--device auto takes what there is"):
        hardware.choose_device("cuda:99")
    with pytest.raises(MachineError):
        hardware.choose_device("cpu:1")


def test_auto_takes_what_there_is():
    """What auto chooses torch can use here, and cpu is always one."""
    assert hardware.choose_device("cpu") == "cpu"
    torch.zeros(1, device=hardware.choose_device("auto"))
    assert hardware.fast_precision("cpu") in ("float32", "bfloat16")
    assert "cpu" in hardware.device_name("cpu")


def test_the_processor_is_asked_as_torch_asks_it():
    """Without torch, /proc/cpuinfo gives the precision that torch's own questions give."""
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    torchs = any(getattr(torch.cpu, ask)() for ask in asks if hasattr(torch.cpu, ask))
    assert hardware.fast_precision("cpu") == ("bfloat16" if torchs else "float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx512_bf16 avx2", True), ("avx512_bf16 amx_tile", False), ("avx2", False), (None, False)],
)
def test_bfloat16_without_tiles(tmp_path, monkeypatch, flags, expected):
    """AVX512-BF16 without AMX, as Linux names them; no where there is nothing to ask."""
    monkeypatch.setattr(hardware, "_CPU", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    assert hardware.has_bfloat16_without_tiles() is expected


def test_no_driver_no_gpu(monkeypatch):
    """Where no driver has left its mark torch is not asked, and would have found nothing."""
    if not hardware._may_have_gpu():
        assert torch.cuda.device_count() == 0
        monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail now
        assert hardware.choose_device("auto") == "cpu"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert hardware.choose_device("cpu") == "cpu"
