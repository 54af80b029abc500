"""open_clip's image towers: `open_clip:ViT-B-32`, `open_clip:ViT-B-32/openai`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featcache.arguments import suggest_name
from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import seeded
from featcache.trunks.libraries.base import (
    UNTRAINED,
    FeatureMaps,
    LoadedNetwork,
    explain_unreachable,
    freeze,
    import_library,
    spatial,
)  # fmt: skip
from featcache.trunks.libraries.hub_reach import brief_hub
from featcache.trunks.libraries.tensors import LoadedWeights, load_weights_file, require_interpolation
from featcache.trunks.libraries.weights_argument import classify_weights

if TYPE_CHECKING:
    from torch import Tensor


class OpenClipModels:
    """open_clip's models by their names, with the tag of a set of weights behind a slash."""

    prefix = "open_clip"
    package = "open_clip_torch"

    def match_names(self, pattern: str) -> list[str]:
        """Return the models that match, with the tags of their published weights."""
        from fnmatch import fnmatch

        names = [f"{model}/{tag}" for model, tag in self._open_clip().list_pretrained()]
        return [
            name
            for name in names
            if fnmatch(name.lower(), pattern.lower() if "*" in pattern else f"*{pattern.lower()}*")
        ]

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return an image tower with its weights, as `Library.load`."""
        open_clip = self._open_clip()
        model, _, tag = name.partition("/")
        kind = classify_weights(weights)
        if model not in open_clip.list_models():
            from featcache.trunks.libraries.zoo import no_trunk_error

            raise no_trunk_error(f"open_clip has no model {model!r}", f"open_clip:{name}")
        options: dict[str, Any] = {"force_image_size": image_size} if image_size else {}
        tags = open_clip.list_pretrained_tags_by_model(model)
        if kind == "published":
            tag = tag if weights == "pretrained" else weights
            if tag not in tags:
                known = (
                    ", ".join(tags[:_NAMED]) + (f", … ({len(tags)} in all)" if len(tags) > _NAMED else "")
                ) or "none"
                raise UsageError(
                    f"open_clip:{model}: no published weights {tag!r}; expected open_clip:{model}/TAG, one of {known}"
                )
        elif tag and tag not in tags:
            raise UsageError(f"open_clip:{model} has no tag {tag!r}; {suggest_name(tag, tags)}")
        with seeded(), _quiet():
            whole = open_clip.create_model(model, pretrained=None, precision="fp32", pretrained_hf=False, **options)
        loaded = LoadedWeights()
        own_size = open_clip.get_model_config(model)["vision_cfg"].get("image_size")
        if kind == "file":
            loaded = load_weights_file(whole.visual, weights, f"open_clip's {model}", interpolate=interpolate)
        elif kind == "published":
            if image_size and image_size != own_size:
                loaded = require_interpolation(f"open_clip:{name}", own_size, image_size, interpolate=interpolate)
            way_out = f"Copy the file from a machine with a network, and name it with --weights FILE; {UNTRAINED}"
            with explain_unreachable(f"weights {tag} of open_clip:{model}", way_out), _quiet(), brief_hub():
                whole = open_clip.create_model(model, pretrained=tag, precision="fp32", **options)
        preprocess = dict(open_clip.get_model_preprocess_cfg(whole))
        if tag and kind != "published":  # the transform that belongs to the tag
            preprocess |= {
                key: value for key, value in (open_clip.get_pretrained_cfg(model, tag) or {}).items() if key in _KEYS
            }
        network = _network(whole.visual, preprocess, loaded.note, open_clip)
        return replace(network, is_interpolated=loaded.is_interpolated)

    @staticmethod
    def _open_clip() -> Any:
        return import_library("open_clip", "open_clip_torch", "open-clip")


_NAMED = 6  # tags in a message
_KEYS = ("mean", "std", "interpolation", "resize_mode")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal that a network is built without weights, which are loaded next, and what an error says."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


def _network(visual: Any, preprocess: dict[str, Any], note: str, open_clip: Any) -> LoadedNetwork:
    """Return an image tower as a network."""
    freeze(visual)
    transform = transform_of(preprocess)
    own_pixels = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**preprocess), is_train=False)
    if hasattr(visual, "trunk"):  # a tower of timm's, with a projection of open_clip's
        from featcache.trunks.libraries import timm_models

        def read_pooled(features: "Tensor") -> "Tensor":  # as the tower's own forward
            pooled: Tensor = visual.head(visual.trunk.forward_head(features))
            return pooled

        inner = timm_models.network_of(visual.trunk, note, import_library("timm", "timm", "timm"), read_pooled)
        return replace(inner, module=visual, transform=transform, own_pixels=own_pixels)
    # A tower that pools by attention (CoCa's) has its last normalisation behind that, of the pooled vector alone.
    is_vit = hasattr(visual, "ln_post") and visual.attn_pool is None
    place = visual.transformer if hasattr(visual, "transformer") else visual.layer4  # else a ResNet of CLIP's

    def forward(pixels: "Tensor") -> FeatureMaps:
        kept: list[Tensor] = []
        handle = place.register_forward_hook(lambda _m, _i, output: kept.append(output))
        try:
            output = visual(pixels)
        finally:
            handle.remove()
        pooled, last = output[0] if isinstance(output, tuple) else output, kept[0]
        if last.ndim == 4:
            return FeatureMaps(pooled, *spatial(last))
        if not is_vit:
            return FeatureMaps(pooled)
        tokens = visual.ln_post(last)
        rows, columns = visual.grid_size
        return FeatureMaps(pooled, tokens[:, 1:], (rows, columns), tokens[:, 0])

    return LoadedNetwork(
        visual, forward, transform, blocks=tuple(visual.transformer.resblocks) if is_vit else (),
        norm=visual.ln_post if is_vit else None, prefix_tokens=int(is_vit), note=note, own_pixels=own_pixels,
    )  # fmt: skip


def transform_of(preprocess: dict[str, Any]) -> ImageTransform:
    """Return the transform of an open_clip preprocessing configuration.

    Raises:
        UsageError: a step of it that is not reproduced here.
    """
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode = preprocess.get("resize_mode", "shortest")
    if mode == "longest" or (mode == "shortest" and height != width):
        raise UsageError(
            f"open_clip's transform of this model cannot be reproduced: it resizes the {mode} edge and pads"
        )
    shape: dict[str, Any] = {"crop": width, "resize": width}
    if mode == "squash":
        shape |= {"fit": "squash"} | ({} if height == width else {"height": height, "resize_height": height})
    return ImageTransform(
        mean=tuple(preprocess["mean"]), std=tuple(preprocess["std"]), interpolation=preprocess["interpolation"], **shape
    )
