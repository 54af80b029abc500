"""The forward of a module of one's own: its output as maps, its errors as sentences, and that it is a function."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featcache.errors import FeatcacheError, UsageError
from featcache.trunks import is_out_of_memory
from featcache.trunks.libraries.base import FeatureMaps, spatial, square
from featcache.trunks.libraries.import_path import describe_error

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_EQUAL = 1e-3  # of the largest number: kernels may round otherwise; a draw or a neighbour shows as far more


@dataclass(frozen=True, slots=True)
class OwnForward:
    """Runs a module, and reads what it returns."""

    module: "Module"
    name: str

    def __call__(self, pixels: "Tensor") -> FeatureMaps:
        """Return the maps of a batch, (n, 3, height, width) normalised.

        Raises:
            UsageError: the module fails, or returns something that is no features.
        """
        with explain_failure(self.name, pixels):
            output = self.module(pixels)
        return _maps(output, self.name, len(pixels))


@contextmanager
def explain_failure(name: str, pixels: "Tensor") -> Iterator[None]:
    """Turn what a user's own forward raises into one sentence; a lack of memory stays what it is.

    Args:
        name: The module, as `--arch` has it.
        pixels: What it was given.

    Raises:
        UsageError: anything was raised within.
    """
    try:
        yield
    except FeatcacheError:
        raise
    except Exception as error:  # a user's own code
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise UsageError(
            f"{name}: its forward fails on {len(pixels)} images of {pixels.shape[3]} x {pixels.shape[2]} pixels: "
            f"{describe_error(error)}"
        ) from None


def _maps(output: Any, name: str, images: int) -> FeatureMaps:
    """Return what a module gave as maps: vectors, tokens of which the mean is taken, or a map."""
    import torch

    value: Tensor = output
    if not isinstance(value, torch.Tensor) or value.ndim not in (2, 3, 4) or len(value) != images:
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(output).__name__}"
        raise UsageError(
            f"{name}: for {images} images its forward gives {found}, expected a tensor (images, width), (images, "
            f"tokens, width) or (images, width, rows, columns)"
        )
    if value.ndim == 2:
        return FeatureMaps(value)
    patches, grid = spatial(value) if value.ndim == 4 else (value, square(value))
    return FeatureMaps(patches.mean(dim=1), patches, grid)


def require_repeatable(forward: OwnForward, input_size: tuple[int, int]) -> None:
    """Refuse a module whose features of an image depend on anything but the image.

    Args:
        forward: It.
        input_size: (height, width) of its images, pixels.

    Raises:
        UsageError: it draws numbers, or looks at the other images of a batch; or it fails.
    """
    import torch

    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        pixels = torch.rand(3, 3, *input_size, generator=torch.Generator().manual_seed(0)) * 4 - 2
        first, again, other = (forward(pixels[rows]).pooled[0].float() for rows in ([0, 1], [0, 1], [0, 2]))
    scale = float(first.abs().max()) or 1.0
    if float((first - again).abs().max()) > _EQUAL * scale:
        raise UsageError(
            f"{forward.name}: it gives other features each time for the same image, in evaluation mode too; a frozen "
            f"trunk must not draw random numbers (a dropout that ignores self.training?)"
        )
    if float((first - other).abs().max()) > _EQUAL * scale:
        raise UsageError(
            f"{forward.name}: the features of an image depend on the other images of its batch (a batch "
            f"normalisation without running statistics?); they could not be kept image by image"
        )
