"""A network of one's own, by the import path of what makes it: `mynets.small:SmallNet`."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from featcache.errors import FeatcacheError, UsageError
from featcache.media import ImageTransform
from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork, freeze, spatial, square
from featcache.trunks.libraries.seeding import seeded
from featcache.trunks.libraries.tensors import LoadedWeights, load_file
from featcache.trunks.libraries.weights_kind import PRETRAINED, weights_kind

if TYPE_CHECKING:
    from torch import Tensor

HOW_TO_STATE = (
    "give the module an attribute, transform = {'resize': 36, 'crop': 32, 'mean': (…), 'std': (…), 'interpolation': "
    "'bilinear'}, or type --transform resize=36,crop=32,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"
)


class OwnModules:
    """What `package.module:callable` returns: a `torch.nn.Module` from (n, 3, height, width) to features."""

    prefix = "module"
    package = "torch"

    def match_names(self, pattern: str) -> list[str]:  # noqa: ARG002 (anything that can be imported is one)
        """Return nothing: there is no list of what can be imported."""
        return []

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return the module with its weights: "pretrained" are those that it comes with."""
        if image_size:
            raise UsageError("--image-size has no effect on a module of your own: its transform says the size")
        kind = weights_kind(weights)
        if kind == "published" and weights != PRETRAINED:
            raise UsageError(
                f"weights {weights!r} of {name}: expected a .pth or .safetensors file, or pretrained (as it comes)"
            )
        module = self._make(name)
        transform = _transform(module, name)
        loaded = load_file(module, weights, name, interpolate=interpolate) if kind == "file" else LoadedWeights()
        return LoadedNetwork(
            freeze(module), lambda pixels: _maps(module(pixels), name), transform, note=loaded.note,
            is_interpolated=loaded.is_interpolated,
        )  # fmt: skip

    @staticmethod
    def _make(name: str) -> Any:
        """Import a callable and call it.

        Raises:
            UsageError: there is none, it fails, or returns something else than a module.
        """
        path, _, attribute = name.partition(":")
        if (here := os.getcwd()) not in sys.path:
            sys.path.insert(0, here)
        try:
            make: Any = importlib.import_module(path)
        except Exception as error:  # it runs a user's own code
            raise UsageError(f"--arch {name}: {path} cannot be imported: {type(error).__name__}: {error}") from None
        for part in attribute.split("."):
            make = getattr(make, part, None)
        if not callable(make):
            raise UsageError(f"--arch {name}: {path} has no callable {attribute!r} that makes a torch.nn.Module")
        import torch

        try:
            with seeded():
                module = make()
        except FeatcacheError:
            raise
        except Exception as error:  # a user's own code
            raise UsageError(
                f"--arch {name}: calling it without arguments failed: {type(error).__name__}: {error}"
            ) from None
        if not isinstance(module, torch.nn.Module):
            raise UsageError(f"--arch {name}: it returned {type(module).__name__}, expected a torch.nn.Module")
        return module


def _maps(output: Any, name: str) -> FeatureMaps:
    """Return what a module gave as maps: vectors, tokens of which the mean is taken, or a map."""
    import torch

    value: Tensor = output
    if not isinstance(value, torch.Tensor) or value.ndim not in (2, 3, 4):
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(output).__name__
        raise UsageError(
            f"{name}: its forward gives {shape}, expected a tensor (images, width), (images, tokens, width) or "
            f"(images, width, rows, columns)"
        )
    if value.ndim == 2:
        return FeatureMaps(value)
    patches, grid = spatial(value) if value.ndim == 4 else (value, square(value))
    return FeatureMaps(patches.mean(dim=1), patches, grid)


def _transform(module: Any, name: str) -> ImageTransform | None:
    given = getattr(module, "transform", None)
    if isinstance(given, ImageTransform) or given is None:
        return given
    if isinstance(given, dict):
        values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in given.items()}
        try:
            return ImageTransform(**values)
        except TypeError as error:
            raise UsageError(f"{name}: its transform cannot be read: {error}; {HOW_TO_STATE}") from None
    raise UsageError(f"{name}: its transform is {type(given).__name__}, which cannot be read; {HOW_TO_STATE}")
