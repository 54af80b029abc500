"""python -m tests.golden.make_networks [ARCH …]     (from the root of a checkout; 10 minutes on two cores)

Makes tests/golden/networks.npz: what torchvision, timm and open_clip give of twelve pictures in their own plain loops,
one picture at a time, none of featcache's code. Of each layer eight projections and the length of a row are kept.

It prints how far featcache's features, whole, are from those: the largest difference of a row over its length.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import adaptive_avg_pool2d

from tests.golden.features import embed, real_weights
from tests.golden.networks import GOLDEN, LITE0, NETWORKS, Network, pictures, set_weights, sketch

Rows = dict[str, torch.Tensor]
Loop = tuple[torch.nn.Module, Callable[[Image.Image], torch.Tensor], Callable[[torch.Tensor], Rows]]

# Where torchvision's networks have their last map, as its own feature extractor names the place.
_PLACES = {
    "resnet34": "layer4", "resnet50": "layer4", "densenet121": "relu", "swin_t": "permute", "googlenet": "inception5b",
    "inception_v3": "Mixed_7c", "regnet_x_400mf": "trunk_output", "shufflenet_v2_x0_5": "conv5", "mnasnet0_5": "layers",
}  # fmt: skip


def main() -> None:
    """Compute what is asked for, or all, and write it down beside what is there."""
    torch.set_grad_enabled(False)
    kept = dict(np.load(GOLDEN)) if GOLDEN.is_file() else {}
    images = pictures()
    for network in NETWORKS:
        if sys.argv[1:] and network.arch not in sys.argv[1:]:
            continue
        module, preprocess, read = _loop(network)
        set_weights(module) if network.arch != LITE0 else module.load_state_dict(real_weights())
        rows = [read(preprocess(image)[None]) for image in images]
        theirs = {layer: torch.cat([row[layer] for row in rows]).flatten(1).numpy() for layer in network.layers}
        for layer, values in theirs.items():
            kept[f"{network.arch}/{layer}"] = sketch(values)
        with tempfile.TemporaryDirectory() as folder:
            save_file({k: v.contiguous() for k, v in _visual(module).state_dict().items()}, f"{folder}/w.safetensors")
            ours = embed(network, Path(folder) / "w.safetensors", images)
        for layer, values in theirs.items():
            error = np.linalg.norm(ours[layer] - values, axis=1) / np.linalg.norm(values, axis=1)
            sys.stdout.write(f"{network.arch:40} {layer:14} {values.shape[1]:7} {error.max():.1e}\n")
            sys.stdout.flush()
        np.savez_compressed(GOLDEN, **kept)


def _visual(module: Any) -> Any:
    return getattr(module, "visual", module)


def _loop(network: Network) -> Loop:
    library, colon, name = network.arch.partition(":")
    if not colon:
        return _torchvision(network.arch)
    return _timm(name, network) if library == "timm" else _open_clip(name, network)


def _from_map(pooled: torch.Tensor, last: torch.Tensor) -> Rows:
    return {"pooled": pooled, "mean": last.mean((2, 3)), "grid2": adaptive_avg_pool2d(last, 2).flatten(2).mT}


def _from_tokens(pooled: torch.Tensor, last: torch.Tensor, before: torch.Tensor, prefix: int) -> Rows:
    """Return the layers of a ViT's last tokens and of those a block before, both normalised."""
    patches = last[:, prefix:]
    edge = round(patches.shape[1] ** 0.5)
    return {
        **_from_map(pooled, patches.mT.reshape(1, -1, edge, edge)),
        "tokens": patches,
        "cls": last[:, 0],
        "cls@-2": before[:, 0],
        "mean@-2": before[:, prefix:].mean(1),
    }


def _torchvision(name: str) -> Loop:
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    options = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, **options).eval()
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    last = linear[-1] if linear else model.classifier[1]
    read: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
    place = _PLACES.get(name, "features")
    if name == "vit_b_32":
        nodes = {"encoder.layers.encoder_layer_10": "before", "encoder.ln": "last"}
        extract = create_feature_extractor(model, nodes)
    else:
        extract = create_feature_extractor(model, {place: "last", **_named(name)})

    def layers(pixels: torch.Tensor) -> Rows:
        read.clear()
        model(pixels)
        maps = extract(pixels)
        if name == "vit_b_32":
            return _from_tokens(read[0], maps["last"], model.encoder.ln(maps["before"]), 1)
        pooled = read[0].mean((2, 3)) if read[0].ndim == 4 else read[0]  # SqueezeNet's classifier is a convolution
        named = {f"name:{key}": maps[key.replace(".", "_")].mean((2, 3)) for key in _named(name)}
        return {**_from_map(pooled, maps["last"]), **named}

    return model, next(iter(torchvision.models.get_model_weights(name))).transforms(), layers


def _named(name: str) -> dict[str, str]:
    keys = {"resnet34": ("layer3.1",), "resnet50": ("layer3",)}.get(name, ())
    return {key: key.replace(".", "_") for key in keys}


def _timm(name: str, network: Network) -> Loop:
    import timm

    size = {"img_size": network.image_size} if network.image_size else {}
    model: Any = timm.create_model(name, num_classes=0 if network.arch != LITE0 else 1000, **size).eval()
    config = timm.data.resolve_model_data_config(model)
    if size:
        config["input_size"] = (3, network.image_size, network.image_size)
    transform = timm.data.create_transform(**config, is_training=False)

    def layers(pixels: torch.Tensor) -> Rows:
        pooled = model(pixels) if network.arch != LITE0 else model.global_pool(model.forward_features(pixels))
        if "tokens" not in network.layers or "mixer" in name:
            tokens = {} if "mixer" not in name else {"tokens": model.forward_features(pixels)}
            is_plain = not tokens and "swin" not in name
            last = model.forward_features(pixels) if is_plain else _last_map(model, pixels)
            return {**_from_map(pooled, last), **tokens}
        pairs = model.forward_intermediates(
            pixels, indices=2, norm=True, output_fmt="NLC", intermediates_only=True, return_prefix_tokens=True
        )
        before, last = (
            torch.cat([p[1], p[0]], 1) if isinstance(p, tuple) and p[1] is not None else _first(p) for p in pairs
        )
        return _from_tokens(pooled, last, before, last.shape[1] - _first(pairs[1]).shape[1])

    return model, transform, layers


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _last_map(model: Any, pixels: torch.Tensor) -> Any:
    return model.forward_intermediates(pixels, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]


def _open_clip(name: str, network: Network) -> Loop:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=None)
    model.eval()

    def layers(pixels: torch.Tensor) -> Rows:
        pooled = model.encode_image(pixels)
        if "tokens" not in network.layers:
            if hasattr(model.visual, "trunk"):
                output = model.visual.forward_intermediates(pixels, indices=1, normalize_intermediates=True)
            else:
                output = model.visual.forward_intermediates(pixels, indices=1)
            return _from_map(pooled, output["image_intermediates"][-1])
        output = model.visual.forward_intermediates(
            pixels, indices=2, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
        )
        prefixes = output["image_intermediates_prefix"]
        before, last = (
            torch.cat([cls, patches], 1) for cls, patches in zip(prefixes, output["image_intermediates"], strict=True)
        )
        return _from_tokens(pooled, last, before, 1)

    return model, preprocess, layers


if __name__ == "__main__":
    main()
