"""The transform of an image processor of transformers."""

from typing import Any

from featcache.errors import UsageError
from featcache.media import ImageTransform

_RESAMPLINGS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
_SQUASHED_FROM = 384  # pixels; ConvNeXt's processor cuts nothing off from this size on


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
    if getattr(processor, "crop_pct", None) and size.get("shortest_edge"):  # ConvNeXt's, which ResNet has too
        edge = int(size["shortest_edge"])
        if edge >= _SQUASHED_FROM:
            del values["placement"]
            return ImageTransform(resize=edge, fit="squash", crop=edge, **values)
        return ImageTransform(resize=int(edge / processor.crop_pct), crop=edge, **values)
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
