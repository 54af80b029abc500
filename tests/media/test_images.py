"""decode_image(): bit-equal to Pillow with torchvision's transform. `docs/images.md` has the table."""

import io
import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps

from featcache.media import BadImageError, ImageTransform, decode_image, encode_png
from featcache.media.transform import MAX_PIXELS
from tests.media.pictures import (
    HEIGHT,
    SMALL,
    WIDTH,
    colours,
    encoded,
    orientation,
    png_header,
    sixteen,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def reference(image: Image.Image, transform: ImageTransform) -> np.ndarray:
    """(3, crop, crop) float32: what torchvision's own preset makes of a picture that ImageFolder has loaded."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(
        crop_size=transform.crop,
        resize_size=transform.resize,
        mean=transform.mean,
        std=transform.std,
        interpolation=InterpolationMode(transform.interpolation),
        antialias=transform.antialias,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about transparent palettes
        rgb = image.convert("RGB")
    return preset(rgb).numpy()


def as_float(pixels: np.ndarray, transform: ImageTransform) -> np.ndarray:
    """The preset's own way from its uint8 pixels to what the network sees."""
    import torch
    from torchvision.transforms import functional as F  # noqa: N812

    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    scaled = F.convert_image_dtype(torch.from_numpy(pixels.copy()), torch.float)
    return F.normalize(scaled, mean=list(transform.mean), std=list(transform.std)).numpy()


def same_as_torchvision(data: bytes, transform: ImageTransform = SMALL) -> np.ndarray:
    """Assert equality, bit by bit, and give the pixels."""
    pixels = decode_image(data, transform)
    assert pixels.shape == (3, transform.crop, transform.crop)
    np.testing.assert_array_equal(
        as_float(pixels, transform), reference(Image.open(io.BytesIO(data)), transform), strict=True
    )
    return pixels


def rescaled(values: np.ndarray) -> bytes:
    """The 8-bit PNG that a 16-bit picture stands for: 65535 is 255, rounded to the nearest."""
    return encode_png(np.rint(values / 257).astype(np.uint8))


# --- bit-equality ---------------------------------------------------------------------------------------------------
MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "JPEG": ["L", "RGB", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"],
    "PPM": ["1", "L", "RGB"],
}


transforms = st.builds(
    lambda crop, more, interpolation: replace(SMALL, resize=crop + more, crop=crop, interpolation=interpolation),
    st.integers(1, 48),
    st.integers(0, 24),
    st.sampled_from(["bilinear", "bicubic"]),
)


@settings(max_examples=100, deadline=None)
@given(
    kind_mode=st.sampled_from([(kind, mode) for kind, modes in MODES.items() for mode in modes]),
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3))),
    seed=st.integers(0, 9),
    transform=transforms,
)
def test_pixels_are_torchvisions(kind_mode, pixels, seed, transform):
    """Any size, mode, format and published kind of transform: bit-equal to torchvision's preset on Pillow's RGB."""
    kind, mode = kind_mode
    noise = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    image = Image.fromarray(pixels ^ noise).convert(mode)
    options = {"quality": 80} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    same_as_torchvision(encoded(image, kind, **options), transform)


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (255, 257), (640, 480), (97, 1000), (1000, 97), (1, 1)])
@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1"])
def test_the_weights_own_transform_is_the_one_that_torchvision_ships(name, size):
    """With every published transform of vit_b_16 the pixels are those of the transform that the weights bring."""
    from torchvision.models import ViT_B_16_Weights

    from featcache.trunks.architectures import architecture

    transform = architecture("vit_b_16").published[name].transform
    data = encoded(colours(width=size[0], height=size[1]), "PNG")
    own = ViT_B_16_Weights[name].transforms()(Image.open(io.BytesIO(data)).convert("RGB")).numpy()
    np.testing.assert_array_equal(as_float(decode_image(data, transform), transform), own, strict=True)


