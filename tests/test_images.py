"""decode(): bit-equal to Pillow with torchvision's transform, or one reason. `docs/images.md` is this file's table."""

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps

from featcache.media.images import MAX_PIXELS, BadImageError, ImageTransform, decode, encode_png

SHARED = Path(__file__).parents[2] / "shared" / "data"
SMALL = ImageTransform(resize=40, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ORIENTATION = 0x0112
WIDTH, HEIGHT = 50, 37


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
    pixels = decode(data, transform)
    assert pixels.shape == (3, transform.crop, transform.crop)
    np.testing.assert_array_equal(
        as_float(pixels, transform), reference(Image.open(io.BytesIO(data)), transform), strict=True
    )
    return pixels


def refused(data: bytes, transform: ImageTransform = SMALL) -> str:
    with pytest.raises(BadImageError) as caught:
        decode(data, transform)
    assert str(caught.value)
    return str(caught.value)


def colours(mode: str = "RGB", *, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A smooth picture whose four corners differ, so that a turned or cut one shows."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1).astype(np.uint8)
    image = Image.fromarray(rgb)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray((x * 5 % 256).astype(np.uint8)))
        return image
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def orientation(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    return exif


def sixteen() -> np.ndarray:
    """(37, 50) uint16 over the whole range."""
    return np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)


def rescaled(values: np.ndarray) -> bytes:
    """The 8-bit PNG that a 16-bit picture stands for: 65535 is 255, rounded to the nearest."""
    return encode_png(np.rint(values / 257).astype(np.uint8))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


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
    np.testing.assert_array_equal(as_float(decode(data, transform), transform), own, strict=True)


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
            same_as_torchvision(encoded(image, kind)), decode(encoded(opaque, kind), SMALL), strict=True
        )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_rescaled(kind):
    """16-bit grey is divided by 257 and rounded; Pillow's own conversion would make all above 255 white."""
    found = decode(encoded(Image.fromarray(sixteen()), kind), SMALL)
    np.testing.assert_array_equal(found, decode(rescaled(sixteen()), SMALL))


def test_big_endian_sixteen_bit_grey_is_rescaled():
    """The order of the bytes in a 16-bit TIFF makes no difference."""
    image = Image.frombytes("I;16B", (WIDTH, HEIGHT), sixteen().astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(encoded(image, "TIFF"), SMALL), decode(rescaled(sixteen()), SMALL))


@pytest.mark.parametrize("most", [1023, 65535])
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_sixteen_bit_pgm_is_rescaled_by_its_own_maximum(most, exif):
    """A PGM of more than 8 bits is rescaled from 0 … its stated maximum."""
    values = np.linspace(0, most, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    data = b"P5 %d %d %d\n" % (WIDTH, HEIGHT, most) + values.astype(">u2").tobytes()
    found = decode(data, replace(SMALL, exif=exif)).astype(int)
    expected = decode(encode_png(np.rint(values * (255 / most)).astype(np.uint8)), SMALL).astype(int)
    assert np.abs(found - expected).max() <= 1  # Pillow rounds once on the way from 1023 to 65535
    assert found.max() == expected.max()


def test_sixteen_bit_colour_keeps_its_upper_byte():
    """A 16-bit RGB PNG gives the upper byte of each sample, as Pillow reads it."""
    rgb = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    found = same_as_torchvision(png_header(WIDTH, HEIGHT, depth=16, rows=rows))
    upper = encoded(Image.fromarray((rgb >> 8).astype(np.uint8)), "PNG")
    np.testing.assert_array_equal(found, decode(upper, SMALL))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_range_are_refused(dtype):
    """32-bit whole numbers and floats have no white to map to 255: refused, with the way out."""
    assert "no defined range; save the image with 8 or 16 bits" in refused(
        encoded(Image.fromarray(sixteen().astype(dtype)), "TIFF")
    )


def test_a_lab_tiff_is_refused():
    """CIELAB has no one conversion to RGB: refused."""
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    assert "mode LAB" in refused(encoded(ImageCms.applyTransform(colours(), transform), "TIFF"))


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
    np.testing.assert_array_equal(same_as_torchvision(moving), decode(encoded(first, kind, **options), SMALL))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_tag_is_ignored_or_applied_as_asked(kind, turn):
    """Pixels are shown as they are stored, as ImageFolder does; with exif "apply" they are turned, all eight ways."""
    data = encoded(colours(), kind, exif=orientation(turn))
    stored = same_as_torchvision(data)
    applied = decode(data, replace(SMALL, exif="apply"))
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
            same_as_torchvision(data, replace(SMALL, exif=exif)), decode(encoded(upright, "BMP"), SMALL)
        )


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), st.integers(0, 9))
def test_a_damaged_tag_never_stops_an_image(junk, header, turn):
    """Whatever the tag's bytes: the pixels as stored; with exif "apply" pixels or a BadImageError; no warning."""
    order = ">" if header.startswith(b"M") else "<"
    entry = struct.pack(f"{order}HHHIHH", 2 + len(junk) % 3, ORIENTATION, 3, 1, turn, 0)
    data = encoded(colours(), "JPEG", exif=b"Exif\0\0" + header + entry + junk)
    np.testing.assert_array_equal(decode(data, SMALL), decode(encoded(colours(), "JPEG"), SMALL))
    try:
        pixels = decode(data, replace(SMALL, exif="apply"))
    except BadImageError:
        return
    assert pixels.shape == (3, 32, 32)


