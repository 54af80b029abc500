"""Pictures for people to look at: whole, upright, small. No embedding comes from them."""

import io
import warnings
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcache.media.images import FORMATS, convert_to_rgb, describe_failure, open_image, strip_or_refuse
from featcache.media.transform import BadImageError


def make_thumbnail(data: bytes, edge: int) -> bytes:
    """Return the whole image as a person sees it, upright, as a small WebP.

    Args:
        data: The bytes of the image's file.
        edge: Its longer edge has at most so many pixels.

    Raises:
        BadImageError: as `decode_image`.
    """
    return _encode_webp(convert_to_rgb(open_image(data, upright=True, at_least=2 * edge)[0]), edge)


def make_frame_thumbnail(pixels: npt.NDArray[np.uint8], edge: int) -> bytes:
    """Return what `make_thumbnail` does, of a picture that is decoded already, such as a frame of a video.

    Args:
        pixels: (height, width, 3) uint8, RGB.
        edge: Its longer edge has at most so many pixels.
    """
    return _encode_webp(Image.fromarray(pixels), edge)


def estimate_thumbnail_cost(file: BinaryIO) -> int:
    """Return what a thumbnail of a file costs, in pixels that are decoded in full; only its header is read.

    A JPEG's are counted at an eighth: decoded at a fraction of its size it takes 1 to 4 ns a pixel, a PNG 20 to 26.

    Args:
        file: Of the image, open and at its start; where its metadata must be stripped, all of it is read.

    Raises:
        BadImageError: it has no header of a supported kind.
    """
    try:
        return _count_pixels(file)
    except BadImageError:
        file.seek(0)
        lean = strip_or_refuse(file.read(), upright=True)
        if lean is None:
            raise
    return _count_pixels(io.BytesIO(lean))


def decode_preview(data: bytes, edge: int) -> npt.NDArray[np.uint8]:
    """Return the whole image as a person sees it, upright: (height, width, 3) uint8, RGB.

    Args:
        data: The bytes of the image's file.
        edge: Its longer edge has at most so many pixels.

    Raises:
        BadImageError: as `decode_image`.
    """
    image = convert_to_rgb(open_image(data, upright=True, at_least=2 * edge)[0])
    image.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _count_pixels(file: BinaryIO) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size; `make_thumbnail` refuses what is too large
            with Image.open(file, formats=FORMATS) as image:
                return image.width * image.height // (8 if image.format == "JPEG" else 1)
    except Exception as error:  # as in `images._load`
        raise BadImageError(describe_failure(error)) from None


def _encode_webp(image: Image.Image, edge: int) -> bytes:
    image.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=50, method=2)
    return file.getvalue()
