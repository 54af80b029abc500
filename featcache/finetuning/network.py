"""The network that is trained: a library's own module up to a layer, and a linear head on it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featcache.errors import UsageError
from featcache.finetuning.blocks import find_blocks
from featcache.heads import HeadConfig, LinearHead, Scores
from featcache.media import ImageTransform
from featcache.text import counted

if TYPE_CHECKING:
    from featcache.trunks.libraries import LoadedNetwork

_NAN = float("nan")


class TrainableNetwork(nn.Module):
    """uint8 pixels in, logits out; the last blocks, or all of the network, learn.

    The head starts at zero, as the ViT paper has it, unless it is given.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: "LoadedNetwork", layer: str, width: int, classes: int, transform: ImageTransform, *,
        unfreeze: int | None = None, normalize: str = "none",
    ) -> None:  # fmt: skip
        """Take a network in; it is changed.

        Args:
            network: As its library loaded it, without its classifier.
            layer: What the head reads.
            width: The numbers of that layer.
            classes: Outputs of the head.
            transform: Has the mean and the standard deviation of the pixels.
            unfreeze: How many of the last blocks learn; None: the whole network.
            normalize: "l2" where the head reads vectors of length 1, as `HeadConfig` has it.

        Raises:
            UsageError: the network has no such layer, or fewer blocks.
        """
        from featcache.trunks.libraries import LayerReader

        super().__init__()
        self.trunk, self.normalize = network.module, normalize
        self.reader = LayerReader(network, [layer])
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (transform.mean, transform.std)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.blocks = find_blocks(network)
        self.learning = self._choose_learning(unfreeze)
        is_convolutional = any(isinstance(part, nn.BatchNorm2d) for part in self.trunk.modules())
        self.is_channels_last = is_convolutional and not network.keeps_layout
        if self.is_channels_last:
            self.trunk.to(memory_format=torch.channels_last)
        self.train_learning_parts()

    def _choose_learning(self, unfreeze: int | None) -> tuple[nn.Module, ...]:
        """Return the parts of the trunk that learn, with their tensors set to take gradients."""
        self.trunk.requires_grad_(requires_grad=False)
        if unfreeze is not None and unfreeze > len(self.blocks):
            raise UsageError(
                f"--unfreeze {unfreeze}: this network has {counted(len(self.blocks), 'block')}; leave --unfreeze out "
                f"to train all of it"
            ).correct("--unfreeze", str(len(self.blocks)))
        if unfreeze is None:
            learning: tuple[nn.Module, ...] = (self.trunk,)
        else:
            learning = (*self.blocks.blocks[len(self.blocks) - unfreeze :], *self.blocks.tail) if unfreeze else ()
        for part in learning:
            part.requires_grad_(requires_grad=True)
        return learning

    def train_learning_parts(self) -> None:
        """Put what learns in training mode, and what is frozen, its running statistics too, in evaluation mode."""
        self.trunk.eval()
        for part in self.learning:
            part.train()
        self.head.train()

    def embed(self, pixels: Tensor) -> Tensor:
        """Return what the head reads, (n, width) float32; pixels (n, 3, height, width), 0 to 255."""
        inputs = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels / 255
        inputs = inputs.sub_(self.mean).div_(self.std)
        if self.is_channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return self.reader(inputs)[0].flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, (n, classes); pixels (n, 3, height, width), 0 to 255."""
        rows = self.embed(pixels)
        if self.normalize == "l2":
            rows = functional.normalize(rows.float(), dim=1)
        logits: Tensor = self.head(rows)
        return logits

    def parameter_groups(self, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return what learns as groups for an optimizer, each with its `lr_scale` and `weight_decay`.

        The head and the tail learn at the learning rate itself; each block at `layer_decay` of the one behind it, the
        stem last (Clark et al. 2020; BEiT). Only matrices and filters decay.

        Args:
            layer_decay: From each block to the one before it.
            weight_decay: Of the weights.
        """
        top = len(self.blocks) + 1
        depths = [*self.blocks.depths(), *((parameter, top) for parameter in self.head.parameters())]
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        seen: set[int] = set()  # a tensor that two layers share learns once
        for parameter, depth in depths:
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
        return [
            {"params": members, "lr_scale": layer_decay ** (top - depth), "weight_decay": weight_decay * decays}
            for (depth, decays), members in groups.items()
        ]

    def learning_tensors(self) -> dict[str, Tensor]:
        """Return by name every tensor that a training changes: parameters that learn, and running statistics."""
        names = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        prefixes = tuple(f"{name}." for name, part in self.named_modules() if name and part in self.learning)
        state = self.state_dict()
        buffers = {name for name, _ in self.named_buffers() if name.startswith(prefixes) and name in state}
        return {name: value for name, value in state.items() if name in names | buffers}

    def load_learning_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors that `learning_tensors` gave, or a copy of them, in their places."""
        own = self.learning_tensors()
        if own.keys() != tensors.keys():
            raise ValueError("these are other tensors than those that learn")
        with torch.no_grad():
            for name, value in tensors.items():
                own[name].copy_(value)

    def linear_head(self, config: HeadConfig, steps: int = 0) -> LinearHead:
        """Return the head as it is now, without scores.

        Args:
            config: How it is trained.
            steps: That it was trained.
        """
        weight, bias = (value.detach().cpu().numpy().copy() for value in (self.head.weight, self.head.bias))
        unknown = Scores(_NAN, _NAN, _NAN)
        return LinearHead(config, weight, bias, steps, (), unknown, None)

    def load_head(self, weight: "np.ndarray[Any, Any]", bias: "np.ndarray[Any, Any]") -> None:
        """Put a trained head in place.

        Args:
            weight: (classes, width).
            bias: (classes,).
        """
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
            self.head.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))

    def count_learning(self) -> tuple[int, int]:
        """Return how many parameters learn, and how many there are."""
        parameters: Sequence[nn.Parameter] = list(self.parameters())
        return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
