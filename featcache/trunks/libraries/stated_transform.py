"""A transform as it is typed: `resize=36,crop=32,mean=0.5/0.5/0.5,std=0.5/0.5/0.5,interpolation=bilinear`."""

from dataclasses import fields, replace
from typing import Any

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks import check_transform

TRANSFORM_KEYS: dict[str, type] = {
    "resize": int, "crop": int, "mean": tuple, "std": tuple, "interpolation": str, "fit": str, "height": int,
    "resize_height": int, "placement": str,
}  # fmt: skip


def state_transform(text: str, own: ImageTransform | None) -> ImageTransform:
    """Return the transform that is typed; what it leaves out is the model's own.

    Args:
        text: As typed.
        own: The model's own; None where it has none.

    Raises:
        UsageError: a key or value that is none, or one that is missing.
    """
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in TRANSFORM_KEYS or not equals:
            raise UsageError(
                f"--transform {text}: found {part!r}, expected KEY=VALUE with a key of {', '.join(TRANSFORM_KEYS)}"
            )
        values[key] = _read(key, value, text)
    missing = [
        f.name for f in fields(ImageTransform) if f.name in ("resize", "crop", "mean", "std") and f.name not in values
    ]
    if own is None and missing:
        raise UsageError(f"--transform {text}: {', '.join(missing)} missing, and the network does not say")
    transform = ImageTransform(**values) if own is None else replace(own, **values)
    try:
        check_transform(transform)
    except ValueError as error:
        raise UsageError(f"--transform {text}: {error}") from None
    return transform


def describe_transform(transform: ImageTransform) -> str:
    """Return what is done to an image before the trunk sees it, as the start of a sentence.

    Args:
        transform: It.
    """
    height, width = transform.input_size
    size = f"{width} x {height}" if height != width else str(width)
    if transform.fit == "shorter":
        return f"images are resized to {transform.resize} pixels ({transform.interpolation}) and cropped to {size}"
    resized = f"{transform.resize} x {transform.resize_height or transform.resize}"
    cropped = "" if resized == f"{width} x {height}" else f" and cropped to {size}"
    return f"images are squashed to {resized} pixels ({transform.interpolation}), whatever their shape{cropped}"


def _read(key: str, value: str, text: str) -> Any:
    try:
        if TRANSFORM_KEYS[key] is int:
            return int(value)
        if TRANSFORM_KEYS[key] is tuple:
            numbers = tuple(float(number) for number in value.split("/"))
            return numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        expected = "a whole number" if TRANSFORM_KEYS[key] is int else "numbers such as 0.5/0.5/0.5"
        raise UsageError(f"--transform {text}: {key} is {value!r}, expected {expected}") from None
    return value
