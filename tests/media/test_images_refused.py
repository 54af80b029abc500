"""decode_image(): a file that is no complete picture of a supported kind gives one reason, in little memory."""

import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from featcache.media import BadImageError, ImageTransform, decode_image
from tests.media.pictures import ORIENTATION, SMALL, colours, encoded, png_chunk, png_header, sixteen


def refused(data: bytes, transform: ImageTransform = SMALL) -> str:
    with pytest.raises(BadImageError) as caught:
        decode_image(data, transform)
    assert str(caught.value)
    return str(caught.value)


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


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), st.integers(0, 9))
def test_a_damaged_tag_never_stops_an_image(junk, header, turn):
    """Whatever the tag's bytes: the pixels as stored; with exif "apply" pixels or a BadImageError; no warning."""
    order = ">" if header.startswith(b"M") else "<"
    entry = struct.pack(f"{order}HHHIHH", 2 + len(junk) % 3, ORIENTATION, 3, 1, turn, 0)
    data = encoded(colours(), "JPEG", exif=b"Exif\0\0" + header + entry + junk)
    np.testing.assert_array_equal(decode_image(data, SMALL), decode_image(encoded(colours(), "JPEG"), SMALL))
    try:
        pixels = decode_image(data, replace(SMALL, exif="apply"))
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
    whole = decode_image(data, SMALL)
    for length in [*range(1, len(data) // 2, 97), len(data) // 2, len(data) * 3 // 4]:
        assert refused(data[:length]).startswith(("damaged or cut off", "no image of a known kind"))
    for length in range(len(data) - 16, len(data)):
        try:
            pixels = decode_image(data[:length], SMALL)
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
        pixels = decode_image(bytes(changed), SMALL)
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
from featcache.media import BadImageError, ImageTransform, decode_image, encode_png
transform = ImageTransform(resize=40, crop=32, mean=(0, 0, 0), std=(1, 1, 1))
fine = encode_png(np.zeros((9, 9), np.uint8))
decode_image(fine, transform)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
said = []
for edge_x, edge_y in ((10_000, 10_000), (20_000, 10_000), (65_500, 65_500)):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", edge_x, edge_y, 8, 2, 0, 0, 0))
    png = b"\\x89PNG\\r\\n\\x1a\\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    try:
        decode_image(png, transform)
    except BadImageError as error:
        said.append(str(error))
assert said == ["more than 89 megapixels"] * 3, said
decode_image(fine, transform)
"""
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS binds on Linux")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_an_image_that_would_explode_when_resized_is_refused(size):
    """A line of 60,000 pixels would have 96 megapixels once its short edge is 40: refused, with both sizes."""
    data = b"P5 %d %d 255\n" % size + bytes(60_000)
    assert refused(data) == f"{size[0]}x{size[1]} pixels: resized it would have 96 megapixels"