def test_every_real_odd_file_is_decoded_as_torchvision_does():
    """The real palette PNGs, WebPs and JPEGs in ../shared/data/odd_formats: bit-equal, all twelve."""
    files = sorted((SHARED / "odd_formats").glob("*")) if SHARED.is_dir() else []
    if not files:
        pytest.skip("../shared/data/odd_formats is not here")
    full = replace(SMALL, resize=256, crop=224)
    for file in files:
        same_as_torchvision(file.read_bytes(), full)


def test_real_photographs_are_decoded_as_torchvision_does(hymenoptera):
    """Twenty of the ants and bees, the GIF and the .jpeg among them: bit-equal with the default transform."""
    files = sorted(path for path in hymenoptera.rglob("*") if path.is_file())
    odd = [path for path in files if path.suffix != ".jpg"]
    assert len(odd) >= 2
    full = replace(SMALL, resize=256, crop=224)
    for file in {*random.Random(0).sample(files, 20), *odd}:
        same_as_torchvision(file.read_bytes(), full)


# --- every kind of file in docs/images.md ---------------------------------------------------------------------------
def test_grey_is_repeated():
    """A grey image becomes three equal channels."""
    pixels = same_as_torchvision(encoded(colours("L"), "PNG"))
    assert (pixels == pixels[:1]).all()


def test_one_bit_is_black_and_white():
    """A 1-bit image is 0 and 255 before it is resized."""
    image = Image.new("1", (40, 40), 1)
    assert (same_as_torchvision(encoded(image, "PNG")) == 255).all()
    assert (same_as_torchvision(encoded(Image.new("1", (40, 40)), "TIFF")) == 0).all()


def test_a_palette_is_looked_up():
    """A palette image has the colours of its palette; its transparent entry is its colour, not a background."""
    image = colours("P")
    plain = same_as_torchvision(encoded(image, "PNG"))
    for transparency in (0, bytes(range(256))):
        np.testing.assert_array_equal(same_as_torchvision(encoded(image, "PNG", transparency=transparency)), plain)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(mode):
    """Transparency is left out: what stands under it is what is seen, as ImageFolder does it."""
    image = colours(mode)
    opaque = image.convert(mode.removesuffix("A"))
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(
            same_as_torchvision(encoded(image, kind)), decode_image(encoded(opaque, kind), SMALL), strict=True
        )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_rescaled(kind):
    """16-bit grey is divided by 257 and rounded; Pillow's own conversion would make all above 255 white."""
    found = decode_image(encoded(Image.fromarray(sixteen()), kind), SMALL)
    np.testing.assert_array_equal(found, decode_image(rescaled(sixteen()), SMALL))


def test_big_endian_sixteen_bit_grey_is_rescaled():
    """The order of the bytes in a 16-bit TIFF makes no difference."""
    image = Image.frombytes("I;16B", (WIDTH, HEIGHT), sixteen().astype(">u2").tobytes())
    np.testing.assert_array_equal(decode_image(encoded(image, "TIFF"), SMALL), decode_image(rescaled(sixteen()), SMALL))


