"""What a view does to an image: torchvision's steps on Pillow's images, bit by bit, in the order of its presets.

RandomResizedCrop, RandomHorizontalFlip, ColorJitter; `views` has what is drawn.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from featcache.media.transform import ImageTransform
from featcache.media.views import View, draw_colors, draw_crop, draw_flip


def augment_pixels(
    pixels: npt.NDArray[np.uint8], view: View, transform: ImageTransform, digest: bytes
) -> npt.NDArray[np.uint8]:
    """Return a view of decoded pixels, (3, height, width) uint8.

    Args:
        pixels: (height, width, 3) uint8, RGB: what the view is cropped from; of a view that does not crop, what the
            trunk's own crop gave.
        view: What is done.
        transform: Has the size of the trunk's input, and the interpolation.
        digest: Of the image's file, 32 bytes.
    """
    augmented = augment_image(Image.fromarray(np.ascontiguousarray(pixels)), view, transform, digest)
    return np.ascontiguousarray(np.asarray(augmented).transpose(2, 0, 1))


def augment_image(image: Image.Image, view: View, transform: ImageTransform, digest: bytes) -> Image.Image:
    """Return a view of an image: its crop resized to the trunk's input, or the image itself; then flip and colours.

    Args:
        image: RGB. Where the view crops, the whole decoded image; else what the trunk's own crop gave.
        view: What is done.
        transform: Has the size of the trunk's input, and the interpolation.
        digest: Of the image's file, 32 bytes.
    """
    if view.crop:
        left, top, width, height = draw_crop(view, image.size, digest)
        size = transform.input_size[::-1]
        method = Image.Resampling[transform.interpolation.upper()]
        image = image.crop((left, top, left + width, top + height)).resize(size, method)
    if draw_flip(view, digest):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, factor in draw_colors(view, digest):
        image = _ADJUST[name](image, factor)
    return image


def _turn_hue(image: Image.Image, factor: float) -> Image.Image:
    """Return an image with its hue turned by so many turns, in 8 bits, as torchvision's adjust_hue does."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.int32(factor * 255).astype(np.uint8)  # uint8: it goes round
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


_ADJUST = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "hue": _turn_hue,
}
