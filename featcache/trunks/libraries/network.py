"""A library's network as a trunk runs it: uint8 pixels in, the chosen layers out, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from featcache.media import ImageTransform
from featcache.trunks.libraries.layers import LayerReader
from featcache.trunks.libraries.steady import ROWS, split_batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from featcache.trunks.libraries.base import LoadedNetwork


class LibraryNetwork:
    """Runs a network in evaluation mode; the weights are cast and moved once, when it is built."""

    def __init__(
        self, network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform, *, dtype: "torch.dtype",
        device: str, versions: Mapping[str, str] | None = None, pads: bool = True, note: str = "",
    ) -> None:  # fmt: skip
        """Cast a network, and move it to a device.

        Args:
            network: The network; it is changed.
            layers: What is read of it, in this order.
            transform: Has the mean and the standard deviation of the pixels.
            dtype: What it computes in.
            device: As torch calls it.
            versions: Of the library, or of one's own code; they are recorded with what is embedded.
            note: What is said of it beside the engine, a part of a sentence.
            pads: Whether batches are filled up on a CPU, so that a row does not depend on how many there are.
        """
        import torch

        from featcache.trunks.libraries.folding import FoldedNorm

        self.dtype, self.versions, self.note = dtype, dict(versions or {}), note
        self.module = module = cast("Any", network.module)
        norms = (torch.nn.BatchNorm2d, FoldedNorm)
        is_convolutional = any(isinstance(part, norms) for part in module.modules())
        is_convolutional = is_convolutional and not network.keeps_layout
        self.memory_format = torch.channels_last if is_convolutional else torch.contiguous_format
        module.to(device=device, dtype=dtype).to(memory_format=self.memory_format)
        self.splits = pads and torch.device(device).type == "cpu"
        self.reader = LayerReader(network, layers)
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (transform.mean, transform.std))
        # torchvision's ToTensor and Normalize: x / 255, less the mean, over the deviation.
        self.mean, self.std = (value.view(1, 3, 1, 1).to(device) for value in (mean, std))

    @property
    def weight(self) -> "Tensor":
        """A tensor of the network's type, on its device."""
        return self.mean.to(self.dtype)

    @property
    def part(self) -> int:
        """Images of every forward; 0: as many as are given."""
        return ROWS if self.splits else 0

    @contextmanager
    def in_float32(self) -> "Iterator[LibraryNetwork]":
        """Run the module itself in float32, for as long as this lasts."""
        import torch

        dtype, self.dtype = self.dtype, torch.float32
        self.module.to(torch.float32)
        try:
            yield self
        finally:
            self.dtype = dtype
            self.module.to(dtype)

    def __call__(self, pixels: "Tensor") -> "Tensor":
        """(n, 3, height, width) uint8 -> (n, sum of the layers' widths) float32; a layer of tokens is laid flat."""
        import torch

        parts = split_batch(pixels) if self.splits else [pixels]
        return torch.cat([self._run(part) for part in parts])[: len(pixels)]

    def _run(self, pixels: "Tensor") -> "Tensor":
        """Return what `__call__` does, of all images in one forward."""
        import torch

        return torch.cat(self.read_layers(pixels), dim=1)

    def read_layers(self, pixels: "Tensor") -> "list[Tensor]":
        """Return each layer of a batch, (n, width) float32, of all images in one forward.

        Args:
            pixels: (n, 3, height, width) uint8.
        """
        normalised = pixels.float().div_(255).sub_(self.mean).div_(self.std)
        inputs = normalised.to(self.dtype).contiguous(memory_format=self.memory_format)
        return [value.flatten(1).float() for value in self.reader(inputs)]
