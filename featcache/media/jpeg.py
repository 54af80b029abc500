"""JPEG files that a GPU decodes: which of them, and how they travel to it. Nothing here decodes.

With the decoder "nvjpeg" an image on its way to the trunk is a row of a fixed length, so that it goes through the same
memory as pixels do:

    2 x 8 bytes   the length of a JPEG file and how many pixels it has, little-endian; 0: pixels follow
    the rest      the file, or (3, crop, crop) uint8; what stands behind it has no meaning
"""

import struct

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.uint8]  # (row_bytes(crop),)

HEADER = 16  # bytes
ROOM = 4  # a file may take so many times the bytes of the pixels that it becomes; a larger one is decoded by the CPU

_SCAN, _EXIF, _ADOBE = 0xDA, 0xE1, 0xEE
_MISPLACED = {0x00, 0xD8, 0xD9}  # no marker, a second start, an end before there is a picture
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN, _PROGRESSIVE = {0xC0, 0xC1, 0xC2}, 0xC2  # baseline, extended, progressive
_CHROMA = {0x11, 0x12, 0x21, 0x22, 0x41}  # sampling of Y, that of Cb and Cr being 1x1
_RGB = b"RGB"  # component numbers by which libjpeg knows what is not YCbCr


def row_bytes(crop: int) -> int:
    """Return the length of a row, bytes, for images of `crop` x `crop` pixels."""
    return HEADER + ROOM * 3 * crop * crop


def read_size(data: bytes, *, upright: bool, max_bytes: int) -> tuple[int, int] | None:
    """Return (width, height), pixels, of a file that the GPU is to decode; None of all others.

    It is for the GPU where nvJPEG decodes it as what it is: complete, Huffman-coded, 8 bits, grey or YCbCr of a usual
    sampling, in one scan or progressive.

    Args:
        data: The bytes of the whole file.
        upright: Leave a file with metadata that may turn it to the CPU.
        max_bytes: Leave a larger file to the CPU.
    """
    if len(data) > max_bytes or not data.startswith(b"\xff\xd8\xff"):
        return None
    size: tuple[int, int] | None = None
    components = 0
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
            segment = data[at + 2 : at + length]
            if length < 2 or marker in _MISPLACED or (upright and marker == _EXIF) or _is_rgb(marker, segment):
                return None
            if marker in _FRAMES:
                if size or marker not in _HUFFMAN or (size := _read_frame_header(segment)) is None:
                    return None
                components = 0 if marker == _PROGRESSIVE else segment[5]
            at += length
            if marker == _SCAN:
                if components and segment[:1] != bytes([components]):  # a scan for each component
                    return None
                # The end mark cannot stand inside coded data; a file that was cut off lacks it.
                return size if data.find(b"\xff\xd9", at) >= 0 else None
    except (IndexError, struct.error):
        return None


def _is_rgb(marker: int, segment: bytes) -> bool:
    return marker == _ADOBE and segment[:5] == b"Adobe" and segment[11:12] == b"\x00"


def _read_frame_header(segment: bytes) -> tuple[int, int] | None:
    """Return the (width, height) that a frame's header states; None where its coding is an unusual one."""
    bits, height, width, count = struct.unpack_from(">BHHB", segment)
    components = [struct.unpack_from(">BBx", segment, 6 + 3 * number) for number in range(count)]
    sampling = [factors for _, factors in components]
    if bits != 8 or not height or not width or len(segment) != 6 + 3 * count:
        return None
    grey = sampling == [0x11]
    colour = count == 3 and sampling[0] in _CHROMA and sampling[1:] == [0x11, 0x11]
    named_rgb = bytes(name for name, _ in components) == _RGB
    return (width, height) if grey or (colour and not named_rgb) else None


def pack_file(data: bytes, size: tuple[int, int], crop: int) -> Row:
    """Return a file whose picture has this (width, height), as a row."""
    return _pack(np.frombuffer(data, np.uint8), crop, len(data), size[0] * size[1])


def pack_pixels(pixels: npt.NDArray[np.uint8], crop: int) -> Row:
    """Return (3, crop, crop) pixels as a row."""
    return _pack(pixels.reshape(-1), crop, 0, 0)


def _pack(content: npt.NDArray[np.uint8], crop: int, length: int, pixels: int) -> Row:
    row = np.empty(row_bytes(crop), dtype=np.uint8)
    row[:HEADER] = np.frombuffer(struct.pack("<qq", length, pixels), np.uint8)
    row[HEADER : HEADER + len(content)] = content
    return row


def copy_image(image: npt.NDArray[np.uint8], slot: npt.NDArray[np.uint8]) -> None:
    """Copy an image into the memory for one; of a row, only the bytes that mean something.

    Args:
        image: What `decode_image` returns: (3, crop, crop) uint8, or a row.
        slot: Memory of the same shape.
    """
    if slot.ndim == 1:
        length = int.from_bytes(image[:8].tobytes(), "little")
        size = HEADER + (length or (len(slot) - HEADER) // ROOM)
        image, slot = image[:size], slot[:size]
    slot[...] = image
