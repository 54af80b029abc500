"""How a library's network is run: by the fast forward where it is a plain ViT, else by the library's own module."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import ViT, cast_network
from featcache.trunks.libraries.folding import fold_batch_norms, restore
from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.plain_vit import NotPlainError, describe_plain_vit

if TYPE_CHECKING:
    from featcache.trunks.libraries.base import LoadedNetwork

_EQUAL = 1e-5  # of the length of a row
_IMAGES = 2


def build_network(
    network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform, *, dtype: torch.dtype,
    device: str, versions: Mapping[str, str],
    package: str = "",
) -> ViT | LibraryNetwork:  # fmt: skip
    """Return a network on a device, at a precision.

    Args:
        network: It, float32 on the CPU; it is changed.
        layers: Which are kept, in this order.
        transform: Has the mean and the standard deviation of the pixels.
        dtype: What it computes in.
        device: As torch calls it.
        versions: Of the library, or of one's own code.
        package: The library's, as a person knows it; "" of a module of one's own, which is always run itself.

    Raises:
        UsageError: it has no such layer.
    """
    note = ""
    modules = [layer for layer in layers if layer.startswith("name:")]
    others = [layer for layer in layers if layer not in modules]
    if package:
        try:
            fast = build_plain_vit(network, others or layers, transform, dtype=dtype, device=device)
            if modules:  # a layer has the same bits whatever is kept beside it
                raise UsageError(
                    f"layer {modules[0]}: it is read from {package}'s own forward, the others are not; extract it in a "
                    f"run of its own"
                )
            return replace(fast, versions=tuple(versions.items()), note="the fast forward of ViTs")
        except NotPlainError as error:
            note = f"{package}'s own module ({error})"
        _fold(network, layers, transform)
    return LibraryNetwork(network, layers, transform, dtype=dtype, device=device, versions=versions, note=note)


def build_plain_vit(
    network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform, *, dtype: torch.dtype, device: str
) -> ViT:
    """Return the fast forward of a library's network, where it computes the same.

    It is tried: two images of noise go through it and through the library's own module in float32, and no layer of
    either may differ by more than 1e-5 of its length.

    Args:
        network: The network, float32 on the CPU; it stays as it is.
        layers: Which are kept, in this order.
        transform: Has the mean and the standard deviation of the pixels.
        dtype: What it computes in.
        device: As torch calls it.

    Raises:
        NotPlainError: it is none, or computes something else.
    """
    with torch.no_grad():
        plain = describe_plain_vit(network, layers, transform)
        try:
            difference = _compare(plain, network, layers, transform)
        except RuntimeError as error:
            raise NotPlainError(f"its parts do not fit together: {str(error).splitlines()[0]}") from None
        if not difference <= _EQUAL:
            raise NotPlainError(f"the fast forward differs from it by {difference:.0e}")
        fast: ViT = cast_network(plain, dtype, device)
    return fast


def _fold(network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform) -> None:
    """Fold a network's batch normalisations into its convolutions, in place, where that changes no layer by 1e-5."""
    has_norms = any(isinstance(part, torch.nn.BatchNorm2d) for part in network.module.modules())
    if not has_norms:
        return
    names = [layer.removeprefix("name:") for layer in layers if layer.startswith("name:")]
    read = [module for name, module in network.module.named_modules() if name in names]
    with torch.no_grad():
        before = _read_noise(network, layers, transform)
        replaced = fold_batch_norms(network.module, read)
        try:
            is_equal = all(map(_is_equal, _read_noise(network, layers, transform), before))
        except (RuntimeError, TypeError, AttributeError):  # it looks into the modules that were replaced
            is_equal = False
        if not is_equal:
            restore(replaced)


def _is_equal(rows: Tensor, expected: Tensor) -> bool:
    return _distance(rows, expected) <= _EQUAL


def _read_noise(network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform) -> list[Tensor]:
    """Return the layers of two images of noise, by the library's own module in float32."""
    own = LibraryNetwork(network, layers, transform, dtype=torch.float32, device="cpu", pads=False)
    return own.read_layers(_noise(transform))


def _noise(transform: ImageTransform) -> Tensor:
    """Return two images, uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (_IMAGES, 3, *transform.input_size), dtype=torch.uint8, generator=generator)


def _compare(plain: ViT, network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform) -> float:
    """Return the largest difference of a layer of two images of noise, as a share of its length."""
    fast, expected = cast_network(plain, torch.float32, "cpu"), _read_noise(network, layers, transform)
    rows = torch.split(fast(_noise(transform)), [value.shape[1] for value in expected], dim=1)
    return max(_distance(*pair) for pair in zip(rows, expected, strict=True))


def _distance(rows: Tensor, expected: Tensor) -> float:
    return float(((rows - expected).norm(dim=1) / expected.norm(dim=1)).nan_to_num(nan=torch.inf).max())
