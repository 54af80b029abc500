"""torchvision's classification networks, by their bare names: resnet50, alexnet, vgg16, convnext_tiny, …"""

import math
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import network_timeout, refuse_damaged_file, seeded
from featcache.trunks.checkpoints import rename_vit
from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork, explain_unreachable, freeze, spatial
from featcache.trunks.libraries.import_path import as_import_path
from featcache.trunks.libraries.tensors import Expectation, LoadedWeights, fill, load_weights_file, pick_expected
from featcache.trunks.libraries.weights_argument import PRETRAINED, classify_weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # DenseNet's, in the files that are published
_INCEPTIONS = ("googlenet", "inception_v3")


class TorchvisionModels:
    """torchvision's classification networks."""

    prefix = ""
    package = "torchvision"

    def match_names(self, pattern: str) -> list[str]:
        """Return the networks that match."""
        import torchvision

        include = pattern if "*" in pattern else f"*{pattern}*"
        names: list[str] = torchvision.models.list_models(module=torchvision.models, include=include)
        return names

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return a network with its weights, as `Library.load`."""
        import torchvision
        from torch import hub

        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names:
            from featcache.trunks.libraries.zoo import no_trunk_error

            if path := as_import_path(name):
                reason = f"torchvision has no classification network {name!r}; a module of your own is named {path}"
                raise UsageError(reason).correct("--arch", path)
            raise no_trunk_error(f"torchvision has no classification network {name!r}", name)
        published = torchvision.models.get_model_weights(name)
        kind, loaded = classify_weights(weights), LoadedWeights()
        if weights == PRETRAINED:
            weights = "IMAGENET1K_V1" if "IMAGENET1K_V1" in published.__members__ else next(iter(published)).name
        if kind == "published" and weights not in published.__members__:
            known = ", ".join([*published.__members__, "a .pth or .safetensors file", "random"])
            raise UsageError(f"weights {weights!r}: no published weights of {name} have this name; expected {known}")
        entry = published[weights] if kind == "published" else self._entry_of_file(published, weights, kind)
        module = self._build(name, entry, image_size)
        if kind == "file":
            loaded = load_weights_file(module, weights, f"torchvision's {name}", _to_own_names, interpolate=interpolate)
        elif kind == "published":
            file = entry.url.rpartition("/")[2]
            way_out = (
                f"Copy {file} to the folder hub/checkpoints of torch's cache from a machine with a network, or name a "
                f"file with --weights FILE"
            )
            refuse_damaged_file(Path(hub.get_dir()) / "checkpoints" / file)
            with (
                explain_unreachable(f"weights {weights} of {name}", way_out),
                network_timeout(),
                redirect_stdout(sys.stderr),  # stdout is for results, and torch.hub writes there
            ):
                state = entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
            own = dict(module.state_dict())
            expectation = Expectation(own, f"torchvision's {name}", _to_own_names, interpolate=interpolate)
            tensors, loaded = pick_expected(Path(file), state, expectation)
            fill(module, tensors)
            loaded = replace(loaded, note="")
        transforms = entry.transforms() if entry is not None else None
        if image_size and transforms is not None:  # the same share of the image is kept
            resize, crop = transforms.resize_size[0], transforms.crop_size[0]
            transforms.resize_size, transforms.crop_size = [round(image_size * resize / crop)], [image_size]
        return replace(_network(freeze(module), transforms, loaded.note), is_interpolated=loaded.is_interpolated)

    @staticmethod
    def _entry_of_file(published: Any, weights: str, kind: str) -> Any:
        """Return the published weights whose transform a file gets: its own, by name, else the network's first."""
        entries = list(published)
        if kind == "file":
            return next((entry for entry in entries if entry.url.rpartition("/")[2] in weights), entries[0])
        return entries[0]

    @staticmethod
    def _build(name: str, entry: Any, image_size: int) -> "Module":
        """Return the network without its classifier, its own random weights in it."""
        import torchvision

        options: dict[str, Any] = {"weights": None}
        if name in _INCEPTIONS:  # with published weights they centre the pixels themselves
            options |= {"transform_input": True, "init_weights": True}
        if name.startswith("vit_"):
            options["image_size"] = image_size or entry.transforms().crop_size[0]
        elif image_size:
            raise UsageError(f"{name} takes images of any size: leave --image-size out, and name a --transform")
        with seeded():
            module: Module = torchvision.models.get_model(name, **options)
        if name in _INCEPTIONS:
            for part in ("aux1", "aux2", "AuxLogits"):
                setattr(module, part, None)
            cast("Any", module).aux_logits = False
        _remove_classifier(module)
        return module


