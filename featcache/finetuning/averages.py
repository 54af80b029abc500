"""An exponential moving average of the weights (Polyak & Juditsky 1992), which is used in place of the last ones."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from featcache.finetuning.network import TrainableNetwork


class WeightAverage:
    """A <- decay A + (1 - decay) W after each step; running statistics are the network's own."""

    def __init__(self, network: TrainableNetwork, decay: float) -> None:
        """Begin at the network's weights as they are.

        Args:
            network: Whose weights are averaged.
            decay: From 0, which is no average, to below 1.
        """
        self.network, self.decay = network, decay
        self.tensors: dict[str, Tensor] = {}
        if decay:
            self.tensors = {name: value.detach().clone() for name, value in self._weights().items()}

    def update(self) -> None:
        """Take in the weights of the step that was just made."""
        with torch.no_grad():
            for name, value in (self._weights() if self.decay else {}).items():
                average = self.tensors[name] = self.tensors[name].to(value.device)
                average.lerp_(value, 1 - self.decay)

    def put_in_place(self) -> None:
        """Give the network the average for good."""
        with torch.no_grad():
            for name, value in self._weights().items():
                value.copy_(self.tensors[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the average for as long as this lasts; without an average it stays as it is."""
        if not self.decay:
            yield
            return
        own = {name: value.detach().clone() for name, value in self._weights().items()}
        self.put_in_place()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._weights().items():
                    value.copy_(own[name])

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.network.named_parameters() if value.requires_grad}
