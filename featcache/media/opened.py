"""Images that a program holds already, opened by Pillow or as arrays: the pixels that the file would have given."""

import warnings
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcache.media.images import convert_to_rgb, describe_failure, narrow_wide_ppm, resize_and_crop, turn_upright
from featcache.media.transform import BadImageError, ImageTransform


def is_pillow_image(value: object) -> TypeGuard[Image.Image]:
    """Return whether a value is an image that Pillow has opened or made.

    Args:
        value: anything.
    """
    return isinstance(value, Image.Image)


def prepare_pixels(image: Any, transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Resize and crop an image as `decode_image` does that of a file.

    An image of Pillow is its current frame; it is turned upright where the transform says so, as its file would be.
    With the decoders that shrink a JPEG while they decode it ("pillow-fast", "nvjpeg"), what is decoded already is
    resized from all of its pixels instead, so that it may come out a little otherwise.

    Args:
        image: a `PIL.Image.Image`; or an array (height, width, 3), RGB, or (height, width), grey, uint8.
        transform: what is done to the image.

    Returns:
        What `decode_image` returns.

    Raises:
        BadImageError: it cannot be decoded, its pixels have no defined range, or it is too large.
    """
    if isinstance(image, np.ndarray):
        return resize_and_crop(np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("RGB")), transform)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow only warns of does not touch the pixels
            image.load()
            whole = narrow_wide_ppm(image)
            rgb = convert_to_rgb(turn_upright(whole) if transform.exif == "apply" else whole)
    except BadImageError:
        raise
    except Exception as error:  # a plugin raises whatever the bytes make it raise
        raise BadImageError(describe_failure(error)) from None
    return resize_and_crop(np.asarray(rgb), transform)


def make_pillow_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return pixels as an image of Pillow's, which other libraries take.

    Args:
        pixels: (height, width, 3) uint8, RGB.
    """
    return Image.fromarray(pixels)
