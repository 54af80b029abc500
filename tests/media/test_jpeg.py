"""Which JPEG files a GPU decodes, and how images travel to it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featcache.media import BadImageError, ImageTransform, decode_image, jpeg, resize_and_crop

EXACT = ImageTransform(resize=72, crop=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ON_GPU = replace(EXACT, decoder="nvjpeg")
MOST = jpeg.row_bytes(64) - jpeg.HEADER
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def saved(mode: str = "RGB", kind: str = "JPEG", size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).resize(size).convert(mode).save(file, kind, **options)
    return file.getvalue()


def size_of(data: bytes, *, upright: bool = False) -> tuple[int, int] | None:
    return jpeg.read_size(data, upright=upright, max_bytes=MOST)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def travelled(row: np.ndarray) -> np.ndarray:
    """What a place that was used before holds once an image was put there."""
    place = np.full(row.shape, 201, dtype=np.uint8)
    jpeg.copy_image(row, place)
    return place


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "L"},
        {"progressive": True},
        {"optimize": True},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:2:0"},
        {"restart_marker_blocks": 1},
        {"exif": turned()},
        {"comment": b"\xff\xd9 of no meaning"},
    ],
)
def test_usual_files_are_for_the_gpu(options):
    """Baseline and progressive, grey and colour, of any usual sampling: with their size; and travel byte for byte."""
    data = saved(**options)
    assert size_of(data) == (60, 40)
    row = decode_image(data, ON_GPU)
    assert row.shape == ON_GPU.shape
    place = travelled(row)
    assert place[: jpeg.HEADER].view("<i8").tolist() == [len(data), 60 * 40]
    assert place[jpeg.HEADER : jpeg.HEADER + len(data)].tobytes() == data
    assert (place[jpeg.HEADER + len(data) :] == 201).all()  # nothing else was copied


def another_end() -> bytes:
    """A file with an end mark before its picture."""
    data = saved()
    return data[:2] + b"\xff\xd9" + data[2:]


def in_three_scans() -> bytes:
    """A baseline file whose first scan has one of its three components; the rest of its data is damage."""
    data = saved()
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[at + 14 :]


def with_no_marker() -> bytes:
    """A file with a stuffed byte where a marker belongs."""
    data = saved()
    return data[:2] + b"\xff\x00\x00\x02" + data[2:]


def lossless_like() -> bytes:
    """A file whose frame has a coding that nobody here decodes on a GPU (arithmetic)."""
    data = saved()
    at = data.index(b"\xff\xc0")
    return data[:at] + b"\xff\xc9" + data[at + 2 :]


def twelve_bits() -> bytes:
    data = saved()
    at = data.index(b"\xff\xc0") + 4
    return data[:at] + b"\x0c" + data[at + 1 :]


def named_rgb() -> bytes:
    """Components that libjpeg takes for red, green and blue."""
    data = bytearray(saved(subsampling="4:4:4"))
    frame = data.index(b"\xff\xc0") + 10
    for number, name in enumerate(b"RGB"):
        data[frame + 3 * number] = name
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        saved(kind="PNG"),
        saved("CMYK"),
        saved(keep_rgb=True),
        saved()[:-2],
        saved()[: len(saved()) // 2],
        saved()[:30],
        b"",
        b"\xff\xd8\xff",
        another_end(),
        in_three_scans(),
        with_no_marker(),
        lossless_like(),
        twelve_bits(),
        named_rgb(),
        saved(size=(900, 900), quality=100, subsampling="4:4:4"),
    ],
    ids=[
        "png",
        "cmyk",
        "rgb",
        "no end",
        "half",
        "header",
        "empty",
        "start",
        "end first",
        "scans",
        "no marker",
        "coding",
        "bits",
        "names",
        "large",
    ],
)
def test_what_a_gpu_might_see_otherwise_is_for_the_cpu(data):
    """Other formats, colours and codings, what is cut off or too large for its room: as with --decode exact."""
    assert size_of(data) is None
    try:
        expected = decode_image(data, EXACT)
    except BadImageError:
        with pytest.raises(BadImageError):
            decode_image(data, ON_GPU)
        return
    place = travelled(decode_image(data, ON_GPU))
    assert not place[: jpeg.HEADER].any()
    pixels = place[jpeg.HEADER : jpeg.HEADER + expected.size].reshape(expected.shape)
    np.testing.assert_array_equal(pixels, expected)
    assert (place[jpeg.HEADER + expected.size :] == 201).all()


def test_what_may_be_turned_is_for_the_cpu():
    """Where the orientation tag counts, a file that may have one is decoded exactly."""
    assert size_of(saved(exif=turned()), upright=True) is None
    assert size_of(saved(), upright=True) == (60, 40)


def test_a_picture_that_would_explode_when_resized_is_refused():
    """From the header, as with --decode exact."""
    data = bytearray(saved())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\x00\x01\xff\xff"  # 65535 x 1
    for transform in (replace(EXACT, resize=2000), replace(ON_GPU, resize=2000)):
        with pytest.raises(BadImageError):
            decode_image(bytes(data), transform)


def test_frames_of_videos_travel_as_pixels():
    """A decoded frame is a row of the very pixels that --decode exact makes of it."""
    expected = resize_and_crop(PICTURE, EXACT)
    row = resize_and_crop(PICTURE, ON_GPU)
    assert row.shape == ON_GPU.shape
    assert not row[: jpeg.HEADER].any()
    np.testing.assert_array_equal(row[jpeg.HEADER :][: expected.size].reshape(expected.shape), expected)


def test_pixels_are_put_whole():
    """An image of (3, crop, crop) is copied as it is."""
    pixels = resize_and_crop(PICTURE, EXACT)
    np.testing.assert_array_equal(travelled(pixels), pixels)


@given(st.binary(max_size=40), st.integers(0, 10_000), st.booleans())
def test_no_bytes_make_it_stumble(noise, at, upright):
    """Any damage to a file gives a size or None."""
    data = saved()
    at %= len(data)
    for damaged in (data[:at] + noise, data[:at] + noise + data[at:], b"\xff\xd8\xff" + noise):
        found = size_of(damaged, upright=upright)
        assert found is None or (len(found) == 2 and min(found) > 0)


def test_real_photographs_are_for_the_gpu(hymenoptera):
    """Of the ants and bees, every JPEG that fits into its room at 224 pixels, with the size that Pillow reads."""
    most = jpeg.row_bytes(224) - jpeg.HEADER
    count = 0
    for file in hymenoptera.rglob("*.jpg"):
        data = file.read_bytes()
        with Image.open(file) as image:
            if image.format == "JPEG" and image.mode in ("L", "RGB") and len(data) <= most:
                assert jpeg.read_size(data, upright=False, max_bytes=most) == image.size
                count += 1
    assert count > 350
