"""The transform from a decoded image to the input of a trunk, as a value. Nothing is decoded here."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from featcache.media import jpeg

MAX_PIXELS = 89_478_485  # Pillow's own limit, at which it warns; here it is an error

Decoder = Literal["pillow", "pillow-fast", "nvjpeg"]


class BadImageError(ValueError):
    """This file gives no picture; the message is the reason, without the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """From a decoded image to the trunk's input; every field can change an embedding, so every field is keyed."""

    resize: int  # the shorter edge, pixels
    crop: int  # the centre square, pixels
    mean: tuple[float, float, float]  # of RGB in 0 … 1
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    antialias: bool = True
    exif: Literal["ignore", "apply"] = "ignore"  # ImageFolder ignores the orientation tag
    modes: str = "rgb"  # grey repeated, palette looked up, alpha dropped, 16-bit grey rescaled, CMYK converted

    # On disk this is the spec's own field (docs/format.md); here it goes wherever images are read.
    # "pillow" is bit-equal to Pillow and torchvision; "pillow-fast" is near it, see `images._resize_window`; with
    # "nvjpeg" the device of the trunk decodes and resizes JPEG files, and all others are as with "pillow".
    decoder: Decoder = "pillow"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what `decode_image` returns: (3, crop, crop), or (row_bytes,) where the trunk's device decodes."""
        return (jpeg.row_bytes(self.crop),) if self.decoder == "nvjpeg" else (3, self.crop, self.crop)

    def key(self) -> str:
        """Return a short name for all of it, 16 hex digits; files that this transform refuses are remembered by it."""
        values = asdict(self)
        if self.decoder == "pillow":  # what was remembered before there were others
            del values["decoder"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def resized_size(size: tuple[int, int], transform: ImageTransform) -> tuple[int, int]:
    """Return the size of an image once its shorter edge is `transform.resize` pixels long.

    Args:
        size: (width, height) of the image, pixels.
        transform: Says how long the shorter edge becomes.

    Returns:
        (width, height), pixels.

    Raises:
        BadImageError: it would be too large.
    """
    width, height = size
    short, long = min(width, height), max(width, height)
    scaled = int(transform.resize * long / short)  # torchvision's _compute_resized_output_size
    new_size = (transform.resize, scaled) if width <= height else (scaled, transform.resize)
    if new_size[0] * new_size[1] > MAX_PIXELS:
        megapixels = new_size[0] * new_size[1] / 1e6
        raise BadImageError(f"{width}x{height} pixels: resized it would have {megapixels:.0f} megapixels")
    return new_size