CUTS = [
    pytest.param(encoded(colours(), "JPEG"), id="jpeg"),
    pytest.param(encoded(colours(), "JPEG", progressive=True), id="progressive"),
    pytest.param(encoded(colours(), "PNG"), id="png"),
    pytest.param(encoded(colours(), "WEBP"), id="webp"),
    pytest.param(encoded(colours("P"), "GIF"), id="gif"),
    pytest.param(encoded(colours(), "BMP"), id="bmp"),
    pytest.param(encoded(colours(), "TIFF"), id="tiff"),
    pytest.param(encoded(colours(), "TIFF", compression="tiff_lzw"), id="tiff-lzw"),
    pytest.param(encoded(colours(), "PPM"), id="ppm"),
]


@pytest.mark.parametrize("data", CUTS)
def test_a_file_that_is_cut_off_is_refused(data):
    """Cut anywhere, a file is refused, or its pixels were all there and are the whole file's."""
    whole = decode(data, SMALL)
    for length in [*range(1, len(data) // 2, 97), len(data) // 2, len(data) * 3 // 4]:
        assert refused(data[:length]).startswith(("damaged or cut off", "no image of a known kind"))
    for length in range(len(data) - 16, len(data)):
        try:
            pixels = decode(data[:length], SMALL)
        except BadImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)


def test_a_jpeg_without_its_last_byte_is_refused():
    """JPEG: a file whose end is missing is refused, though Pillow could guess at it."""
    assert "truncated" in refused(encoded(colours(), "JPEG")[:-1])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([param.values[0] for param in CUTS]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_gives_pixels_or_a_reason(data, damage):
    """Whatever bytes of a file are changed: pixels of the right shape, or a BadImageError; never another error."""
    changed = bytearray(data)
    for place, value in damage:
        changed[int(place * len(data))] = value
    try:
        pixels = decode(bytes(changed), SMALL)
    except BadImageError:
        assert refused(bytes(changed)) == refused(bytes(changed))  # no address, no time in the reason
        return
    assert pixels.shape == (3, 32, 32)


@pytest.mark.parametrize(
    "data",
    [
        b"P5 4 4 99999999\n" + bytes(16),
        b"P2 2 2 255\n1 2 3 x\n",
        png_header(4, 4)[:33] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24))) + png_header(4, 4)[33:],
    ],
    ids=["ValueError at opening", "ValueError at loading", "a text bomb"],
)
def test_whatever_pillow_raises_is_a_reason(data):
    """An error of Pillow's that is no OSError is a bad image too, not the end of a worker."""
    assert refused(data).startswith("damaged or cut off: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "no image of a known kind"),
        (b"\0" * 4096, "no image of a known kind"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image of a known kind"),
        (b"%PDF-1.7\n", "no image of a known kind"),
        (encoded(colours(), "ICO"), "no image of a known kind"),
        (encoded(colours(), "PCX"), "no image of a known kind"),
        (b"P5 0 5 255\n", "no image of a known kind"),
    ],
    ids=["0 bytes", "html", "zeros", "svg", "pdf", "ico", "pcx", "no width"],
)
def test_what_is_no_supported_image_is_refused_by_its_content(data, said):
    """A file is judged by its bytes: empty, a web page, or a format that is not on the list is refused."""
    assert said in refused(data)


def test_a_format_is_told_from_the_bytes():
    """A PNG named .jpg is a PNG: the name never reaches decode."""
    same_as_torchvision(encoded(colours(), "PNG"))


