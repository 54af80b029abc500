"""Vision networks of Hugging Face's transformers: `hf:google/vit-base-patch16-224`, or a folder that holds one."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError, UsageError
from featcache.media import ImageTransform
from featcache.trunks.libraries.base import (
    FeatureMaps,
    LoadedNetwork,
    explain_unreachable,
    freeze,
    import_library,
    spatial,
    square,
)  # fmt: skip
from featcache.trunks.libraries.seeding import seeded
from featcache.trunks.libraries.tensors import load_file
from featcache.trunks.libraries.weights_kind import weights_kind

if TYPE_CHECKING:
    from torch import Tensor

# Tokens before the patches, by the configuration's model_type; a class token is the first of them.
_PREFIX = {
    "vit": 1, "deit": 2, "beit": 1, "data2vec-vision": 1, "dinov2": 1, "clip_vision_model": 1, "ijepa": 0,
    "siglip_vision_model": 0, "swin": 0, "swinv2": 0, "vit_msn": 1,
}  # fmt: skip
_TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
_WITHOUT_POOLER = ("vit", "deit")  # their pooler is a layer that may never have been trained
_REFUSED = {"vit_mae": "it drops patches at random; a ViT with its weights is model_type vit"}
# What a configuration holds that no number of the network depends on.
_INCIDENTAL = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id",
    "problem_type", "finetuning_task", "_commit_hash", "return_dict", "use_cache", "output_attentions",
    "output_hidden_states", "_attn_implementation_autoset", "is_decoder", "task_specific_params",
)  # fmt: skip
_RESAMPLINGS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers


class TransformersModels:
    """Networks of the hub by their names, or of folders with config.json, preprocessor_config.json and weights."""

    prefix = "hf"
    package = "transformers"

    def match_names(self, pattern: str) -> list[str]:  # noqa: ARG002 (the hub is not listed)
        """Return nothing: the hub has no list that fits a screen."""
        return []

    def load(self, name: str, weights: str, image_size: int) -> LoadedNetwork:
        """Return a network with its weights, as `Library.load`; "pretrained" are those beside its configuration."""
        transformers = import_library("transformers", "transformers", "transformers")
        kind = weights_kind(weights)
        if kind == "published" and weights != "pretrained":
            raise UsageError(f"weights {weights!r} of hf:{name}: expected pretrained, a .safetensors file, or random")
        folder = Path(name).expanduser()
        source = str(folder) if folder.is_dir() else name
        is_folder = folder.is_dir() or (kind == "file" and Path(weights).is_dir())
        if kind == "file" and Path(weights).is_dir():
            source, kind = weights, "published"
        with _quiet(transformers):
            config, processor = _configuration(transformers, source, is_folder=is_folder)
            if image_size:
                config.image_size = image_size
            module, note = _build(transformers, config, source, weights, kind, is_folder=is_folder)
        return _network(module, config, processor, note)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep a library's notices, which are not about this command, from the terminal."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)
        hub.setLevel(level)


def _configuration(transformers: Any, source: str, *, is_folder: bool) -> tuple[Any, Any]:
    """Return a network's configuration, and its image processor on Pillow."""
    if is_folder:
        for file in ("config.json", "preprocessor_config.json"):
            if not os.path.isfile(os.path.join(source, file)):
                raise MachineError(
                    f"{source}: this folder has no {file}; a network of transformers needs config.json, "
                    f"preprocessor_config.json and model.safetensors, as save_pretrained writes them"
                )
    way_out = (
        "Download the model's config.json, preprocessor_config.json and model.safetensors into a folder on a machine "
        "with a network, and name that: --arch hf:FOLDER"
    )
    options = {"trust_remote_code": False, "local_files_only": is_folder}
    try:
        with explain_unreachable(f"hf:{source}", way_out):
            config = transformers.AutoConfig.from_pretrained(source, **options)
            processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except MachineError as error:
        if is_folder:
            raise MachineError(f"{source}: not a network of transformers that can be read: {error}") from None
        raise
    return config, processor


def _build(transformers: Any, config: Any, source: str, weights: str, kind: str, *, is_folder: bool) -> tuple[Any, str]:
    """Return the vision tower with its weights, and a note."""
    if why := _REFUSED.get(config.model_type):
        raise UsageError(f"hf:{source} is a {config.model_type}: {why}")
    tower = _TOWERS.get(config.model_type)
    class_ = getattr(transformers, tower) if tower else transformers.AutoModel
    vision = getattr(config, "vision_config", config) if tower else config
    options: dict[str, Any] = {"add_pooling_layer": False} if config.model_type in _WITHOUT_POOLER else {}
    if kind != "published":
        with seeded():
            try:
                module = class_._from_config(vision, **options) if tower else class_.from_config(vision, **options)
            except (ValueError, KeyError) as error:
                raise UsageError(f"hf:{source}: {str(error).splitlines()[0]}") from None
        note = load_file(module, weights, f"hf:{source}") if kind == "file" else ""
        return freeze(module), note
    import torch

    with explain_unreachable(f"weights of hf:{source}", "Name a folder that holds them: --arch hf:FOLDER"):
        module, info = class_.from_pretrained(
            source, config=vision, output_loading_info=True, dtype=torch.float32, use_safetensors=True,
            trust_remote_code=False, local_files_only=is_folder, **options,
        )  # fmt: skip
    if missing := sorted(info["missing_keys"]):
        raise MachineError(
            f"weights of hf:{source}: {len(missing)} tensors missing (first: {missing[0]}): they would be random. The "
            f"file is of another network, or of another version of transformers"
        )
    if info.get("mismatched_keys"):
        raise MachineError(f"weights of hf:{source}: tensors of another shape: {next(iter(info['mismatched_keys']))}")
    return freeze(module), ""


