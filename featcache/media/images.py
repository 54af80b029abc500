"""Bytes of a picture -> a checked uint8 array. Only this package decodes pictures.

What comes out is bit-equal to torchvision's `ImageClassification` transform on `PIL.Image.open(f).convert("RGB")`,
up to the point where that transform turns to floating point. `docs/images.md` states the outcome for every kind of
file. Nothing here needs torch, so that loader processes start fast and stay small.
"""

import io
import re
import warnings

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from featcache.media import jpeg
from featcache.media.metadata import detect_kind, strip_metadata
from featcache.media.transform import MAX_PIXELS, BadImageError, ImageTransform, resized_size

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# The modes whose conversion to RGB is well defined. Others (32-bit integers, floats, LAB) have no range to map from.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")


def decode_image(data: bytes, transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Decode, resize and crop one image.

    Args:
        data: The bytes of the whole file.
        transform: What is done to the image, and what decodes it.

    Returns:
        (3, height, width) uint8, RGB; with the decoder "nvjpeg" a row of `media.jpeg`.

    Raises:
        BadImageError: the bytes are no complete picture of a supported kind, or it is too large.
    """
    upright = transform.exif == "apply"
    if transform.decoder == "pillow-fast":
        image, full_size = open_image(data, upright=upright, at_least=transform.resize)
        return _resize_window(convert_to_rgb(image), full_size, transform)
    if transform.decoder == "nvjpeg":
        size = jpeg.read_size(data, upright=upright, max_bytes=transform.shape[0] - jpeg.HEADER)
        is_small = size is not None and size[0] * size[1] <= MAX_PIXELS
        if size is not None and is_small and min(resized_size(size, transform)) >= transform.crop:
            return jpeg.pack_file(data, size, transform.crop)
    return _pack(_resize_and_crop(convert_to_rgb(open_image(data, upright=upright)[0]), transform), transform)


def resize_and_crop(pixels: npt.NDArray[np.uint8], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Resize and crop what is decoded already, as `decode_image` does with these pixels.

    Args:
        pixels: (height, width, 3) uint8, RGB.
        transform: What is done to the image.

    Returns:
        What `decode_image` returns.

    Raises:
        BadImageError: it would be too large once resized.
    """
    image = Image.fromarray(pixels)
    if transform.decoder == "pillow-fast":
        return _resize_window(image, image.size, transform)
    return _pack(_resize_and_crop(image, transform), transform)


def may_be_image(head: bytes) -> bool:
    """Return whether `decode_image` may give a picture of a file that begins with these bytes.

    Where it may not, it says of these bytes alone what it says of the whole file.

    Args:
        head: The first bytes of the file, 16 or more.
    """
    Image.init()
    accept = [Image.OPEN[name][1] for name in FORMATS]
    return bool(detect_kind(head)) or any(by_start is None or by_start(head[:16]) for by_start in accept)


def _pack(pixels: npt.NDArray[np.uint8], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Return (3, height, width) pixels in the form that the transform's decoder hands on."""
    return jpeg.pack_pixels(pixels, transform.crop) if transform.decoder == "nvjpeg" else pixels


def _resize_window(image: Image.Image, full_size: tuple[int, int], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Return what `_resize_and_crop` does, resizing only the pixels of the crop.

    `image` may be decoded smaller; `full_size` is that of the whole picture, in which the crop's place is reckoned.
    """
    size = resized_size(full_size, transform)
    left, top = transform.corner(size)
    if left < 0 or top < 0:  # a crop that is larger than the resized image is padded
        return _resize_and_crop(image, transform)
    across, down = image.size[0] / size[0], image.size[1] / size[1]
    height, width = transform.input_size
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    method = Image.Resampling[transform.interpolation.upper()]
    image = image.resize((width, height), method, box=box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _resize_and_crop(image: Image.Image, transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Return (3, height, width) uint8, with torchvision's rounding of sizes."""
    size = resized_size(image.size, transform)
    if size != image.size:
        image = image.resize(size, Image.Resampling[transform.interpolation.upper()])
    left, top = transform.corner(size)
    height, width = transform.input_size
    image = image.crop((left, top, left + width, top + height))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def open_image(data: bytes, *, upright: bool, at_least: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """Return the first frame, fully decoded, and the size (width, height) of the whole picture.

    Args:
        data: The bytes of the whole file.
        upright: Turn the picture as its orientation tag says.
        at_least: A JPEG may be decoded at a half, a quarter or an eighth, which libjpeg-turbo does in the frequency
            domain, as long as its shorter edge keeps so many pixels; 0: decode all of it.

    Raises:
        BadImageError: as `decode_image`.
    """
    if not data:
        raise BadImageError("the file is empty")
    try:
        return _load(data, upright=upright, at_least=at_least)
    except BadImageError:
        lean = strip_or_refuse(data, upright=upright)  # Pillow gives up on a sound picture whose metadata it refuses
        if lean is None:
            raise
    return _load(lean, upright=upright, at_least=at_least)


def strip_or_refuse(data: bytes, *, upright: bool) -> bytes | None:
    """Return the same file without its metadata; None where there is nothing to take out.

    Raises:
        BadImageError: the metadata does not match its checksum.
    """
    try:
        return strip_metadata(data, upright=upright)
    except ValueError as error:
        raise BadImageError(f"damaged or cut off: {error}") from None


def _load(data: bytes, *, upright: bool, at_least: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return what `open_image` does, of a file as Pillow reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow only warns of (odd metadata) does not touch the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = image.size
            if at_least and image.format == "JPEG":
                image.draft(image.mode, (at_least, at_least))
            image.load()
            image = narrow_wide_ppm(image)
            if upright:
                turned = turn_upright(image)
                # A half turn and a mirror keep the sides; what swaps them shows in the sides, but for a square's.
                size = size if turned.size == image.size else size[::-1]
                image = turned
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImageError(f"more than {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except UnidentifiedImageError:
        if kind := detect_kind(data):
            raise BadImageError(f"a {kind} that Pillow cannot read: damaged at its start, or of a rare kind") from None
        raise BadImageError(f"no image of a known kind ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise BadImageError("there is too little memory to decode it") from None
    except Exception as error:  # a plugin raises whatever the bytes make it raise; a bad image is a row, not a crash
        raise BadImageError(describe_failure(error)) from None
    return image, size


def narrow_wide_ppm(image: Image.Image) -> Image.Image:
    """Return a PPM of 10 or 16 bits, which Pillow has brought to 0 … 65535, in 16 bits; any other image as it is."""
    if image.format == "PPM" and image.mode == "I":
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    return image


def turn_upright(image: Image.Image) -> Image.Image:
    """Return an image as its orientation tag says that it is looked at; the image itself where it has none."""
    turn = _read_turn(image)
    return image if turn is None else image.transpose(turn)


def describe_failure(error: Exception) -> str:
    """Return what is wrong with a file that is an image by its start, as Pillow's error has it.

    Damage is not said of what is merely not supported.
    """
    text = str(error)
    if "MAX_TEXT_" in text:  # Pillow's limits; `strip_metadata` has kept what may hold an orientation
        return 'its metadata is too large to be read, and with exif = "apply" it may say how the picture is turned'
    if re.search(r"unsupported|unknown|not (available|implemented|supported)|cannot handle", text, re.IGNORECASE):
        return f"of a kind that Pillow does not decode: {text}"
    return f"damaged or cut off: {text}"


# What an orientation tag asks for, by its value; see TIFF 6.0, section "Orientation".
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _read_turn(image: Image.Image) -> Image.Transpose | None:
    """Return what brings an image upright, as ImageOps.exif_transpose does it; None for nothing, or a bad tag."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB, 8 bits a channel.

    Raises:
        BadImageError: its values have no defined range.
    """
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip every value above 255
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.rint(wide / 257).astype(np.uint8))
    if image.mode not in _MODES:
        raise BadImageError(f"pixels of mode {image.mode} have no defined range; save the image with 8 or 16 bits")
    with warnings.catch_warnings():
        # "Palette images with Transparency …": alpha is dropped, and that is documented
        warnings.simplefilter("ignore")
        return image.convert("RGB")


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of a grey image.

    Args:
        pixels: (height, width) uint8, 0 is black.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
