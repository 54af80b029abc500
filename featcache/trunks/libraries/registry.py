"""Which library a name is of."""

from featcache.errors import UsageError
from featcache.recipe import LIBRARY_PREFIXES
from featcache.trunks.libraries.base import Library


def split_arch(arch: str) -> tuple[str, str]:
    """Return ("timm", "resnet50") of "timm:resnet50"; ("", name) of torchvision's; ("module", path) of a path."""
    prefix, colon, name = arch.partition(":")
    if not colon:
        return "", arch
    return (prefix, name) if prefix in LIBRARY_PREFIXES else ("module", arch)


def library_of(arch: str) -> tuple[Library, str]:
    """Return the library that a name is of, and the name there.

    Args:
        arch: As `--arch` has it.

    Raises:
        UsageError: the name is empty behind its prefix.
    """
    from featcache.trunks.libraries import models

    prefix, name = split_arch(arch)
    if not name:
        raise UsageError(f"--arch {arch}: expected {prefix}:NAME")
    return models.LIBRARIES[prefix], name
