"""Which vector of a network is kept: the names of layers, and what each is computed from."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from featcache.errors import UsageError
from featcache.trunks import LAYER_PATTERN
from featcache.trunks.libraries.base import has_channels_last

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork

AUTO = "auto"
LAYER_WORDS = "auto, cls, mean, pooled, tokens, grid2, grid4, cls@-2 or name:MODULE"


def check_layer(layer: str) -> str:
    """Return a layer's name.

    Args:
        layer: As a person types it.

    Raises:
        UsageError: it is none.
    """
    if layer != AUTO and not re.fullmatch(LAYER_PATTERN, layer):
        raise UsageError(f"layer {layer!r}: expected {LAYER_WORDS}")
    return layer


class LayerReader:
    """Reads layers out of one forward of a network."""

    def __init__(self, network: "LoadedNetwork", layers: Sequence[str]) -> None:
        """Prepare to read these layers, in this order.

        Args:
            network: The network.
            layers: Their names.

        Raises:
            UsageError: the network has no such layer, as far as it shows before a forward.
        """
        self.network, self.layers = network, tuple(layers)
        self._hooked: dict[str, Tensor] = {}
        self._hooks = {layer: self._hook(layer) for layer in layers if "@" in layer or layer.startswith("name:")}

    def __call__(self, pixels: "Tensor") -> "list[Tensor]":
        """Return each layer of a batch.

        Args:
            pixels: (n, 3, height, width), normalised.

        Returns:
            For each layer (n, d), or (n, t, d) of token layers.

        Raises:
            UsageError: the network has no such layer.
        """
        self._hooked.clear()
        handles = [module.register_forward_hook(hook) for module, hook in self._hooks.values()]
        try:
            maps = self.network.forward(pixels)
        finally:
            for handle in handles:
                handle.remove()
        return [self._hooked[layer] if layer in self._hooks else _read(maps, layer) for layer in self.layers]

    def _hook(self, layer: str) -> tuple[Any, Callable[[Any, Any, Any], None]]:
        """Return the module at which a layer is read, and what reads it there."""
        network = self.network
        if layer.startswith("name:"):
            name = layer.removeprefix("name:")
            modules = dict(network.module.named_modules())
            if name not in modules:
                raise UsageError(f"layer {layer}: the network has no module {name!r}; {_near(name, modules)}")

            def keep_output(module: Any, inputs: Any, output: Any) -> None:
                if hasattr(module, "unfolded"):  # its normalisation was folded into it
                    output = module.unfolded(*inputs)
                self._hooked[layer] = _pool(output, layer, is_channels_last=network.is_channels_last)

            return modules[name], keep_output
        kind, _, number = layer.partition("@")
        if not network.blocks:
            raise UsageError(
                f"layer {layer}: this network has no transformer blocks that are known; name:MODULE reads any"
            )
        if -int(number) > len(network.blocks):
            count = len(network.blocks)
            raise UsageError(f"layer {layer}: the network has {count} blocks, the first is {kind}@-{count}")

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            tokens = output[0] if isinstance(output, tuple) else output
            tokens = tokens if network.norm is None else network.norm(tokens)
            if kind == "mean":
                self._hooked[layer] = tokens[:, network.prefix_tokens :].mean(dim=1)
            elif network.prefix_tokens and network.has_class_token:
                self._hooked[layer] = tokens[:, 0]
            else:
                raise UsageError(_NO_CLASS_TOKEN.format(layer=layer))

        return network.blocks[int(number)], keep


_NO_CLASS_TOKEN = "layer {layer}: this network has no class token; take pooled or mean"  # noqa: S105 (no password)


def _read(maps: "FeatureMaps", layer: str) -> "Tensor":
    if layer == "pooled":
        return maps.pooled
    if layer == "cls":
        if maps.cls is None:
            raise UsageError(_NO_CLASS_TOKEN.format(layer=layer))
        return maps.cls
    if maps.patches is None:
        raise UsageError(
            f"layer {layer}: it is not known where this network keeps its patches; take pooled or name:MODULE"
        )
    if layer == "mean":
        return maps.patches.mean(dim=1)
    return maps.patches if layer == "tokens" else pool_grid(maps.patches, maps.grid, int(layer.removeprefix("grid")))


def pool_grid(patches: "Tensor", grid: tuple[int, int], edge: int) -> "Tensor":
    """Return patch tokens averaged to `edge` x `edge` cells, as torch's adaptive average pooling cuts them.

    Args:
        patches: (n, rows x columns, d).
        grid: (rows, columns).
        edge: Of the cells; at most the rows and columns.

    Returns:
        (n, edge x edge, d).

    Raises:
        UsageError: there are fewer rows or columns than that.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    if edge > min(grid):
        raise UsageError(f"layer grid{edge}: the network has {grid[0]} x {grid[1]} patches")
    image = torch.unflatten(patches.transpose(1, 2), 2, grid)  # an ONNX file would keep len(patches)
    return adaptive_avg_pool2d(image, edge).flatten(2).transpose(1, 2)


def _pool(output: Any, layer: str, *, is_channels_last: bool) -> "Tensor":
    """Return a module's output as one vector an image: the mean over the places of a map, or over all tokens."""
    import torch

    value = output[0] if isinstance(output, tuple) else output
    if not isinstance(value, torch.Tensor) or value.ndim not in (2, 3, 4):
        raise UsageError(
            f"layer {layer}: this module gives {type(value).__name__}, expected a tensor of 2 to 4 dimensions"
        )
    if value.ndim == 4:
        return value.mean(dim=(1, 2) if has_channels_last(tuple(value.shape), default=is_channels_last) else (2, 3))
    return value.mean(dim=1) if value.ndim == 3 else value


def _near(name: str, modules: dict[str, Any]) -> str:
    from featcache.arguments import suggest_name

    top = [known for known in modules if known and known.count(".") <= name.count(".")]
    return suggest_name(name, top) or f"it has {', '.join(top[:8])}, …"
