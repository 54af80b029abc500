"""JPEG files that a GPU decodes: which of them, and how they travel to it. Nothing here decodes.

With the decoder "nvjpeg" an image on its way to the trunk is a row of a fixed length, so that it goes through the same
memory as pixels do:

    8 bytes     the length of a JPEG file, little-endian; 0: pixels follow
    the rest    the file, or (3, crop, crop) uint8; what stands behind it has no meaning
"""

import struct

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.uint8]  # (row_bytes(crop),)

HEADER = 8  # bytes
ROOM = 4  # a file may take so many times the bytes of the pixels that it becomes; a larger one is decoded by the CPU

_START, _SCAN, _EXIF, _ADOBE = 0xD8, 0xDA, 0xE1, 0xEE
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_CHROMA = {0x11, 0x12, 0x21, 0x22, 0x41}  # sampling of Y, that of Cb and Cr being 1x1
_RGB = b"RGB"  # component numbers by which libjpeg knows what is not YCbCr


def row_bytes(crop: int) -> int:
    """How long a row is."""
    return HEADER + ROOM * 3 * crop * crop


def size_of(data: bytes, *, upright: bool, most: int) -> tuple[int, int] | None:
    """(width, height) of a file that the GPU is to decode; None of all others.

    It is for the GPU where nvJPEG gives what libjpeg-turbo gives, but for rounding: complete, Huffman-coded, 8 bits,
    grey or YCbCr of a usual sampling, of at most `most` bytes. `upright`: and without metadata that may turn it.
    """
    if len(data) > most or not data.startswith(b"\xff\xd8\xff"):
        return None
    found: tuple[int, int] | None = None
    at = 2
    try:
        while True:
            if data[at] != 0xFF:
                return None
            marker = data[at + 1]
            if marker == 0xFF:  # a marker may be filled up
                at += 1
                continue
            at += 2
            if marker in _ALONE:
                continue
            (length,) = struct.unpack_from(">H", data, at)
            part = data[at + 2 : at + length]
            if length < 2 or marker == _START or (upright and marker == _EXIF) or _is_rgb(marker, part):
                return None
            if marker in _FRAMES and (found or marker not in _HUFFMAN or (found := _frame(part)) is None):
                return None
            at += length
            if marker == _SCAN:
                # The end mark cannot stand inside coded data; a file that was cut off lacks it.
                return found if data.find(b"\xff\xd9", at) >= 0 else None
    except (IndexError, struct.error):
        return None


def _is_rgb(marker: int, part: bytes) -> bool:
    return marker == _ADOBE and part[:5] == b"Adobe" and part[11:12] == b"\x00"


def _frame(part: bytes) -> tuple[int, int] | None:
    """The size that a frame's header states, where its coding is a usual one."""
    bits, height, width, count = struct.unpack_from(">BHHB", part)
    parts = [struct.unpack_from(">BBx", part, 6 + 3 * number) for number in range(count)]
    if bits != 8 or not height or not width or count not in (1, 3):
        return None
    if count == 3:
        sampling = [of_one for _, of_one in parts]
        if bytes(name for name, _ in parts) == _RGB or sampling[0] not in _CHROMA or sampling[1:] != [0x11, 0x11]:
            return None
    return width, height


def row_of(content: bytes | npt.NDArray[np.uint8], crop: int) -> Row:
    """A file, or (3, crop, crop) pixels, as a row."""
    row = np.empty(row_bytes(crop), dtype=np.uint8)
    flat = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content.reshape(-1)
    length = len(flat) if isinstance(content, bytes) else 0
    row[:HEADER] = np.frombuffer(length.to_bytes(HEADER, "little"), np.uint8)
    row[HEADER : HEADER + len(flat)] = flat
    return row


def put(image: npt.NDArray[np.uint8], place: npt.NDArray[np.uint8]) -> None:
    """Copy an image into memory for one, both flat or both not; of a row, what means something."""
    if place.ndim == 1:
        length = int.from_bytes(image[:HEADER].tobytes(), "little")
        size = HEADER + (length or (len(place) - HEADER) // ROOM)
        image, place = image[:size], place[:size]
    place[...] = image
