"""Where heads can be trained whose matrix products are in bfloat16."""

from collections.abc import Sequence
from typing import Any

from featcache.errors import MachineError, UsageError
from featcache.heads import HeadConfig, choose_training_device

_SETTING = "--matmul-precision"
_WAY_OUT = f'take {_SETTING} fp32 (in a recipe matmul_precision = "fp32")'


def refuse_bfloat16(configs: Sequence[HeadConfig], device: str, *, exact: bool = False) -> None:
    """Refuse heads whose products are in bfloat16 where no instruction multiplies so: an emulation would be slow.

    Args:
        configs: the heads that are to be trained.
        device: where they are to be trained, as `--device` has it.
        exact: as `choose_training_device` takes it.

    Raises:
        UsageError: a device that is not the CPU.
        MachineError: a CPU without AVX-512 BF16, or numba compiles for another.
    """
    if all(config.matmul_precision == "fp32" for config in configs):
        return
    chosen = choose_training_device(device, exact=exact) if device == "auto" else device
    if chosen != "cpu":
        raise UsageError(
            f"{_SETTING} bf16 is computed on the CPU alone: found the device {chosen}, expected cpu. Take --device "
            f"cpu, or {_WAY_OUT}"
        ).correct("--device", "cpu")
    import numba

    from featcache.heads.training.kernels import HAS_BFLOAT16

    target: Any = numba.config

    if not HAS_BFLOAT16:
        raise MachineError(
            f"{_SETTING} bf16: this CPU has no instructions for products of bfloat16s (AVX-512 BF16, in lscpu "
            f"avx512_bf16); {_WAY_OUT}"
        ).correct(_SETTING, "fp32")
    if target.CPU_NAME or target.CPU_FEATURES is not None or not target.ENABLE_AVX:
        raise MachineError(
            f"{_SETTING} bf16: NUMBA_CPU_NAME, NUMBA_CPU_FEATURES or NUMBA_ENABLE_AVX has numba compile for another "
            f"CPU than this one; unset it, or {_WAY_OUT}"
        ).correct(_SETTING, "fp32")
