"""What featcache needs of a library: the protocol, and the values that pass through it."""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from featcache.errors import MachineError
from featcache.media import ImageTransform

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """What one forward leaves of a batch, before anything is chosen from it; n images."""

    pooled: "Tensor"  # (n, d): what the network's own classifier reads
    patches: "Tensor | None" = None  # (n, positions, d), row by row of `grid`: patch tokens, or places of a map
    grid: tuple[int, int] = (0, 0)  # (rows, columns) of `patches`
    cls: "Tensor | None" = None  # (n, d): the class token behind the last normalisation


Forward = Callable[["Tensor"], FeatureMaps]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNetwork:
    """A network of a library with its weights, float32 on the CPU, frozen, without its classifier."""

    module: "Module"
    forward: Forward  # (n, 3, height, width) normalised -> maps; it runs `module`, wherever that has been moved to
    transform: ImageTransform | None  # the model's own, exif and decoder at their defaults; None: it has none
    blocks: "tuple[Module, ...]" = ()  # a transformer's, in order, for layers such as cls@-2
    norm: "Module | None" = None  # its last normalisation, which those layers go through
    prefix_tokens: int = 0  # tokens before the patches: the class token and registers
    has_class_token: bool = True  # whether the first of those is one: a network may have registers alone
    is_channels_last: bool = False  # its maps are (n, rows, columns, d), as Swin's
    note: str = ""  # what was undone or left out in the weights' file, a part of a sentence
    config: str = ""  # see `TrunkSpec.config`
    is_interpolated: bool = False  # see `TrunkSpec.positions`
    named: "Mapping[str, Tensor] | None" = None  # its tensors as its library writes them; None: as the module has them
    own_pixels: Callable[[Any], Any] | None = None  # the library's own (3, h, w) float input of a Pillow image
    no_transform: str = ""  # why there is no `transform`, and what to do, a part of a sentence
    keeps_layout: bool = False  # its forward may depend on how tensors lie in memory: it gets plain ones


class Library(Protocol):
    """One library: its models by name."""

    prefix: str  # "timm" in "timm:resnet50"; "" for torchvision's bare names
    package: str  # the distribution whose version is noted

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return a model with its weights.

        Args:
            name: As it stands behind the prefix.
            weights: "pretrained" or another published name, a file, or "random".
            image_size: The input's edge, pixels, for a network that is built for one; 0: its own.
            interpolate: Interpolate position embeddings that are for another image size.

        Raises:
            UsageError: no such model, or no such weights.
            MachineError: the library is not installed; the weights are out of reach, damaged, or another network's.
        """

    def match_names(self, pattern: str) -> list[str]:
        """Return the models whose name holds a text, or matches a pattern with asterisks."""


UNTRAINED = "--weights random tries the rest out with an untrained network"  # beside the ways to the real ones
LIBRARY_PACKAGES = {"timm": "timm", "hf": "transformers", "open_clip": "open-clip"}  # prefix -> extra of featcache


def import_library(module: str, package: str, extra: str) -> Any:
    """Return a library's module.

    Args:
        module: As it is imported.
        package: As pip calls it.
        extra: Of featcache, that brings it.

    Raises:
        MachineError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise MachineError(f"{package} is not installed: pip install 'featcache[{extra}]'")
    return importlib.import_module(module)


@contextmanager
def explain_unreachable(what: str, way_out: str) -> Iterator[None]:
    """Turn whatever a library raises where it cannot fetch something into one sentence.

    Args:
        what: What was to be fetched.
        way_out: What to do without a network.

    Raises:
        MachineError: anything was raised within.
    """
    try:
        yield
    except MachineError:
        raise
    except Exception as error:  # hubs raise what their HTTP library raises
        raise MachineError(f"{what} could not be fetched: {_reason(error)}. {way_out}") from None


def _reason(error: BaseException) -> str:
    """Return why something could not be fetched, without a full stop; what hubs raise is known by name."""
    causes = [error, error.__cause__, error.__context__]
    for kind in (type(cause).__name__ for cause in causes if cause is not None):
        if kind in _REASONS:
            return _REASONS[kind]
    if "in the local cache" in str(error):  # what a library made of the hub's own error
        return _REASONS["LocalEntryNotFoundError"]
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


_REASONS = {
    "GatedRepoError": "it is gated: accept its terms on its page, and log in with `hf auth login`",
    "RepositoryNotFoundError": "the hub has no such network, or it is private",
    "LocalEntryNotFoundError": "it is not in the hub's cache, and the hub is out of reach",
    "OfflineModeIsEnabled": "it is not in the hub's cache, and HF_HUB_OFFLINE keeps off the hub",
    "URLError": "its server is out of reach",
}


def freeze(module: "Module") -> "Module":
    """Return a module in evaluation mode, none of whose tensors takes gradients."""
    return module.eval().requires_grad_(requires_grad=False)


def spatial(maps: "Tensor") -> "tuple[Tensor, tuple[int, int]]":
    """Return a map's places row by row, and how many rows and columns they are.

    Args:
        maps: (n, d, rows, columns).

    Returns:
        (n, rows x columns, d), and (rows, columns).
    """
    return maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3])


def has_channels_last(shape: tuple[int, ...], *, default: bool) -> bool:
    """Return whether a map is (n, rows, columns, d), and not (n, d, rows, columns).

    A network may hold both: torchvision's ConvNeXt is channels-first, and its blocks are not. The two equal ones of
    the three numbers are the rows and columns.

    Args:
        shape: Of the map, of a square image.
        default: The answer where the shape leaves it open.
    """
    _, first, middle, last = shape
    return default if (first == middle) == (middle == last) else first == middle


def square(tokens: "Tensor") -> "tuple[int, int]":
    """Return (rows, columns) of patch tokens, (n, t, d), of a square image."""
    edge = math.isqrt(int(tokens.shape[1]))  # under ONNX's tracing the shape is a tensor
    return (edge, edge) if edge * edge == tokens.shape[1] else (1, tokens.shape[1])