def _to_own_names(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return tensors by the names that torchvision's modules have today, of an older file's or another library's."""
    renamed = rename_vit(tensors, "torchvision") or tensors
    return {_DENSE_LAYER.sub(r"\1\2", name): value for name, value in renamed.items()}


def _remove_classifier(module: Any) -> None:
    """Take the last layer out of a network, so that it gives what that layer reads."""
    from torch import nn

    if type(module).__name__ == "SqueezeNet":  # its last layer is a convolution, averaged
        module.classifier = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1))
        return
    for name in ("fc", "classifier", "head", "heads"):
        part = getattr(module, name, None)
        if isinstance(part, nn.Linear):
            setattr(module, name, nn.Identity())
            return
        if isinstance(part, nn.Sequential):
            key = next(key for key, child in reversed(part._modules.items()) if isinstance(child, nn.Linear))
            part._modules[key] = nn.Identity()
            return


def wrap_vision_transformer(module: "Module") -> LoadedNetwork:
    """Return torchvision's VisionTransformer, with weights and without a classifier, as layers are read of it.

    Args:
        module: It; its classifier is taken out.
    """
    _remove_classifier(module)
    return _network(freeze(module), None, "")


def _network(module: "Module", transforms: Any, note: str) -> LoadedNetwork:
    model: Any = module
    kind = type(model).__name__
    is_vit = kind == "VisionTransformer"
    place = _map_module(model)
    kept: dict[str, Tensor] = {}

    def forward(pixels: "Tensor") -> FeatureMaps:
        if place is None:
            return FeatureMaps(model(pixels))
        handle = place.register_forward_hook(lambda _m, _i, output: kept.__setitem__("map", output))
        try:
            pooled = model(pixels)
        finally:
            handle.remove()
        last_map = kept.pop("map")
        if is_vit:
            edge = math.isqrt(int(last_map.shape[1]) - 1)
            return FeatureMaps(pooled, last_map[:, 1:], (edge, edge), last_map[:, 0])
        if kind == "DenseNet":
            last_map = last_map.relu()
        return FeatureMaps(pooled, *spatial(last_map.permute(0, 3, 1, 2) if kind == "SwinTransformer" else last_map))

    return LoadedNetwork(
        module, forward, None if transforms is None else transform_of(transforms), note=note,
        is_channels_last=kind == "SwinTransformer",
        blocks=tuple(model.encoder.layers) if is_vit else (), norm=model.encoder.ln if is_vit else None,
        prefix_tokens=int(is_vit), own_pixels=transforms,
    )  # fmt: skip


def _map_module(model: Any) -> Any:
    """Return the module whose output is the last map of features, or a ViT's tokens; None where it is not known."""
    names = {
        "VisionTransformer": "encoder", "ResNet": "layer4", "SwinTransformer": "norm", "MNASNet": "layers",
        "ShuffleNetV2": "conv5", "RegNet": "trunk_output", "GoogLeNet": "inception5b", "Inception3": "Mixed_7c",
        "MaxVit": "blocks",
    }  # fmt: skip
    from torch import nn

    place = getattr(model, names.get(type(model).__name__, "features"), None)
    return place[-1] if isinstance(place, nn.ModuleList) else place  # a list of modules is never called itself


def transform_of(preset: Any) -> ImageTransform:
    """Return the transform of torchvision's `ImageClassification` preset.

    Raises:
        UsageError: a step of it that is not reproduced here.
    """
    resize, crop = preset.resize_size, preset.crop_size
    if len(resize) != 1 or len(crop) != 1:
        raise UsageError(f"torchvision's transform cannot be reproduced: it resizes to {resize} and crops {crop}")
    return ImageTransform(
        resize=resize[0], crop=crop[0], mean=tuple(preset.mean), std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )  # fmt: skip
