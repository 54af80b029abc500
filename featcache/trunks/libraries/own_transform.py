"""The transform that a module of one's own brings as its attribute `transform`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import check_transform
from featcache.trunks.libraries.stated_transform import TRANSFORM_KEYS

_TYPED = "resize=36,crop=32,mean=0.5/0.5/0.5,std=0.5/0.5/0.5,interpolation=bilinear"
_AS_ATTRIBUTE = (
    "give the module an attribute, transform = {'resize': 36, 'crop': 32, 'mean': 0.5, 'std': 0.5, 'interpolation': "
    "'bilinear'}, or torchvision's Compose of Resize, CenterCrop, ToTensor and Normalize"
)


def how_to_state(*, is_object: bool) -> str:
    """Return how a module's transform is stated, as the end of a sentence.

    Args:
        is_object: The module was handed over as an object, so that there is no command line.
    """
    typed = f'pass transform="{_TYPED}"' if is_object else f'type --transform {_TYPED} (in Python, transform="…")'
    return f"{_AS_ATTRIBUTE}; or {typed}"


def read_transform(value: Any) -> ImageTransform:
    """Return a transform that is given as ours, as a dict of its fields, or as torchvision writes it.

    Args:
        value: An `ImageTransform`, a dict, torchvision's `Compose` of Resize, CenterCrop, ToTensor and Normalize, or
            its `ImageClassification`.

    Raises:
        UsageError: it is none of these, or has a step that is not reproduced here.
    """
    if isinstance(value, ImageTransform):
        transform = value
    elif isinstance(value, Mapping):
        transform = _of_mapping(value)
    elif isinstance(getattr(value, "transforms", None), list | tuple):
        transform = _of_steps(list(value.transforms))
    elif all(hasattr(value, name) for name in ("resize_size", "crop_size", "mean", "std", "interpolation")):
        transform = _of_preset(value)
    else:
        raise UsageError(f"its transform is of type {type(value).__name__}, which cannot be read")
    try:
        check_transform(transform)
    except ValueError as error:
        raise UsageError(f"its transform cannot be used: {error}") from None
    return replace(transform, exif="ignore", decoder="pillow")  # these are settings of a recipe


def _of_mapping(value: Mapping[str, Any]) -> ImageTransform:
    if unknown := [str(key) for key in value if key not in TRANSFORM_KEYS]:
        raise UsageError(f"its transform has a key {unknown[0]!r}, expected {', '.join(TRANSFORM_KEYS)}")
    if missing := [key for key in ("resize", "crop", "mean", "std") if key not in value]:
        raise UsageError(f"its transform has no {' and no '.join(missing)}")
    values = {key: _triple(item) if key in ("mean", "std") else item for key, item in value.items()}
    return ImageTransform(**values)


def _of_preset(preset: Any) -> ImageTransform:
    resize, crop = _numbers(preset.resize_size), _numbers(preset.crop_size)
    mean, std = _triple(preset.mean), _triple(preset.std)
    return _assemble(resize, crop, preset.interpolation, mean, std)


def _of_steps(steps: list[Any]) -> ImageTransform:
    """Return the transform of torchvision's steps: a resize, a crop, a conversion, a normalisation, in this order."""
    order = ["resize", "crop", "image", "tensor", "normalize"]
    kinds = {
        "Resize": "resize", "CenterCrop": "crop", "ToTensor": "tensor", "PILToTensor": "image", "ToImage": "image",
        "ConvertImageDtype": "tensor", "ToDtype": "tensor", "Normalize": "normalize",
    }  # fmt: skip
    found: dict[str, Any] = {}
    for step in steps:
        kind = kinds.get(type(step).__name__)
        if kind is None:
            raise UsageError(f"its transform has a step {type(step).__name__}, which cannot be reproduced")
        if found and order.index(kind) <= max(order.index(known) for known in found):
            raise UsageError(
                f"its transform has {type(step).__name__} after {type(list(found.values())[-1]).__name__}, which "
                f"cannot be reproduced: expected Resize, CenterCrop, ToTensor, Normalize"
            )
        found[kind] = step
    if "tensor" not in found:
        raise UsageError("its transform makes no float tensor: expected Resize, CenterCrop, ToTensor, Normalize")
    if "resize" not in found:
        raise UsageError("its transform has no Resize: images of many sizes come in")
    normalize = found.get("normalize")
    mean, std = (0.0, 0.0, 0.0) if normalize is None else normalize.mean, normalize.std if normalize else (1.0,) * 3
    crop = _numbers(found["crop"].size) if "crop" in found else ()
    resize = found["resize"]
    return _assemble(_numbers(resize.size), crop, resize.interpolation, _triple(mean), _triple(std))


def _assemble(
    resize: tuple[int, ...], crop: tuple[int, ...], interpolation: Any, mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> ImageTransform:  # fmt: skip
    """Return a transform; `resize` is the shorter edge, or (height, width); `crop` is either, or () for none."""
    values: dict[str, Any] = {"mean": mean, "std": std, "interpolation": getattr(interpolation, "value", interpolation)}
    height, width = (crop * 2)[:2] if crop else (resize * 2)[:2]
    values |= {"crop": width, "height": 0 if height == width else height}
    if len(resize) == 1:
        if not crop:
            raise UsageError("its transform resizes the shorter edge and cuts nothing out: images would differ in size")
        return ImageTransform(resize=resize[0], **values)
    values |= {} if resize[0] == resize[1] else {"resize_height": resize[0]}
    return ImageTransform(resize=resize[1], fit="squash", **values)


def _numbers(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(int(edge) for edge in size)


def _triple(value: Any) -> Any:
    """Return three numbers, of one or of three; anything else as it is, for the check to refuse."""
    if isinstance(value, int | float):
        return (float(value),) * 3
    try:
        numbers = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return value
    return numbers * 3 if len(numbers) == 1 else numbers
