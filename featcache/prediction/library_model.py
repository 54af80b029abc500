"""A head behind a network of another library, as one network for export."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import FeatcacheError, UsageError
from featcache.media import ImageTransform
from featcache.prediction.head_module import HeadModule
from featcache.prediction.head_trunk import HeadTrunk
from featcache.prediction.model import HeadWithTrunk
from featcache.trunks import ARCHITECTURES, architecture
from featcache.trunks.libraries import LayerReader, LibrarySource, wrap_vision_transformer

if TYPE_CHECKING:
    from torch import Tensor, nn

_DIFFERENCE = 1e-3  # of the largest logit, between the network and its ONNX file


def build_library_network(model: HeadWithTrunk, head: "nn.Module") -> Any:
    """Return a network with a head on the layer, or on the layers side by side, that the head was trained on.

    Args:
        model: The head, and where its trunk is.
        head: The head, from embeddings (rows, width) to logits.

    Returns:
        A `torch.nn.Module` from normalised pixels to logits: `trunk` is the library's own, `heads` the head.

    Raises:
        CacheError: the trunk's weights are not here.
        UsageError: the head takes features of several trunks.
    """
    import torch

    trunk = model.only_trunk
    source = trunk.source
    if isinstance(source, LibrarySource):
        network = source.loaded
    else:
        unused = HeadModule(torch.nn.Linear(source.arch.dim, 1), "", is_layer=True, is_softmax=True)  # is taken out
        network = wrap_vision_transformer(build_vision_transformer(trunk, unused, 1))
    reader = LayerReader(network, trunk.layers)

    class LibraryNetworkWithHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = network.module
            self.heads = head

        def forward(self, pixels: "Tensor") -> "Tensor":
            rows = torch.cat([value.flatten(1) for value in reader(pixels)], dim=1)
            logits: Tensor = self.heads(rows)
            return logits

    return LibraryNetworkWithHead().eval().requires_grad_(requires_grad=False)


def build_vision_transformer(trunk: HeadTrunk, head: HeadModule, classes: int) -> Any:
    """Return torchvision's own module, with the trunk's tensors and a head as its classifier.

    Args:
        trunk: One of our own Vision Transformers.
        head: The head's module.
        classes: How many outputs it has.
    """
    import torch
    from torchvision.models import VisionTransformer

    arch = architecture(trunk.spec.arch)
    with torch.device("meta"):
        network = VisionTransformer(
            image_size=trunk.transform.crop, patch_size=arch.patch, num_layers=arch.depth, num_heads=arch.heads,
            hidden_dim=arch.dim, mlp_dim=arch.mlp, num_classes=classes,
        )  # fmt: skip
    if head.is_layer:
        network.heads.head = head.module
    else:
        network.heads = head.module
    network.load_state_dict({**network.state_dict(), **trunk.source.tensors}, strict=True, assign=True)
    return network.eval()


def describe_vision_transformer(trunk: HeadTrunk, options: str = "") -> str:
    """Return how torchvision makes one of our own Vision Transformers.

    Args:
        trunk: It.
        options: Further arguments, such as "num_classes=2".
    """
    arch, crop = architecture(trunk.spec.arch), trunk.transform.crop
    if arch.published:
        words = ", ".join(filter(None, [options, f"image_size={crop}"]))
        return f"torchvision.models.{arch.name}({words})"
    shape = f"{crop}, {arch.patch}, {arch.depth}, {arch.heads}, {arch.dim}, {arch.mlp}"
    return f"torchvision.models.VisionTransformer({', '.join(filter(None, [shape, options]))})"


def describe_network(model: HeadWithTrunk, head: str) -> str:
    """Return what the tensors of a model.pt belong to, in the words of its library.

    Args:
        model: The head, and where its trunk is.
        head: The head's module, as torch makes it.
    """
    trunk = model.only_trunk
    spec, several = trunk.spec, len(trunk.layers) > 1
    prefix, _, name = spec.arch.rpartition(":") if ":" in spec.arch else ("", "", spec.arch)
    maker = {
        "": f"torchvision.models.{name}()",
        "timm": f"timm.create_model({name!r}, num_classes=0)",
        "hf": f"the vision network of transformers' {name}",
        "open_clip": f"open_clip.create_model({name!r}).visual",
    }.get(prefix, f"{spec.arch} as it was imported")
    maker = describe_vision_transformer(trunk) if spec.arch in ARCHITECTURES else maker
    layers = f"its layers {'+'.join(trunk.layers)}, side by side" if several else f"its layer {spec.layer}"
    return f"trunk.*: {maker}, without its classifier; heads.*: {head} on {layers}"


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
