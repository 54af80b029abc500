"""What a machine computes with: its devices, their names, and the precision in which each is fast."""

import re
import sys
from pathlib import Path
from typing import Literal

from featcache.errors import MachineError, UsageError
from featcache.media import Decoder

Compute = Literal["float32", "bfloat16"]
BATCH = {
    "cpu": 32,
    "cuda": 256,
    "mps": 64,
}  # images in one forward; a constant of the device, see Trunk.embed
_CPU = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_tile"}  # as Linux names what makes torch compute fast in bfloat16
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/nvhost-ctrl", "/dev/nvmap")


def choose_device(asked: str) -> str:
    """The device that is meant; auto is the first GPU, where there is one.

    Raises:
        UsageError: no name of a device.
        MachineError: this machine has no such device.
    """
    kind_, _, number = asked.partition(":")
    if kind_ not in ("auto", *BATCH) or (number and not number.isdecimal()):
        raise UsageError(f"--device {asked}: expected auto, cpu, cuda, cuda:N or mps")
    if asked == "cpu" or (asked == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    has = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind_ == "auto":
        return "cuda" if has["cuda"] else "mps" if has["mps"] else "cpu"
    if has[kind_] <= int(number or 0):
        raise MachineError(f"--device {asked}: this machine has no such device; --device auto takes what there is")
    return asked


def device_name(device: str) -> str:
    """What the hardware calls itself."""
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{device} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


def fast_precision(device: str) -> Compute:
    """bfloat16 where the hardware computes with it (CUDA 8.0 and up, AMX or AVX512-BF16), else float32."""
    if device == "cpu" and _CPU.exists():
        return "bfloat16" if _BF16 & _cpu_flags() else "float32"
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device == "cpu":
        # Private names, but the only way that torch has to ask; where a version lacks them, the answer is float32.
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bfloat16" if any(getattr(torch.cpu, ask, bool)() for ask in asks) else "float32"
    return "float32"


def require_decoder(decoder: Decoder, device: str) -> None:
    """Refuse a device that is to decode images and cannot.

    Raises:
        MachineError: the images are decoded by an NVIDIA GPU, and this device is none.
    """
    if decoder == "nvjpeg" and not device.startswith("cuda"):
        raise MachineError(
            f"--decode gpu: an NVIDIA GPU decodes the images of this store, and this runs on {device}. Do it where "
            f"there is one, or extract with --decode exact or fast, which make stores of their own"
        )


def _may_have_gpu() -> bool:
    """Whether a driver has left its mark, or the system keeps none: only then torch, which takes seconds to import,
    has to be asked.
    """
    return not sys.platform.startswith("linux") or any(Path(mark).exists() for mark in _DRIVERS)


def _cpu_flags() -> set[str]:
    found = re.search(r"^flags\s*:(.*)$", _CPU.read_text(), re.MULTILINE)
    return set(found[1].split()) if found else set()
