"""The decoder "pillow-fast": near the exact one."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featcache.media import BadImageError, ImageTransform, decode_image

TRANSFORM = ImageTransform(resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


FAST = replace(TRANSFORM, decoder="pillow-fast")


@pytest.mark.parametrize("size", [(500, 375), (300, 400), (1601, 1203), (2592, 1984), (90, 60), (224, 224)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_fast_decoder_is_near_the_exact_one(size, kind):
    """On smooth pictures of any size: the same window of the same picture, a grey level or two apart in the mean."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([127 + 120 * np.sin(x / width * 9), 127 + 120 * np.cos(y / height * 7), (x + y) % 256 * 0.5], -1)
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, kind)
    exact, fast = decode_image(file.getvalue(), TRANSFORM), decode_image(file.getvalue(), FAST)
    assert (fast.shape, fast.dtype) == (exact.shape, exact.dtype)
    assert np.abs(fast[:2].astype(int) - exact[:2]).mean() < 2  # the third is a saw tooth, where scaled decodes blur


def test_the_fast_decoder_keeps_the_orientation():
    """A JPEG that lies on its side is turned as the exact decoder turns it, its sides swapped."""
    file = io.BytesIO()
    picture = np.zeros((900, 1500, 3), dtype=np.uint8)
    picture[:, 750:] = 255
    Image.fromarray(picture).save(file, "JPEG", exif=_turned(6))
    for exif in ("ignore", "apply"):
        exact, fast = (decode_image(file.getvalue(), replace(one, exif=exif)) for one in (TRANSFORM, FAST))
        assert np.abs(fast.astype(int) - exact).mean() < 2


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_the_fast_decoder_refuses_what_the_exact_one_refuses():
    """A file that is cut off has no fast picture either."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)).save(file, "JPEG")
    with pytest.raises(BadImageError):
        decode_image(file.getvalue()[:-5000], FAST)
