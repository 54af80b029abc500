"""Metadata is no picture: a file whose pixels are whole is decoded whatever stands beside them."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featcache.media import (
    BadImageError,
    ImageTransform,
    decode_image,
    decode_preview,
    estimate_thumbnail_cost,
    make_thumbnail,
)
from featcache.media.metadata import strip_metadata

SMALL = ImageTransform(resize=40, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
UPRIGHT = ImageTransform(resize=40, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), exif="apply")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8))
TWO_MB = zlib.compress(b"\0" * 2_000_000)


def encoded(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind, **settings)
    return file.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG", quality=90)


def chunk(name: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) if crc is None else crc)
    )


def png(*chunks: bytes, behind: bool = False) -> bytes:
    at = len(PNG) - 12 if behind else 33  # before the end mark, or right behind the header
    return PNG[:at] + b"".join(chunks) + PNG[at:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    parts = [b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments]
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


ANCILLARY = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"pHYs", b"eXIf", b"tIME")
STARTS = (b"", b"JFIF\0", b"Exif\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0", b"Adobe")
ODD_CHUNKS = {
    "profile of 2 MB": [chunk(b"iCCP", b"x\0\0" + TWO_MB)],
    "profile of another method": [chunk(b"iCCP", b"x\0\x09" + TWO_MB)],
    "profile without a word": [chunk(b"iCCP", b"")],
    "profile of a name alone": [chunk(b"iCCP", b"x\0")],
    "profile of junk": [chunk(b"iCCP", b"x\0\0junk")],
    "zTXt of 2 MB": [chunk(b"zTXt", b"Comment\0\0" + TWO_MB)],
    "zTXt of another method": [chunk(b"zTXt", b"Comment\0\5junk")],
    "iTXt of 2 MB": [chunk(b"iTXt", b"Comment\0\1\0\0\0" + TWO_MB)],
    "70 MB of text": [chunk(b"tEXt", b"C%d\0" % n + b"x" * 10_000_000) for n in range(7)],
    "gamma without a value": [chunk(b"gAMA", b"")],
    "half a chromaticity": [chunk(b"cHRM", b"\0" * 8)],
    "sRGB without a value": [chunk(b"sRGB", b"")],
    "half a resolution": [chunk(b"pHYs", b"abc")],
    "half a transparency": [chunk(b"tRNS", b"a")],
    "half an animation": [chunk(b"acTL", b"abc")],
    "half a frame": [chunk(b"fcTL", b"abc")],
    "EXIF of junk": [chunk(b"eXIf", b"junk" * 1000)],
    "a private chunk": [chunk(b"prVt", b"abc" * 1000)],
}
ODD_SEGMENTS = {
    "profile that ends": [(0xE2, b"ICC_PROFILE\0")],
    "JFIF that ends": [(0xE0, b"JFIF\0")],
    "Adobe that ends": [(0xEE, b"Adobe")],
    "Photoshop that ends": [(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\xff\xff")],
    "several pictures, of junk": [(0xE2, b"MPF\0junk")],
    "EXIF of junk": [(0xE1, b"Exif\0\0" + b"junk" * 1000)],
    "6 MB of EXIF": [(0xE1, b"Exif\0\0" + b"junk" * 16_000)] * 100,
    "XMP": [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x>" * 1000)],
    "3 MB of comments": [(0xFE, b"x" * 60_000)] * 50,
}


@pytest.mark.parametrize("transform", [SMALL, UPRIGHT], ids=["ignore", "apply"])
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_no_metadata_of_a_png_stops_it(name, behind, transform):
    """Whatever a text, a profile, a gamma or an EXIF of a PNG holds, its pixels are those of the plain file."""
    np.testing.assert_array_equal(
        decode_image(png(*ODD_CHUNKS[name], behind=behind), transform), decode_image(PNG, SMALL)
    )


@pytest.mark.parametrize("transform", [SMALL, UPRIGHT], ids=["ignore", "apply"])
@pytest.mark.parametrize("name", ODD_SEGMENTS)
def test_no_metadata_of_a_jpeg_stops_it(name, transform):
    """Whatever stands in the APP segments of a JPEG, its pixels are those of the plain file."""
    np.testing.assert_array_equal(decode_image(jpeg(*ODD_SEGMENTS[name]), transform), decode_image(JPEG, SMALL))


def test_a_large_profile_is_no_damage_in_any_format():
    """A profile of 3 MB and an EXIF of junk in JPEG, WebP and TIFF change no pixel."""
    for kind, more in (("JPEG", {"quality": 90}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        plain = decode_image(encoded(kind, **more), SMALL)
        odd = {"icc_profile": b"\0" * 3_000_000, **({"exif": b"Exif\0\0junk"} if kind == "WEBP" else {})}
        for transform in (SMALL, UPRIGHT):
            np.testing.assert_array_equal(decode_image(encoded(kind, **more, **odd), transform), plain)


def test_thumbnails_and_previews_are_made_of_them_too():
    """What is decoded for a trunk is decoded for a page."""
    odd = png(chunk(b"iCCP", b"x\0\0" + TWO_MB))
    assert make_thumbnail(odd, 20) == make_thumbnail(PNG, 20)
    assert estimate_thumbnail_cost(io.BytesIO(odd)) == 37 * 50
    np.testing.assert_array_equal(decode_preview(odd, 20), decode_preview(PNG, 20))


def test_an_orientation_is_kept_beside_metadata_that_is_not():
    """With exif = "apply" a picture is turned as its EXIF or XMP says, though its profile is too large."""
    exif = PICTURE.getexif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    profile = chunk(b"iCCP", b"x\0\0" + TWO_MB)
    turned = io.BytesIO()
    PICTURE.transpose(Image.Transpose.ROTATE_270).save(turned, "PNG")
    for how in (chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)):
        np.testing.assert_array_equal(decode_image(png(how), UPRIGHT), decode_image(turned.getvalue(), SMALL))
        np.testing.assert_array_equal(decode_image(png(profile, how), UPRIGHT), decode_image(turned.getvalue(), SMALL))
        np.testing.assert_array_equal(decode_image(png(profile, how), SMALL), decode_image(PNG, SMALL))


def test_an_xmp_that_is_too_large_is_named_where_it_counts():
    """It may say how the picture is turned: with exif = "apply" the reason says so, and damage is not said."""
    odd = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TWO_MB))
    with pytest.raises(BadImageError, match="its metadata is too large to be read, and with exif"):
        decode_image(odd, UPRIGHT)
    np.testing.assert_array_equal(decode_image(odd, SMALL), decode_image(PNG, SMALL))


def test_metadata_that_does_not_match_its_checksum_is_damage():
    """Bits that were flipped in a text may have been flipped elsewhere."""
    for odd in (chunk(b"tEXt", b"a\0b", crc=1), chunk(b"iCCP", b"x\0\0" + TWO_MB, crc=1)):
        with pytest.raises(BadImageError, match="damaged or cut off: the checksum of its chunk"):
            decode_image(png(odd), SMALL)


def test_a_picture_whose_pixels_are_damaged_is_refused_with_its_metadata_too():
    """Taking the metadata out mends nothing."""
    odd = png(chunk(b"iCCP", b"x\0\0" + TWO_MB))
    with pytest.raises(BadImageError, match="damaged or cut off"):
        decode_image(odd[:-40], SMALL)
    broken = bytearray(odd)
    broken[-30] ^= 0xFF
    with pytest.raises(BadImageError, match="damaged or cut off"):
        decode_image(bytes(broken), SMALL)


def test_what_is_merely_not_supported_is_not_called_damaged():
    """A sound file of a kind that Pillow does not decode is told as that."""
    bmp = bytearray(encoded("BMP"))
    bmp[30:34] = struct.pack("<I", 99)  # the compression
    with pytest.raises(BadImageError, match=r"of a kind that Pillow does not decode: Unsupported BMP compression"):
        decode_image(bytes(bmp), SMALL)
    twelve = JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")
    with pytest.raises(BadImageError, match="a JPEG that Pillow cannot read: damaged at its start, or of a rare kind"):
        decode_image(twelve, SMALL)


_BOMB = """
import resource, sys, zlib, struct
sys.path.insert(0, {tests!r})
from test_metadata import SMALL, chunk, png
from featcache.media import decode_image
packer = zlib.compressobj(1)
bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(24)) + packer.flush()  # 400 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, start in ((b"iCCP", b"x\\0\\0"), (b"zTXt", b"x\\0\\0"), (b"iTXt", b"x\\0\\1\\0\\0\\0")):
    decode_image(png(chunk(name, start + bomb)), SMALL)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux alone")
