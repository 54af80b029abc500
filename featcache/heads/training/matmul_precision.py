"""Where heads can be trained whose matrix products are in bfloat16."""

from collections.abc import Sequence

from featcache.errors import MachineError, UsageError
from featcache.heads import HeadConfig

_WAY_OUT = "leave out --matmul-precision (fp32)"


def refuse_bfloat16(configs: Sequence[HeadConfig], device: str) -> None:
    """Refuse heads whose products are in bfloat16 where no instruction multiplies so: an emulation would be slow.

    Args:
        configs: the heads that are to be trained.
        device: where torch computes.

    Raises:
        UsageError: a device that is not the CPU.
        MachineError: a CPU without AVX-512 BF16.
    """
    if all(config.matmul_precision == "fp32" for config in configs):
        return
    if device != "cpu":
        raise UsageError(
            f"matmul_precision bf16 is computed on the CPU alone: found the device {device}, expected cpu. Take "
            f"--device cpu, or {_WAY_OUT}"
        )
    from featcache.heads.training.kernels import HAS_BFLOAT16

    if not HAS_BFLOAT16:
        raise MachineError(
            f"matmul_precision bf16: this CPU has no instructions for products of bfloat16s (AVX-512 BF16, in lscpu "
            f"avx512_bf16); {_WAY_OUT}"
        )
