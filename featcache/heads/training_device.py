"""Where heads are trained: what `--device` and `exact` say together."""

from featcache.errors import UsageError


def choose_training_device(device: str, *, exact: bool) -> str:
    """Return the device that heads are trained on, as torch calls it.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        exact: Whether the heads must have the bits that they have alone, which the CPU alone keeps: "auto" is then the
            CPU.

    Raises:
        UsageError: `exact`, and another device than the CPU.
        MachineError: no such device.
    """
    from featcache.trunks import choose_device  # with torch

    if exact and device not in ("auto", "cpu"):
        raise UsageError(
            f"exact is kept on the CPU alone: found --device {device}, expected cpu. Take --device cpu, or leave out "
            f"exact (--no-exact)"
        )
    return choose_device("cpu" if exact else device)
