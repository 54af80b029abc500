"""Which library a name is of."""

import os
import re
from pathlib import Path

from featcache.errors import UsageError
from featcache.recipe import CNN, LIBRARY_PREFIXES, CnnSection
from featcache.trunks import ARCH_PATTERN
from featcache.trunks.libraries.base import Library


def split_arch(arch: str) -> tuple[str, str]:
    """Return ("timm", "resnet50") of "timm:resnet50"; ("", name) of torchvision's; ("module", path) of a path."""
    if arch == CNN:
        return CNN, CNN
    prefix, colon, name = arch.partition(":")
    if not colon:
        return "", arch
    return (prefix, name) if prefix in LIBRARY_PREFIXES else ("module", arch)


def library_of(arch: str, cnn: CnnSection | None = None) -> tuple[Library, str]:
    """Return the library that a name is of, and the name there.

    Args:
        arch: As `--arch` has it.
        cnn: The settings of the network cnn; None: its defaults.

    Raises:
        UsageError: the name is empty behind its prefix.
    """
    from featcache.trunks.libraries import models

    prefix, name = split_arch(arch)
    if not name:
        raise UsageError(f"--arch {arch}: expected {prefix}:NAME")
    if prefix == CNN:
        return models.ConvolutionalNetworks(cnn or CnnSection()), name
    return models.LIBRARIES[prefix], name


def name_in_specs(arch: str) -> str:
    """Return the network's name in specs: of a folder, its own name alone.

    Args:
        arch: As `--arch` has it.

    Raises:
        UsageError: nothing stands behind the library's prefix, or it is no name.
    """
    prefix, name = split_arch(arch)
    if not name:
        raise UsageError(f"--arch {arch}: expected {prefix}:NAME")
    folder = Path(name).expanduser()
    if prefix == "hf" and (name.startswith(os.sep) or folder.is_dir()):
        arch = f"hf:{re.sub('[^A-Za-z0-9._-]', '_', folder.resolve().name)[:100]}"
    if not re.fullmatch(ARCH_PATTERN, arch):
        raise UsageError(
            f"--arch {arch}: expected a name of letters, digits, dots and dashes, behind timm:, hf:, open_clip: or a "
            f"module's path and colon where it is not torchvision's"
        )
    return arch
