"""Vision networks of Hugging Face's transformers: `hf:google/vit-base-patch16-224`, or a folder that holds one."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError, UsageError
from featcache.text import counted
from featcache.trunks import seeded
from featcache.trunks.checkpoints import read_checkpoint, rename_vit
from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork, freeze, import_library, spatial, square
from featcache.trunks.libraries.tensors import SPELLINGS, Expectation, LoadedWeights, pick_expected
from featcache.trunks.libraries.transformers_files import find_folder, read_config, read_weights
from featcache.trunks.libraries.transformers_pixels import transform_of
from featcache.trunks.libraries.weights_argument import classify_weights

if TYPE_CHECKING:
    from torch import Tensor

# Tokens before the patches, by the configuration's model_type; a class token is the first of them.
_PREFIX = {
    "vit": 1, "deit": 2, "beit": 1, "data2vec-vision": 1, "dinov2": 1, "clip_vision_model": 1, "ijepa": 0,
    "siglip_vision_model": 0, "swin": 0, "swinv2": 0, "vit_msn": 1,
}  # fmt: skip
_TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
_TOWER_TYPES = ("clip_vision_model", "siglip_vision_model", "siglip2_vision_model")
_BESIDE_TOWERS = ("text_model", "text_projection", "visual_projection", "logit_scale", "logit_bias")
_PLAIN = ("vit", "deit", "vit_msn")  # other libraries have the same network under other names
_WITHOUT_BLOCKS = ("swin", "swinv2")  # their blocks are of several widths
_WITHOUT_POOLER = ("vit", "deit")  # their pooler is a layer that may never have been trained
_REFUSED = {"vit_mae": "it drops patches at random; a ViT with its weights is model_type vit"}
# What a configuration holds that no number of the network depends on.
_INCIDENTAL = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id",
    "problem_type", "finetuning_task", "_commit_hash", "return_dict", "use_cache", "output_attentions",
    "output_hidden_states", "_attn_implementation_autoset", "is_decoder", "task_specific_params",
)  # fmt: skip


class TransformersModels:
    """Networks of the hub by their names, or of folders with config.json, preprocessor_config.json and weights."""

    prefix = "hf"
    package = "transformers"

    def match_names(self, pattern: str) -> list[str]:  # noqa: ARG002 (the hub is not listed)
        """Return nothing: the hub has no list that fits a screen."""
        return []

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return a network with its weights, as `Library.load`; "pretrained" are those beside its configuration."""
        transformers = import_library("transformers", "transformers", "transformers")
        kind = classify_weights(weights)
        if kind == "published" and weights != "pretrained":
            raise UsageError(f"weights {weights!r} of hf:{name}: expected pretrained, a .safetensors file, or random")
        source = name
        if kind == "file" and Path(weights).is_dir():
            source, kind = weights, "published"
        with _quiet(transformers):
            folder = find_folder(source, with_weights=kind == "published")
            read_config(folder, transformers)
            config, processor = _configuration(transformers, folder)
            if image_size:
                _resize(config, processor, image_size)
            module = _empty(transformers, config, name)
            if kind == "random":
                with seeded():
                    module = type(module)._from_config(module.config, **_options(config))
                return _network(freeze(module), config, processor, "")
            file, document = (Path(weights), read_checkpoint(Path(weights))) if kind == "file" else read_weights(folder)
            filled, loaded = _fill(module, file, document, f"hf:{name}", interpolate=interpolate)
        network = _network(freeze(filled), config, processor, loaded.note)
        return replace(network, is_interpolated=loaded.is_interpolated)


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


def _configuration(transformers: Any, folder: Path) -> tuple[Any, Any]:
    """Return a network's configuration, and its image processor on Pillow."""
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), **options)
        processor = transformers.AutoImageProcessor.from_pretrained(str(folder), backend="pil", **options)
    except Exception as error:  # it reads anything, and checks little
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise MachineError(f"{folder}: not a network of transformers that can be read: {reason}") from None
    return config, processor