@pytest.mark.parametrize("most", [1023, 65535])
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_sixteen_bit_pgm_is_rescaled_by_its_own_maximum(most, exif):
    """A PGM of more than 8 bits is rescaled from 0 … its stated maximum."""
    values = np.linspace(0, most, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    data = b"P5 %d %d %d\n" % (WIDTH, HEIGHT, most) + values.astype(">u2").tobytes()
    found = decode_image(data, replace(SMALL, exif=exif)).astype(int)
    expected = decode_image(encode_png(np.rint(values * (255 / most)).astype(np.uint8)), SMALL).astype(int)
    assert np.abs(found - expected).max() <= 1  # Pillow rounds once on the way from 1023 to 65535
    assert found.max() == expected.max()


def test_sixteen_bit_colour_keeps_its_upper_byte():
    """A 16-bit RGB PNG gives the upper byte of each sample, as Pillow reads it."""
    rgb = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    found = same_as_torchvision(png_header(WIDTH, HEIGHT, depth=16, rows=rows))
    upper = encoded(Image.fromarray((rgb >> 8).astype(np.uint8)), "PNG")
    np.testing.assert_array_equal(found, decode_image(upper, SMALL))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_are_converted(mode):
    """CMYK and YCbCr become RGB by Pillow's plain formula; a colour profile is not applied."""
    for kind in ("JPEG", "TIFF"):
        plain = same_as_torchvision(encoded(colours(mode), kind))
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        np.testing.assert_array_equal(same_as_torchvision(encoded(colours(mode), kind, icc_profile=profile)), plain)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})])
def test_of_an_animation_the_first_frame_counts(kind, options):
    """Of a GIF, WebP, APNG or TIFF of several pictures, the first is the image, whatever follows."""
    first, others = colours("P" if kind == "GIF" else "RGB"), [colours("L").rotate(90), colours("L").rotate(180)]
    others = [other.convert(first.mode).resize(first.size) for other in others]
    moving = encoded(first, kind, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(moving)).n_frames == 3
    np.testing.assert_array_equal(same_as_torchvision(moving), decode_image(encoded(first, kind, **options), SMALL))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_tag_is_ignored_or_applied_as_asked(kind, turn):
    """Pixels are shown as they are stored, as ImageFolder does; with exif "apply" they are turned, all eight ways."""
    data = encoded(colours(), kind, exif=orientation(turn))
    stored = same_as_torchvision(data)
    applied = decode_image(data, replace(SMALL, exif="apply"))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(as_float(applied, SMALL), reference(upright, SMALL))
    assert (turn == 1) == np.array_equal(stored, applied)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_tiff_is_always_turned(turn):
    """Pillow turns a TIFF as its orientation tag says, and so does ImageFolder: both settings give it upright."""
    data = encoded(colours(), "TIFF", exif=orientation(turn))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(colours(), "PNG", exif=orientation(turn)))))
    for exif in ("ignore", "apply"):
        np.testing.assert_array_equal(
            same_as_torchvision(data, replace(SMALL, exif=exif)), decode_image(encoded(upright, "BMP"), SMALL)
        )


def test_a_format_is_told_from_the_bytes():
    """A PNG named .jpg is a PNG: the name never reaches decode."""
    same_as_torchvision(encoded(colours(), "PNG"))


def test_an_image_at_the_limit_is_decoded():
    """Just under 89 megapixels, 1 bit each, is an image like any other."""
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    width, height = 9_459, 9_459
    assert width * height <= MAX_PIXELS < (width + 1) * height
    rows = bytes((1 + (width + 7) // 8) * height)
    assert (decode_image(png_header(width, height, depth=1, colour=0, rows=rows), SMALL) == 0).all()


@pytest.mark.parametrize("size", [(3_000, 1), (1, 3_000), (2, 5_000)])
def test_a_very_long_image_gives_its_middle(size):
    """An extreme aspect ratio is resized by its short edge and cut at the middle, as torchvision does."""
    same_as_torchvision(encoded(colours(width=size[0], height=size[1]), "PNG"))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 31)])
def test_an_image_smaller_than_the_crop_is_enlarged(size):
    """A small image is enlarged, as torchvision does; nothing is padded."""
    pixels = same_as_torchvision(encoded(Image.new("RGB", size, (200, 100, 50)), "PNG"))
    assert (pixels == np.array([200, 100, 50]).reshape(3, 1, 1)).all()


def test_decoding_twice_gives_the_same_bytes():
    """Nothing of one image stays behind for the next."""
    one, other = encoded(colours(), "JPEG"), encoded(colours("P"), "GIF")
    first = decode_image(one, SMALL)
    decode_image(other, SMALL)
    with pytest.raises(BadImageError):
        decode_image(one[:200], SMALL)
    np.testing.assert_array_equal(decode_image(one, SMALL), first)
