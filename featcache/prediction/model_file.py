"""A head and its trunk as one file for everybody else's tools: torchvision's own network, or ONNX."""

import importlib.util
import io
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import MachineError, UsageError
from featcache.files import describe_target, expand_home, publish, translate_os_errors
from featcache.heads import LinearHead
from featcache.heads.saved import rank_models
from featcache.listing import readable
from featcache.prediction.model import HeadWithTrunk, open_head
from featcache.recipe import StoreOptions
from featcache.trunks import architecture

SUFFIXES = (".pt", ".onnx")
OPSET = 17  # the first that has layer normalisation as one operator


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    model: Path
    about: Path  # the transform and the class names, JSON
    parameters: int
    outputs: int
    head: str
    notes: tuple[str, ...]
    chosen: str = ""  # where a word stood for the head: which one that is and why, in a sentence

    def to_json(self) -> dict[str, Any]:
        """The keys of `featcache export-model --json`."""
        return {
            "model": readable(str(self.model)),
            "about": readable(str(self.about)),
            "parameters": self.parameters,
            "outputs": self.outputs,
            "head": self.head,
            "notes": list(self.notes),
            "chosen": self.chosen or None,
        }


@checked
def export_model(head: str | None, to: str | Path, **where: Unpack[StoreOptions]) -> Exported:
    """Write trunk and head as one network, and beside it its transform and class names; `head` as for `predict`.

    `model.pt` is a state dict for torchvision's class (`vit_b_16(num_classes=N)`, strict); `model.onnx` takes `pixels`
    (n, 3, crop, crop) float32, normalised, and gives `logits` (n, N).

    Raises:
        UsageError: `to` ends in something else, or its folder does not exist.
        CacheError: no such head; or its trunk's weights are not here, or others.
        MachineError: it cannot be written; or ONNX is asked for and not installed.
    """
    to = Path(expand_home(to))
    if to.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--to {readable(str(to))}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if not to.parent.is_dir() or to.is_dir():
        raise UsageError(f"--to {readable(str(to))}: expected a file in a folder that exists")
    for target in (to, to.with_suffix(".json")):
        if problem := describe_target(target):
            raise UsageError(f"{readable(str(target))}: {problem}; name another file with --to")
    if to.suffix.lower() == ".onnx" and importlib.util.find_spec("onnx") is None:
        raise MachineError("ONNX files are written with onnx, which is not installed: pip install 'featcache[onnx]'")
    asking = open_head(head, **where)
    layer = asking.saved.layer
    if layer is None:
        raise UsageError(_no_layer(asking, Asked(**where)))
    network = _network(asking, layer)
    write = {".pt": _state_dict, ".onnx": _onnx}[to.suffix.lower()]
    about = to.with_suffix(".json")
    parameters = sum(value.numel() for value in network.parameters())
    with translate_os_errors(to):
        _replace(to, write(network, asking.transform.crop))
        _replace(about, json.dumps(_about(asking, to, parameters), indent=2, ensure_ascii=True).encode() + b"\n")
    return Exported(
        to,
        about,
        parameters,
        len(asking.saved.classes),
        asking.saved.name,
        (*asking.notes, *_notes(asking)),
        asking.chosen,
    )


def _no_layer(asking: HeadWithTrunk, asked: Asked) -> str:
    """Why a classifier is not exported; where a word stood for it, which head can be."""
    reason = f"{asking.saved.name}: only a head of `featcache fit-head` is a layer of the network"
    if not asking.chosen:
        return reason
    linear = next((one.name for one in rank_models(asked)[0] if one.is_layer and not one.has_diverged), None)
    best = f"the best of those is {linear}: name it" if linear else "there is none yet: run `featcache fit-head`"
    return f"{reason}; {best}. ({asking.chosen})"


def _network(asking: HeadWithTrunk, head: LinearHead) -> Any:
    """Torchvision's own module, with the trunk's tensors and the head in its classifier."""
    import torch
    from torchvision.models import VisionTransformer

    spec = asking.store.trunk.spec
    arch = architecture(spec.arch)
    with torch.device("meta"):
        network = VisionTransformer(
            image_size=spec.transform.crop,
            patch_size=arch.patch,
            num_layers=arch.depth,
            num_heads=arch.heads,
            hidden_dim=arch.dim,
            mlp_dim=arch.mlp,
            num_classes=len(asking.saved.classes),
        )
    state = dict(asking.source.tensors)
    state["heads.head.weight"] = torch.from_numpy(head.weight)
    state["heads.head.bias"] = torch.from_numpy(head.bias)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def _state_dict(network: Any, crop: int) -> bytes:  # noqa: ARG001 (as `_onnx`)
    import torch

    file = io.BytesIO()
    torch.save({name: value.detach().contiguous() for name, value in network.state_dict().items()}, file)
    return file.getvalue()


def _onnx(network: Any, crop: int) -> bytes:
    import torch

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is an old one, and says so; see docs/decisions/031-onnx.md
        torch.onnx.export(
            network, (torch.zeros(2, 3, crop, crop),), file,  # type: ignore[arg-type]
            dynamo=False, opset_version=OPSET,
            input_names=["pixels"], output_names=["logits"],
            dynamic_axes={"pixels": {0: "images"}, "logits": {0: "images"}},
        )  # fmt: skip
    return file.getvalue()


def _about(asking: HeadWithTrunk, to: Path, parameters: int) -> dict[str, Any]:
    """All that a stranger needs to use the file."""
    spec = asking.store.trunk.spec
    arch, transform = architecture(spec.arch), asdict(spec.transform)
    published = bool(arch.published)
    made = (
        f"torchvision.models.{arch.name}(num_classes={len(asking.saved.classes)}, image_size={spec.transform.crop})"
        if published
        else f"torchvision.models.VisionTransformer({spec.transform.crop}, {arch.patch}, {arch.depth}, {arch.heads}, "
        f"{arch.dim}, {arch.mlp}, num_classes={len(asking.saved.classes)})"
    )
    return {
        "model": to.name,
        "network": made,
        "parameters": parameters,
        "classes": list(asking.saved.classes),
        "transform": {
            **transform,
            "in_words": "decode to RGB, resize the shorter edge, crop the centre square, divide by 255, subtract mean, "
            "divide by std",
        },
        "input": {
            "name": "pixels",
            "shape": ["images", 3, spec.transform.crop, spec.transform.crop],
            "dtype": "float32",
        },
        "output": {"name": "logits", "shape": ["images", len(asking.saved.classes)], "softmax": "not applied"},
        "head": asking.saved.name,
        "trunk": {"weights": asking.store.trunk.weights_name, "sha256": spec.weights_sha256, "compute": spec.compute},
        "notes": [*asking.notes, *_notes(asking)],
    }


def _notes(asking: HeadWithTrunk) -> tuple[str, ...]:
    spec = asking.store.trunk.spec
    if spec.compute == "float32" and spec.stored == "float32":
        return ()
    how = " and ".join(
        filter(None, [spec.compute * (spec.compute != "float32"), "stored as float16" * (spec.stored != "float32")])
    )
    return (
        f"the head was trained on embeddings in {how}; this file computes in float32, so its answers differ a little "
        f"from those of `featcache predict`",
    )


def _replace(path: Path, data: bytes) -> None:
    """The whole file or nothing."""
    publish(path, data, replace=True)
