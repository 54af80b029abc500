"""timm's models: `timm:resnet50`, `timm:vit_small_patch14_dinov2.lvd142m`."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import seeded
from featcache.trunks.checkpoints import rename_efficientnet, rename_vit
from featcache.trunks.libraries.base import (
    UNTRAINED,
    FeatureMaps,
    LoadedNetwork,
    explain_unreachable,
    freeze,
    has_channels_last,
    import_library,
    spatial,
    square,
)  # fmt: skip
from featcache.trunks.libraries.hub_reach import brief_hub
from featcache.trunks.libraries.tensors import LoadedWeights, load_weights_file, require_interpolation
from featcache.trunks.libraries.weights_argument import classify_weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


# Transformers whose tokens go through the blocks as they come out of the network, the class token first. Others take
# it up on the way (CaiT, XCiT, ConViT), so that the first token of a block is a patch.
_PLAIN = {"VisionTransformer", "VisionTransformerRelPos", "Beit", "Eva"}
_UNORDERED = ("Hiera",)  # its tokens stand window by window


class TimmModels:
    """timm's models by their names, with the tag of a set of weights behind a dot."""

    prefix = "timm"
    package = "timm"

    def match_names(self, pattern: str) -> list[str]:
        """Return the models that match, with the tags of their published weights."""
        names: list[str] = self._timm().list_models(pattern if "*" in pattern else f"*{pattern}*", include_tags=True)
        return names

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return a model with its weights, as `Library.load`."""
        timm = self._timm()
        model = name.partition(".")[0]
        if not timm.is_model(model):
            from featcache.trunks.libraries.zoo import no_trunk_error

            raise no_trunk_error(f"timm has no model {model!r}", f"timm:{name}")
        options: dict[str, Any] = {"num_classes": 0}
        if image_size:
            options["img_size"] = image_size
        kind, loaded = classify_weights(weights), LoadedWeights()
        if kind == "published" and weights != "pretrained":
            name = f"{model}.{weights}"
        try:
            with seeded():
                module = timm.create_model(name, pretrained=False, **options)
        except (RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            hint = "; this network takes images of any size: leave --image-size out" if image_size else ""
            raise UsageError(f"timm cannot build {name}: {reason}{hint}") from None
        if kind == "file":
            loaded = load_weights_file(module, weights, f"timm's {name}", _converter(module), interpolate=interpolate)
        elif kind == "published":
            published = timm.get_pretrained_cfg(name)
            own_size = published.input_size[-1] if published is not None else image_size
            if image_size and image_size != own_size:
                loaded = require_interpolation(f"timm:{name}", own_size, image_size, interpolate=interpolate)
            hub, url = (module.pretrained_cfg.get(key) for key in ("hf_hub_id", "url"))
            file = f"model.safetensors of {hub} on the hub" if hub else url or "the file"
            way_out = f"Copy {file} from a machine with a network, and name it with --weights FILE; {UNTRAINED}"
            with explain_unreachable(f"weights of timm's {name}", way_out), brief_hub():
                module = timm.create_model(name, pretrained=True, **options)
        return replace(
            network_of(freeze(module), loaded.note, timm, image_size=image_size), is_interpolated=loaded.is_interpolated
        )

    @staticmethod
    def _timm() -> Any:
        return import_library("timm", "timm", "timm")


def network_of(
    module: "Module",
    note: str,
    timm: Any,
    read_pooled: "Callable[[Tensor], Tensor] | None" = None,
    image_size: int = 0,
) -> LoadedNetwork:
    """Return a timm model, built without its classifier, as a network.

    Args:
        module: The model.
        note: As `LoadedNetwork.note`.
        timm: The library.
        read_pooled: What makes the pooled vector of the model's own features; None: its head, up to the classifier.
        image_size: What the model was built for, pixels; 0: its own size.
    """
    model: Any = module
    size = {"input_size": (3, image_size, image_size)} if image_size else {}
    config = timm.data.resolve_model_data_config(model, size)
    prefix = int(getattr(model, "num_prefix_tokens", 0) or 0)
    has_class_token = getattr(model, "cls_token", None) is not None
    is_channels_last = "NHWC" in str(getattr(model, "output_fmt", ""))
    is_plain = not _PLAIN.isdisjoint(base.__name__ for base in type(model).__mro__)

    def forward(pixels: "Tensor") -> FeatureMaps:
        features = model.forward_features(pixels)
        pooled = model.forward_head(features, pre_logits=True) if read_pooled is None else read_pooled(features)
        if isinstance(features, list | tuple) or features.ndim not in (3, 4):  # of several sizes, or none
            return FeatureMaps(pooled)
        if features.ndim == 4:
            is_last = has_channels_last(tuple(features.shape), default=is_channels_last)
            return FeatureMaps(pooled, *spatial(features.permute(0, 3, 1, 2) if is_last else features))
        patches, cls = features[:, prefix:], features[:, 0] if has_class_token else None
        # Of class tokens alone, as PiT gives, there are no patches behind a prefix.
        grid = _grid_of(model, patches) if prefix or cls is None else None
        return FeatureMaps(pooled, None if grid is None else patches, grid or (0, 0), cls)

    blocks = model.blocks if is_plain else ()
    return LoadedNetwork(
        module, forward, transform_of(config), note=note, is_channels_last=is_channels_last,
        blocks=tuple(blocks), norm=getattr(model, "norm", None), prefix_tokens=prefix, has_class_token=has_class_token,
        own_pixels=timm.data.create_transform(**config, is_training=False),
    )  # fmt: skip


def _grid_of(model: Any, patches: "Tensor") -> tuple[int, int] | None:
    """Return (rows, columns) of patch tokens; None where they lie in no such order."""
    if type(model).__name__ in _UNORDERED:
        return None
    rows, columns = getattr(getattr(model, "patch_embed", None), "grid_size", None) or (0, 0)
    if rows * columns == patches.shape[1]:
        return rows, columns
    grid = square(patches)
    return grid if grid[0] == grid[1] else None


def transform_of(config: dict[str, Any]) -> ImageTransform:
    """Return the transform of a timm data configuration, as `timm.data.create_transform` builds it.

    Raises:
        UsageError: a step of it that is not reproduced here.
    """
    _, height, width = config["input_size"]
    mode, percent = config.get("crop_mode") or "center", config["crop_pct"]
    size = (int(height / percent), int(width / percent))  # timm: math.floor(x / crop_pct)
    values: dict[str, Any] = {
        "mean": tuple(config["mean"]), "std": tuple(config["std"]), "crop": width,
        "interpolation": "bilinear" if config["interpolation"] == "random" else config["interpolation"],
    }  # fmt: skip
    if mode == "squash":
        other: dict[str, Any] = {} if size[0] == size[1] else {"resize_height": size[0]}
        return ImageTransform(resize=size[1], fit="squash", height=0 if height == width else height, **other, **values)
    if mode != "center" or size[0] != size[1]:
        raise UsageError(
            f"timm's transform of this model cannot be reproduced: crop mode {mode!r} of {size[1]} x {size[0]}"
        )
    return ImageTransform(resize=size[0], height=0 if height == width else height, **values)


def _converter(module: Any) -> Any:
    """Return what makes timm's names of those that a model's authors, or other libraries of a ViT, published."""
    own = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)

    def convert(tensors: dict[str, Any]) -> dict[str, Any]:
        renamed = None
        if type(module).__name__ == "VisionTransformer":
            renamed = rename_vit(tensors, "timm")
        elif type(module).__name__ == "EfficientNet":
            renamed = rename_efficientnet(tensors, module.state_dict())
        if renamed is not None:
            return renamed
        return tensors if own is None else own(tensors, module)

    return convert