@pytest.mark.parametrize("edges", [(10_000, 10_000), (20_000, 10_000), (65_500, 65_500)])
@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "pgm"])
def test_a_header_of_too_many_pixels_is_refused_in_little_memory(kind, edges):
    """100 MP, 200 MP and 65500x65500 are refused from the header, in less memory than the pixels would need."""
    width, height = edges
    small = bytearray(encoded(colours(), "JPEG"))
    frame = small.index(b"\xff\xc0")
    small[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    bitmap = bytearray(encoded(colours(), "BMP"))
    bitmap[18:26] = struct.pack("<ii", width, height)
    data = {
        "png": png_header(width, height, rows=b"\0" * 1000),
        "jpeg": bytes(small),
        "bmp": bytes(bitmap),
        "pgm": b"P5 %d %d 255\n" % edges + bytes(1000),
    }[kind]
    import tracemalloc

    tracemalloc.start()
    try:
        assert refused(data) == "more than 89 megapixels"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_under_a_memory_limit():
    """In a process that may take 400 MB, 100 MP, 200 MP and 65500x65500 are refused, and the next image works."""
    code = """
import resource, struct, sys, zlib
import numpy as np
from featcache.media.images import BadImageError, ImageTransform, decode, encode_png
transform = ImageTransform(resize=40, crop=32, mean=(0, 0, 0), std=(1, 1, 1))
fine = encode_png(np.zeros((9, 9), np.uint8))
decode(fine, transform)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
said = []
for edge_x, edge_y in ((10_000, 10_000), (20_000, 10_000), (65_500, 65_500)):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", edge_x, edge_y, 8, 2, 0, 0, 0))
    png = b"\\x89PNG\\r\\n\\x1a\\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    try:
        decode(png, transform)
    except BadImageError as error:
        said.append(str(error))
assert said == ["more than 89 megapixels"] * 3, said
decode(fine, transform)
"""
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS binds on Linux")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_at_the_limit_is_decoded():
    """Just under 89 megapixels, 1 bit each, is an image like any other."""
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    width, height = 9_459, 9_459
    assert width * height <= MAX_PIXELS < (width + 1) * height
    rows = bytes((1 + (width + 7) // 8) * height)
    assert (decode(png_header(width, height, depth=1, colour=0, rows=rows), SMALL) == 0).all()


@pytest.mark.parametrize("size", [(3_000, 1), (1, 3_000), (2, 5_000)])
def test_a_very_long_image_gives_its_middle(size):
    """An extreme aspect ratio is resized by its short edge and cut at the middle, as torchvision does."""
    same_as_torchvision(encoded(colours(width=size[0], height=size[1]), "PNG"))


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_an_image_that_would_explode_when_resized_is_refused(size):
    """A line of 60,000 pixels would have 96 megapixels once its short edge is 40: refused, with both sizes."""
    data = b"P5 %d %d 255\n" % size + bytes(60_000)
    assert refused(data) == f"{size[0]}x{size[1]} pixels: resized it would have 96 megapixels"


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 31)])
def test_an_image_smaller_than_the_crop_is_enlarged(size):
    """A small image is enlarged, as torchvision does; nothing is padded."""
    pixels = same_as_torchvision(encoded(Image.new("RGB", size, (200, 100, 50)), "PNG"))
    assert (pixels == np.array([200, 100, 50]).reshape(3, 1, 1)).all()


def test_decoding_twice_gives_the_same_bytes():
    """Nothing of one image stays behind for the next."""
    one, other = encoded(colours(), "JPEG"), encoded(colours("P"), "GIF")
    first = decode(one, SMALL)
    decode(other, SMALL)
    with pytest.raises(BadImageError):
        decode(one[:200], SMALL)
    np.testing.assert_array_equal(decode(one, SMALL), first)


def test_every_row_of_the_page_is_here():
    """docs/images.md is held by tests: each test that its table names exists."""
    root = Path(__file__).parents[1]
    page = (root / "docs/images.md").read_text()
    named = {
        cell for line in page.splitlines() if line.startswith("|") for cell in line.split("`") if cell[:5] == "test_"
    }
    folders = (root / "tests/listing", root / "tests/loader")
    sources = [path for folder in folders for path in folder.glob("test_*.py")]
    sources += [Path(__file__), root / "tests/test_metadata.py"]
    defined = "".join(path.read_text() for path in sources)
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in defined]


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
    exact, fast = decode(file.getvalue(), TRANSFORM), decode(file.getvalue(), FAST)
    assert (fast.shape, fast.dtype) == (exact.shape, exact.dtype)
    assert np.abs(fast[:2].astype(int) - exact[:2]).mean() < 2  # the third is a saw tooth, where scaled decodes blur


def test_the_fast_decoder_keeps_the_orientation():
    """A JPEG that lies on its side is turned as the exact decoder turns it, its sides swapped."""
    file = io.BytesIO()
    picture = np.zeros((900, 1500, 3), dtype=np.uint8)
    picture[:, 750:] = 255
    Image.fromarray(picture).save(file, "JPEG", exif=_turned(6))
    for exif in ("ignore", "apply"):
        exact, fast = (decode(file.getvalue(), replace(one, exif=exif)) for one in (TRANSFORM, FAST))
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
        decode(file.getvalue()[:-5000], FAST)