def _network(module: Any, config: Any, processor: Any, note: str) -> LoadedNetwork:
    """Return a vision network with its transform."""
    vision = getattr(config, "vision_config", config)
    kind = vision.model_type
    prefix = _PREFIX.get(kind)
    if kind in ("dinov2_with_registers", "dinov3_vit"):
        prefix = 1 + vision.num_register_tokens
    reads_mean = kind in ("dinov2", "dinov2_with_registers")  # their classifiers read both tokens

    def forward(pixels: "Tensor") -> FeatureMaps:
        import torch

        output = module(pixel_values=pixels)
        last, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
        if last.ndim == 4:
            patches, grid = spatial(last)
            return FeatureMaps(patches.mean(dim=1) if pooled is None else pooled.flatten(1), patches, grid)
        if prefix is None:
            if pooled is None:
                raise UsageError(f"a network of type {kind}: it is not known which of its tokens are patches")
            return FeatureMaps(pooled.flatten(1))
        if kind == "clip_vision_model":  # its last normalisation is applied to the class token alone
            last = (
                module.vision_model.post_layernorm(last)
                if hasattr(module, "vision_model")
                else module.post_layernorm(last)
            )
        patches = last[:, prefix:]
        cls = last[:, 0] if prefix else None
        if reads_mean:
            pooled = torch.cat([last[:, 0], patches.mean(dim=1)], dim=1)
        elif pooled is None:
            pooled = last[:, 0] if prefix else patches.mean(dim=1)
        return FeatureMaps(pooled.flatten(1), patches, square(patches), cls)

    blocks, norm = _blocks_of(module) if prefix is not None else ((), None)
    return LoadedNetwork(
        module, forward, transform_of(processor), blocks=blocks, norm=norm, prefix_tokens=prefix or 0, note=note,
        config=_digest(vision), own_pixels=lambda image: processor(image, return_tensors="pt")["pixel_values"][0],
    )  # fmt: skip


def _blocks_of(module: Any) -> tuple[tuple[Any, ...], Any]:
    """Return a transformer's blocks and its last normalisation, wherever its class keeps them."""
    from torch import nn

    inner = getattr(module, "vision_model", module)
    lists = [part for part in inner.modules() if isinstance(part, nn.ModuleList) and len(part) > 1]
    norm = next(
        (getattr(inner, name) for name in ("layernorm", "norm", "post_layernorm") if hasattr(inner, name)), None
    )
    longest: Any = max(lists, key=lambda part: len(part), default=())
    return tuple(longest), norm


def transform_of(processor: Any) -> ImageTransform:
    """Return the transform of an image processor.

    Raises:
        UsageError: a step of it that is not reproduced here.
    """
    size: Any = processor.size
    crop: Any = getattr(processor, "crop_size", None)
    if abs((getattr(processor, "rescale_factor", None) or 1 / 255) * 255 - 1) > 1e-6 or not processor.do_rescale:
        raise UsageError("this image processor does not divide the pixels by 255, which cannot be reproduced")
    if not processor.do_resize:
        raise UsageError(
            "this image processor does not resize: its images would differ in size, which cannot be stored"
        )
    values: dict[str, Any] = {
        "interpolation": _RESAMPLINGS[int(processor.resample)], "placement": "floor",
        "mean": tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        "std": tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
    }  # fmt: skip
    has_crop = bool(getattr(processor, "do_center_crop", False)) and crop
    if size.get("shortest_edge") and has_crop and not size.get("longest_edge"):
        height, width = crop["height"], crop["width"]
        return ImageTransform(
            resize=size["shortest_edge"], crop=width, height=0 if height == width else height, **values
        )
    if size.get("height") and size.get("width"):
        height, width = (crop["height"], crop["width"]) if has_crop else (size["height"], size["width"])
        other = {} if size["height"] == size["width"] else {"resize_height": size["height"]}
        if not has_crop:
            del values["placement"]  # nothing is cut: one transform, one identity
        return ImageTransform(
            resize=size["width"], fit="squash", crop=width, height=0 if height == width else height, **other, **values
        )
    raise UsageError(f"this image processor resizes to {dict(size)}, which cannot be reproduced")


def _digest(config: Any) -> str:
    """Return the sha256 of what the network's numbers depend on in its configuration, 64 hex digits."""
    values = {name: value for name, value in config.to_dict().items() if name not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
