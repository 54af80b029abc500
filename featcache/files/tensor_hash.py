"""What identifies weights, whichever file or program they come from: the hash of their tensors."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def hash_tensors(tensors: Mapping[str, "Tensor"]) -> str:
    """Return the sha256 over tensors: sorted by name, each with its name, shape and bytes; 64 hex digits.

    Args:
        tensors: By name, on the CPU.
    """
    running = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        running.update(f"{name} {array.shape} {array.dtype}\n".encode())
        running.update(array.data)
    return running.hexdigest()