def test_a_profile_that_inflates_without_end_takes_no_memory():
    """400 MB of zeros in a profile or a text of 2 MB: decoded, in less than 100 MB."""
    code = _BOMB.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ANCILLARY),
            st.binary(max_size=40),
        ),
        max_size=4,
    ),
    st.booleans(),
    st.sampled_from([SMALL, UPRIGHT]),
)
def test_any_metadata_of_a_png(chunks, behind, transform):
    """Whatever bytes stand in ancillary chunks, the pixels come out."""
    data = png(*(chunk(name, content) for name, content in chunks), behind=behind)
    np.testing.assert_array_equal(decode_image(data, transform), decode_image(PNG, SMALL))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF, 0xFE]),
            st.tuples(
                st.sampled_from(STARTS),
                st.binary(max_size=30),
            ).map(b"".join),
        ),
        max_size=4,
    ),
    st.sampled_from([SMALL, UPRIGHT]),
)
def test_any_metadata_of_a_jpeg(segments, transform):
    """Whatever bytes stand in APP segments, pixels come out; and the plain file's, where none of them sets colours."""
    found = decode_image(jpeg(*segments), transform)
    if not any(marker == 0xEE or content.startswith((b"JFIF", b"MPF")) for marker, content in segments):
        np.testing.assert_array_equal(found, decode_image(JPEG, SMALL))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", PNG[:8], PNG[:40], JPEG[:2], JPEG[:30]]), st.booleans())
def test_any_bytes_are_taken_apart_or_left(data, start, upright):
    """Nothing in a file brings the reader of chunks and segments down; what it gives is shorter."""
    try:
        lean = strip_metadata(start + data, upright=upright)
    except ValueError:
        return
    assert lean is None or len(lean) < len(start + data)


def test_nothing_but_metadata_is_taken_out():
    """A plain file has none; of one with metadata the plain file is left."""
    assert strip_metadata(PNG, upright=True) is None
    for odd in ODD_CHUNKS.values():
        assert strip_metadata(png(*odd), upright=False) == PNG
    assert strip_metadata(b"GIF89a", upright=False) is None
