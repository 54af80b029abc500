"""The transform from a decoded image to the input of a trunk, as a value. Nothing is decoded here."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Literal

from featcache.media import jpeg

MAX_PIXELS = 89_478_485  # Pillow's own limit, at which it warns; here it is an error

Decoder = Literal["pillow", "pillow-fast", "nvjpeg"]


class BadImageError(ValueError):
    """This file gives no picture; the message is the reason, without the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """From a decoded image to the trunk's input; every field can change an embedding, so every field is keyed."""

    resize: int  # the shorter edge, pixels; see `fit`
    crop: int  # the width of what is cut from the centre, pixels; a square, but for `height`
    mean: tuple[float, float, float]  # of RGB in 0 … 1
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    antialias: bool = True
    exif: Literal["ignore", "apply"] = "ignore"  # ImageFolder ignores the orientation tag
    # "shorter": the shorter edge becomes `resize` pixels long; "squash": both edges do, whatever the shape was.
    fit: Literal["shorter", "squash"] = "shorter"
    height: int = 0  # of what is cut out, pixels, where it is not the width; 0: it is, a square
    resize_height: int = 0  # with "squash", the height after resizing, where it is not the width
    placement: Literal["round", "floor"] = "round"  # of the crop's corner, where it falls between two pixels
    modes: str = "rgb"  # grey repeated, palette looked up, alpha dropped, 16-bit grey rescaled, CMYK converted

    # On disk this is the spec's own field (docs/format.md); here it goes wherever images are read.
    # "pillow" is bit-equal to Pillow and torchvision; "pillow-fast" is near it, see `images._resize_window`; with
    # "nvjpeg" the device of the trunk decodes and resizes JPEG files, and all others are as with "pillow".
    decoder: Decoder = "pillow"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what `decode_image` returns: (3, height, width), or (row_bytes,) where the trunk's device decodes."""
        return (jpeg.row_bytes(self.crop),) if self.decoder == "nvjpeg" else (3, *self.input_size)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the trunk's input, pixels."""
        return (self.height or self.crop, self.crop)

    @property
    def is_square_crop(self) -> bool:
        """Whether it is what a GPU's decoder has: the shorter edge resized, a square cut out as torchvision does."""
        return (self.fit, self.height, self.placement) == ("shorter", 0, "round")

    def corner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (left, top) of the crop in a resized image; negative where it is padded.

        Args:
            size: (width, height) of the resized image, pixels.
        """
        height, width = self.input_size
        spare = (size[0] - width, size[1] - height)
        if self.placement == "floor":  # transformers' center_crop
            return (spare[0] // 2, spare[1] // 2)
        return (round(spare[0] / 2.0), round(spare[1] / 2.0))  # torchvision's

    def key(self) -> str:
        """Return a short name for all of it, 16 hex digits; files that this transform refuses are remembered by it."""
        values = asdict(self)
        if self.decoder == "pillow":  # what was remembered before there were others
            del values["decoder"]
        for field in _LATER:  # likewise
            if values[field.name] == field.default:
                del values[field.name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


_LATER = [field for field in fields(ImageTransform) if field.name in ("fit", "height", "resize_height", "placement")]


def resized_size(size: tuple[int, int], transform: ImageTransform) -> tuple[int, int]:
    """Return the size of an image once it is resized as a transform has it.

    Args:
        size: (width, height) of the image, pixels.
        transform: Says how long which edge becomes.

    Returns:
        (width, height), pixels.

    Raises:
        BadImageError: it would be too large.
    """
    if transform.fit == "squash":
        return (transform.resize, transform.resize_height or transform.resize)
    width, height = size
    short, long = min(width, height), max(width, height)
    scaled = int(transform.resize * long / short)  # torchvision's _compute_resized_output_size
    new_size = (transform.resize, scaled) if width <= height else (scaled, transform.resize)
    if new_size[0] * new_size[1] > MAX_PIXELS:
        megapixels = new_size[0] * new_size[1] / 1e6
        raise BadImageError(f"{width}x{height} pixels: resized it would have {megapixels:.0f} megapixels")
    return new_size