def _resize(config: Any, processor: Any, edge: int) -> None:
    """Make a network, and its processor, one for images of another size."""
    vision = getattr(config, "vision_config", config)
    if not isinstance(getattr(vision, "image_size", None), int):
        raise UsageError("this network takes images of any size: leave --image-size out")
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    vision.image_size = edge
    if size.get("shortest_edge"):
        share = size["shortest_edge"] / crop["width"] if crop else 1
        processor.size = type(processor.size)(**{**size, "shortest_edge": round(edge * share)})
    else:
        processor.size = type(processor.size)(**{**size, "height": edge, "width": edge})
    if crop:
        processor.crop_size = type(processor.crop_size)(**{**crop, "height": edge, "width": edge})


def _options(config: Any) -> dict[str, Any]:
    return {"add_pooling_layer": False} if config.model_type in _WITHOUT_POOLER else {}


def _empty(transformers: Any, config: Any, name: str) -> Any:
    """Return the vision network that a configuration describes, on torch's meta device: it takes no memory.

    Raises:
        UsageError: it describes no network, or none of images.
    """
    import torch

    if why := _REFUSED.get(config.model_type):
        raise UsageError(f"hf:{name} is a {config.model_type}: {why}")
    tower = _TOWERS.get(config.model_type)
    try:
        class_: Any = getattr(transformers, tower) if tower else transformers.AutoModel._model_mapping[type(config)]
        with torch.device("meta"):
            module = class_._from_config(
                getattr(config, "vision_config", config) if tower else config, **_options(config)
            )
    except Exception as error:  # a configuration may say anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise UsageError(f"hf:{name}: its config.json describes no network that can be built: {reason}") from None
    if module.main_input_name != "pixel_values":
        raise UsageError(f"hf:{name} is a {config.model_type}: it reads {module.main_input_name}, not images")
    return module


def _fill(module: Any, file: Path, document: Any, what: str, *, interpolate: bool) -> tuple[Any, LoadedWeights]:
    """Return a network with the tensors of a checkpoint, all of them or none, and what was done."""
    import torch

    beside = _BESIDE_TOWERS if module.config.model_type in _TOWER_TYPES else ("pooler",)
    expectation = Expectation(
        _file_names(module), what, lambda tensors: _to_file_names(module, tensors), beside, interpolate,
        (*SPELLINGS, tuple(name for name in module.state_dict() if ".0." in name)[:4]),
    )  # fmt: skip
    tensors, loaded = pick_expected(file, document, expectation)
    try:
        filled, info = type(module).from_pretrained(
            None, config=module.config, state_dict=tensors, output_loading_info=True, dtype=torch.float32,
            **({"add_pooling_layer": False} if getattr(module, "pooler", 0) is None else {}),
        )  # fmt: skip
    except Exception as error:  # of whatever the library does with names
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise MachineError(f"weights {file}: transformers cannot load them into {what}: {reason}") from None
    # `strict` is none of its options: what it did not fill would be random.
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])})
    if wrong:
        raise MachineError(
            f"weights {file}: transformers left {counted(len(wrong), 'tensor')} of {what} out (first: {wrong[0]}), "
            f"which would be random; another version of transformers may read them"
        )
    return filled, loaded


def _file_names(module: Any) -> dict[str, Any]:
    """Return a network's tensors by the names that save_pretrained writes, which versions of the library share."""
    from transformers.core_model_loading import revert_weight_conversion

    state = module.state_dict()
    named: dict[str, Any] = revert_weight_conversion(module, dict(state))
    return named


def _to_file_names(module: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return tensors by the names of files: of those of the modules, or of a ViT of another library."""
    renamed = rename_vit(tensors, "transformers")
    if renamed is not None and module.config.model_type in _PLAIN:
        return renamed
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(module, tensors))


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

    blocks, norm = _blocks_of(module) if prefix is not None and kind not in _WITHOUT_BLOCKS else ((), None)
    return LoadedNetwork(
        module, forward, transform_of(processor), blocks=blocks, norm=norm, prefix_tokens=prefix or 0, note=note,
        config=_digest(vision), named=_file_names(module),
        own_pixels=lambda image: processor(image, return_tensors="pt")["pixel_values"][0],
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


def _digest(config: Any) -> str:
    """Return the sha256 of what the network's numbers depend on in its configuration, 64 hex digits."""
    # What stands at its default is left out: a setting that a later version adds moves no identity.
    default = type(config)().to_dict()
    values = {
        name: value
        for name, value in config.to_dict().items()
        if name == "model_type" or (name not in _INCIDENTAL and (name not in default or default[name] != value))
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
