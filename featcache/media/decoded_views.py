"""Several views of one image, which is decoded once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featcache.media.images import convert_to_rgb, decode_image, open_image, resize_and_crop
from featcache.media.transform import ImageTransform
from featcache.media.view_pixels import augment_pixels
from featcache.media.views import View

Pixels = npt.NDArray[np.uint8]


def decode_views(data: bytes, transform: ImageTransform, views: Sequence[View | None], digest: bytes) -> list[Pixels]:
    """Decode one image once, and return views of it.

    Args:
        data: The bytes of the whole file.
        transform: As of `decode_image`, with the decoder "pillow" where there are views.
        views: Which; None for the plain image.
        digest: Of the file, 32 bytes.

    Returns:
        What `decode_image` returns, for each view.

    Raises:
        BadImageError: as `decode_image`.
    """
    if not any(views):
        return [decode_image(data, transform)] * len(views)
    image = convert_to_rgb(open_image(data, upright=transform.exif == "apply")[0])
    return resize_views(np.asarray(image), transform, views, digest)


def resize_views(
    pixels: Pixels, transform: ImageTransform, views: Sequence[View | None], digest: bytes
) -> list[Pixels]:
    """Return views of what is decoded already, as `decode_views` does with these pixels.

    Args:
        pixels: (height, width, 3) uint8, RGB.
        transform: What is done to the image.
        views: Which; None for the plain image.
        digest: Of the image, 32 bytes.

    Raises:
        BadImageError: as `resize_and_crop`.
    """
    plain = resize_and_crop(pixels, transform)  # made in any case: what it refuses is refused of every view
    return [plain if view is None else _make_view(pixels, plain, view, transform, digest) for view in views]


def _make_view(pixels: Pixels, plain: Pixels, view: View, transform: ImageTransform, digest: bytes) -> Pixels:
    """Return one view, (3, height, width) uint8: of the whole image where it crops, else of the plain one's crop."""
    return augment_pixels(pixels if view.crop else plain.transpose(1, 2, 0), view, transform, digest)
