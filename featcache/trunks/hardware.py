"""What a machine computes with: its devices, their names, and the precision in which each is fast."""

import re
import sys
from pathlib import Path
from typing import Literal

from featcache.errors import MachineError, UsageError
from featcache.media import Decoder

Compute = Literal["float32", "bfloat16"]
BATCH = {"cpu": 32, "cuda": 256, "mps": 64}  # images in one forward; a constant of the device, see Trunk.embed
FEW = 8  # images for which a CPU's forward is that large; of the forwards that give the same bits, the smallest (003)
_CPU = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_tile"}  # as Linux names what makes torch compute fast in bfloat16
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/nvhost-ctrl", "/dev/nvmap")


def choose_device(device: str) -> str:
    """Return the device that is meant; "auto" is the first GPU, where there is one.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Returns:
        The same as torch calls it.

    Raises:
        UsageError: no name of a device.
        MachineError: this machine has no such device.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", *BATCH) or (number and not number.isdecimal()):
        raise UsageError(f"--device {device}: expected auto, cpu, cuda, cuda:N or mps").correct("--device", "auto")
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind == "auto":
        return "cuda" if counts["cuda"] else "mps" if counts["mps"] else "cpu"
    if counts[kind] <= int(number or 0):
        error = MachineError(f"--device {device}: this machine has no such device; --device auto takes what there is")
        raise error.correct("--device", "auto")
    return device


def choose_batch_size(device: str, images: int) -> int:
    """Return how many images a forward takes where only so many are to be embedded, and then no others beside them.

    Every forward is padded to its whole batch, so that one image in a batch of 32 takes seconds of a CPU.

    Args:
        device: As torch calls it.
        images: How many there are.
    """
    return FEW if device == "cpu" and images <= FEW else BATCH[device.partition(":")[0]]


def device_name(device: str) -> str:
    """Return what the hardware of a device calls itself; of a CPU, its instruction set and threads, too."""
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{device} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


def fast_precision(device: str) -> Compute:
    """Return bfloat16 where the hardware computes with it (CUDA 8.0 and up, AMX or AVX512-BF16), else float32."""
    if device == "cpu" and _CPU.exists():
        return "bfloat16" if _BF16 & _cpu_flags() else "float32"
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device == "cpu":
        # Private names, but the only way that torch has to ask; where a version lacks them, the answer is float32.
        queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bfloat16" if any(getattr(torch.cpu, query, bool)() for query in queries) else "float32"
    return "float32"


def has_bfloat16_without_tiles() -> bool:
    """Return whether this CPU has AVX512-BF16 and no AMX; False where that is unknown."""
    flags = _cpu_flags() if _CPU.exists() else set()
    return "avx512_bf16" in flags and "amx_tile" not in flags


def require_decoder(decoder: Decoder, device: str) -> None:
    """Refuse a device that is to decode images and cannot.

    Args:
        decoder: What decodes the images.
        device: As torch calls it.

    Raises:
        MachineError: the images are decoded by an NVIDIA GPU, and this device is none.
    """
    if decoder == "nvjpeg" and not device.startswith("cuda"):
        raise MachineError(
            f"--decode gpu: an NVIDIA GPU decodes the images of this store, and this runs on {device}. Run it on a "
            f"machine that has one, or extract with --decode exact or fast, which make stores of their own"
        )


def _may_have_gpu() -> bool:
    """Return whether a driver's device files are there, or the system has none.

    Only then torch, which takes seconds to import, has to be asked.
    """
    return not sys.platform.startswith("linux") or any(Path(file).exists() for file in _DRIVERS)


def _cpu_flags() -> set[str]:
    flags = re.search(r"^flags\s*:(.*)$", _CPU.read_text(), re.MULTILINE)
    return set(flags[1].split()) if flags else set()
