"""A network as the bytes of a file: PyTorch's state dict, or ONNX."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

OPSET = 17  # the first that has layer normalisation as one operator


def to_state_dict(network: Any, input_size: tuple[int, int]) -> bytes:  # noqa: ARG001 (as `to_onnx`)
    """Return the bytes of a file with the network's state dict."""
    import torch

    file = io.BytesIO()
    torch.save({name: value.detach().contiguous() for name, value in network.state_dict().items()}, file)
    return file.getvalue()


def to_onnx(network: Any, input_size: tuple[int, int]) -> bytes:
    """Return the bytes of an ONNX file of the network, for images of (height, width) pixels."""
    import torch

    file = io.BytesIO()
    with warnings.catch_warnings(), _decomposed_attention():
        warnings.simplefilter("ignore")  # this exporter is an old one, and says so; see docs/decisions/031-onnx.md
        torch.onnx.export(
            network, (torch.zeros(2, 3, *input_size),), file,  # type: ignore[arg-type]
            dynamo=False, opset_version=OPSET,
            input_names=["pixels"], output_names=["logits"],
            dynamic_axes={"pixels": {0: "images"}, "logits": {0: "images"}},
        )  # fmt: skip
    return file.getvalue()


@contextlib.contextmanager
def _decomposed_attention() -> Iterator[None]:
    """Have torch's attention layer compute in operations that ONNX has, instead of the one that only torch has."""
    from torch.backends import mha

    was_enabled = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(was_enabled)
