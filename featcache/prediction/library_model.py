"""A head behind a network of another library, as one network for export."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import FeatcacheError, UsageError
from featcache.media import ImageTransform
from featcache.prediction.model import HeadWithTrunk
from featcache.trunks.libraries import LayerReader, LibrarySource

if TYPE_CHECKING:
    from torch import Tensor, nn

_DIFFERENCE = 1e-3  # of the largest logit, between the network and its ONNX file


def build_library_network(model: HeadWithTrunk, head: "nn.Module") -> Any:
    """Return a network of another library with a head on the layer that the head was trained on.

    Args:
        model: The head, and where its trunk is.
        head: The head, from embeddings (rows, width) to logits.

    Returns:
        A `torch.nn.Module` from normalised pixels to logits: `trunk` is the library's own, `heads` the head.

    Raises:
        CacheError: the trunk's weights are not here.
        UsageError: no class of the library has a classifier on this layer.
    """
    import torch

    source = model.source
    if not isinstance(source, LibrarySource):
        spec = model.store.trunk.spec
        raise UsageError(
            f"{model.saved.name}: it was trained on layer {spec.layer} of {spec.arch}, and torchvision's class has its "
            f"classifier on cls alone; export a head of layer cls"
        )
    network = source.loaded
    reader = LayerReader(network, [model.store.trunk.spec.layer])

    class LibraryNetworkWithHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = network.module
            self.heads = head

        def forward(self, pixels: "Tensor") -> "Tensor":
            logits: Tensor = self.heads(reader(pixels)[0].flatten(1))
            return logits

    return LibraryNetworkWithHead().eval().requires_grad_(requires_grad=False)


def describe_network(model: HeadWithTrunk, head: str) -> str:
    """Return what the tensors of a model.pt belong to, in the words of its library.

    Args:
        model: The head, and where its trunk is.
        head: The head's module, as torch makes it.
    """
    spec = model.store.trunk.spec
    prefix, _, name = spec.arch.rpartition(":") if ":" in spec.arch else ("", "", spec.arch)
    maker = {
        "": f"torchvision.models.{name}()",
        "timm": f"timm.create_model({name!r}, num_classes=0)",
        "hf": f"the vision network of transformers' {name}",
        "open_clip": f"open_clip.create_model({name!r}).visual",
    }.get(prefix, f"{spec.arch} as it was imported")
    return f"trunk.*: {maker}, without its classifier; heads.*: {head} on its layer {spec.layer}"


def describe_steps(transform: ImageTransform) -> str:
    """Return how an image becomes the input, in words.

    Args:
        transform: That of the trunk.
    """
    resize = "resize the shorter edge" if transform.fit == "shorter" else "resize both edges, whatever the shape"
    cut = "crop the centre square" if not transform.height else "crop the centre"
    return f"decode to RGB, {resize}, {cut}, divide by 255, subtract mean, divide by std"


@contextlib.contextmanager
def explain_onnx_failure(arch: str) -> Iterator[None]:
    """Turn what ONNX's exporter raises on a network that it cannot express into one sentence.

    Args:
        arch: The network.

    Raises:
        UsageError: anything was raised within.
    """
    try:
        yield
    except (FeatcacheError, MemoryError):
        raise
    except Exception as error:  # an exporter fails in any way that it likes
        reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
        raise UsageError(
            f"{arch} cannot be written as ONNX: {reason.rstrip('.')}. --to model.pt writes its tensors instead"
        ) from None


def require_equal_onnx(network: Any, content: bytes, input_size: tuple[int, int], arch: str) -> None:
    """Refuse an ONNX file that does not compute what its network does; without onnxruntime it is not tried.

    Args:
        network: It.
        content: The file's bytes.
        input_size: (height, width), pixels.
        arch: The network, as a message names it.

    Raises:
        UsageError: for one image or three, logits differ.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    pixels = torch.rand(3, 3, *input_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for count in (1, 3):
        with torch.inference_mode():
            ours = network(pixels[:count]).numpy()
        theirs = session.run(["logits"], {"pixels": pixels[:count].numpy()})[0]
        if theirs.shape != ours.shape or np.abs(theirs - ours).max() > _DIFFERENCE * max(1.0, np.abs(ours).max()):
            raise UsageError(
                f"{arch} cannot be written as ONNX: for {count} images the file computes other logits than the "
                f"network. --to model.pt writes its tensors instead"
            )
