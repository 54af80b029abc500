"""Bytes of a picture -> a checked uint8 array. The only module that decodes pictures.

What comes out is bit-equal to torchvision's `ImageClassification` transform on `PIL.Image.open(f).convert("RGB")`,
up to the point where that transform turns to floating point. `docs/images.md` states the outcome for every kind of
file. Nothing here needs torch, so that loader processes start fast and stay small.
"""

import hashlib
import io
import json
import re
import warnings
from dataclasses import asdict, dataclass
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from featcache.media import jpeg
from featcache.media.metadata import kind_of, without_metadata

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 89_478_485  # Pillow's own limit, at which it warns; here it is an error

# The modes whose conversion to RGB is well defined. Others (32-bit integers, floats, LAB) have no range to map from.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")

Decoder = Literal["pillow", "pillow-fast", "nvjpeg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """From a decoded image to the trunk's input; every field can change an embedding, so every field is keyed."""

    resize: int  # the shorter edge, pixels
    crop: int  # the centre square, pixels
    mean: tuple[float, float, float]  # of RGB in 0 … 1
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    antialias: bool = True
    exif: Literal["ignore", "apply"] = "ignore"  # ImageFolder ignores the orientation tag
    modes: str = "rgb"  # grey repeated, palette looked up, alpha dropped, 16-bit grey rescaled, CMYK converted

    # On disk this is the spec's own field (docs/format.md); here it goes wherever images are read.
    # "pillow" is bit-equal to Pillow and torchvision; "pillow-fast" is near it, see `_window`; with "nvjpeg" the device
    # of the trunk decodes and resizes JPEG files, and all others are as with "pillow".
    decoder: Decoder = "pillow"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what `decode` gives: (3, crop, crop), or a row of `jpeg` where the trunk's device decodes."""
        return (jpeg.row_bytes(self.crop),) if self.decoder == "nvjpeg" else (3, self.crop, self.crop)

    def key(self) -> str:
        """A short name for all of it: what a file came to under this transform is remembered with it."""
        fields = asdict(self)
        if self.decoder == "pillow":  # what was remembered before there were others
            del fields["decoder"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class BadImageError(ValueError):
    """This file gives no picture; the message is the reason, without the path."""


def decode(data: bytes, transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Decode, resize and crop one image: (3, crop, crop) uint8, RGB; with "nvjpeg" a row of `jpeg`.

    Raises:
        BadImageError: the bytes are no complete picture of a supported kind, or it is too large.
    """
    upright = transform.exif == "apply"
    if transform.decoder == "pillow-fast":
        image, full = _open(data, upright=upright, at_least=transform.resize)
        return _window(_rgb(image), full, transform)
    if transform.decoder == "nvjpeg":
        size = jpeg.size_of(data, upright=upright, most=transform.shape[0] - jpeg.HEADER)
        if size is not None and size[0] * size[1] <= MAX_PIXELS and min(resized(size, transform)) >= transform.crop:
            return jpeg.row_of_file(data, size, transform.crop)
    return _row(_fit(_rgb(_open(data, upright=upright)[0]), transform), transform)


def fit(pixels: npt.NDArray[np.uint8], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """Resize and crop what is decoded already, (height, width, 3) uint8, RGB: as `decode` does with these pixels.

    Raises:
        BadImageError: it would be too large once resized.
    """
    image = Image.fromarray(pixels)
    if transform.decoder == "pillow-fast":
        return _window(image, image.size, transform)
    return _row(_fit(image, transform), transform)


def _row(pixels: npt.NDArray[np.uint8], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    return jpeg.row_of_pixels(pixels, transform.crop) if transform.decoder == "nvjpeg" else pixels


def resized(size: tuple[int, int], transform: ImageTransform) -> tuple[int, int]:
    """(width, height) of an image of this (width, height) once its shorter edge is `resize` pixels long.

    Raises:
        BadImageError: it would be too large.
    """
    width, height = size
    short, long = min(width, height), max(width, height)
    scaled = int(transform.resize * long / short)  # torchvision's _compute_resized_output_size
    found = (transform.resize, scaled) if width <= height else (scaled, transform.resize)
    if found[0] * found[1] > MAX_PIXELS:
        megapixels = found[0] * found[1] / 1e6
        raise BadImageError(f"{width}x{height} pixels: resized it would have {megapixels:.0f} megapixels")
    return found


def _window(image: Image.Image, full: tuple[int, int], transform: ImageTransform) -> npt.NDArray[np.uint8]:
    """What `_fit` gives, but only the pixels of the crop are resized, from an image that may be decoded smaller.

    `full` is the size of the whole picture, in which the crop's place is reckoned.
    """
    size = resized(full, transform)
    left, top = (round((edge - transform.crop) / 2.0) for edge in size)
    if left < 0 or top < 0:  # a crop that is larger than the resized image is padded
        return _fit(image, transform)
    across, down = image.size[0] / size[0], image.size[1] / size[1]
    box = (left * across, top * down, (left + transform.crop) * across, (top + transform.crop) * down)
    method = Image.Resampling[transform.interpolation.upper()]
    image = image.resize((transform.crop, transform.crop), method, box=box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _fit(image: Image.Image, transform: ImageTransform) -> npt.NDArray[np.uint8]:
    size = resized(image.size, transform)
    if size != image.size:
        image = image.resize(size, Image.Resampling[transform.interpolation.upper()])
    left, top = (round((edge - transform.crop) / 2.0) for edge in size)  # torchvision's center_crop
    image = image.crop((left, top, left + transform.crop, top + transform.crop))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def thumbnail(data: bytes, edge: int) -> bytes:
    """The whole image as a person sees it, upright, its longer edge at most `edge` pixels, as a small WebP.

    Raises:
        BadImageError: as `decode`.
    """
    return _shrunk(_rgb(_open(data, upright=True, at_least=2 * edge)[0]), edge)


def thumbnail_effort(file: BinaryIO) -> int:
    """What a thumbnail of this file takes, in pixels that are decoded in full; its header is read, and no more.

    A JPEG's are counted at an eighth: decoded at a fraction of its size it takes 1 to 4 ns a pixel, a PNG 20 to 26.

    Raises:
        BadImageError: it has no header of a supported kind.
    """
    try:
        return _effort(file)
    except BadImageError:
        file.seek(0)
        lean = _lean(file.read(), upright=True)
        if lean is None:
            raise
    return _effort(io.BytesIO(lean))


def _effort(file: BinaryIO) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size; `thumbnail` refuses what is too large
            with Image.open(file, formats=FORMATS) as image:
                return image.width * image.height // (8 if image.format == "JPEG" else 1)
    except Exception as error:  # as in `_load`
        raise BadImageError(_reason(error)) from None


def thumbnail_of(pixels: npt.NDArray[np.uint8], edge: int) -> bytes:
    """The same of a decoded picture, (height, width, 3) uint8, RGB: a frame of a video."""
    return _shrunk(Image.fromarray(pixels), edge)


def _shrunk(image: Image.Image, edge: int) -> bytes:
    image.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=50, method=2)
    return file.getvalue()


def may_be_image(head: bytes) -> bool:
    """Whether `decode` may give a picture of a file with these first bytes, 16 or more.

    Where it may not, these bytes alone make it say what it says of the whole file.
    """
    Image.init()
    accept = [Image.OPEN[name][1] for name in FORMATS]
    return bool(kind_of(head)) or any(by_start is None or by_start(head[:16]) for by_start in accept)


def _open(data: bytes, *, upright: bool, at_least: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """The first frame, fully decoded, and the size that the whole picture has.

    `upright`: turned as its orientation tag says. `at_least`: a JPEG may be decoded at a half, a quarter or an eighth,
    which libjpeg-turbo does in the frequency domain, as long as its shorter edge keeps so many pixels.
    """
    if not data:
        raise BadImageError("the file is empty")
    try:
        return _load(data, upright=upright, at_least=at_least)
    except BadImageError:
        lean = _lean(data, upright=upright)  # Pillow gives up on a sound picture whose metadata it refuses
        if lean is None:
            raise
    return _load(lean, upright=upright, at_least=at_least)


def _lean(data: bytes, *, upright: bool) -> bytes | None:
    """The same file without its metadata; None where there is nothing to take out."""
    try:
        return without_metadata(data, upright=upright)
    except ValueError as error:
        raise BadImageError(f"damaged or cut off: {error}") from None


def _load(data: bytes, *, upright: bool, at_least: int) -> tuple[Image.Image, tuple[int, int]]:
    """What `_open` gives of a file as Pillow reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow only warns of (odd metadata) does not touch the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = image.size
            if at_least and image.format == "JPEG":
                image.draft(image.mode, (at_least, at_least))
            image.load()
            if image.format == "PPM" and image.mode == "I":  # Pillow has brought its 10 or 16 bits to 0 … 65535
                image = Image.fromarray(np.asarray(image).astype(np.uint16))
            if upright and (turn := _turn(image)) is not None:
                turned = image.transpose(turn)
                # A half turn and a mirror keep the sides; what swaps them shows in the sides, but for a square's.
                size = size if turned.size == image.size else size[::-1]
                image = turned
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImageError(f"more than {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except UnidentifiedImageError:
        if kind := kind_of(data):
            raise BadImageError(f"a {kind} that Pillow cannot read: damaged at its start, or of a rare kind") from None
        raise BadImageError(f"no image of a known kind ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise BadImageError("there is too little memory to decode it") from None
    except Exception as error:  # a plugin raises whatever the bytes make it raise; a bad image is a row, not a crash
        raise BadImageError(_reason(error)) from None
    return image, size


def _reason(error: Exception) -> str:
    """What is wrong with a file that is an image by its start: damage is not said of what is merely not supported."""
    text = str(error)
    if "MAX_TEXT_" in text:  # Pillow's limits; `without_metadata` has kept what may hold an orientation
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


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright, as ImageOps.exif_transpose does it; None for nothing, or an unreadable tag."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip every value above 255
        sixteen = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.rint(sixteen / 257).astype(np.uint8))
    if image.mode not in _MODES:
        raise BadImageError(f"pixels of mode {image.mode} have no defined range; save the image with 8 or 16 bits")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # "Palette images with Transparency …": alpha is dropped, and that is documented
        return image.convert("RGB")


def preview(data: bytes, edge: int) -> npt.NDArray[np.uint8]:
    """The whole image as a person sees it, upright, its longer edge at most `edge` pixels: (height, width, 3) uint8.

    Raises:
        BadImageError: as `decode`.
    """
    image = _rgb(_open(data, upright=True, at_least=2 * edge)[0])
    image.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A grey image, (height, width) uint8, as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
