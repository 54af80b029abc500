"""PNG and JPEG files without what does not make their pixels. Nothing here decodes.

A colour profile that inflates to two megabytes, or an APP segment that ends too early, is no damage of a picture, but
Pillow gives up on the file. What is taken out here are whole chunks or segments that no decoder needs for the pixels
that featcache keeps; bytes of the others are not touched.
"""

import struct
import zlib

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_ORIENTED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # texts of a PNG that may hold an orientation
_APP0, _APP1, _APP14, _APP15, _COMMENT, _SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xDA
# Bytes from which libjpeg reads a JFIF or an Adobe segment: they say what the colours are.
_LEAST = {_APP0: 14, _APP14: 12}


def detect_kind(data: bytes) -> str:
    """Return "PNG" or "JPEG", by the first bytes; "" for all others."""
    return "PNG" if data.startswith(_PNG) else "JPEG" if data.startswith(_JPEG) else ""


def strip_metadata(data: bytes, *, upright: bool) -> bytes | None:
    """Return a PNG or JPEG file without its metadata; None where it holds none, or is of another kind or cut off there.

    What says how pixels become colours is kept.

    Args:
        data: The bytes of the whole file.
        upright: Keep what may say how the picture is turned, too.

    Raises:
        ValueError: the metadata does not match its checksum: what was flipped there may be flipped elsewhere.
    """
    kind = detect_kind(data)
    lean = _strip_png(data, upright) if kind == "PNG" else _strip_jpeg(data, upright) if kind == "JPEG" else None
    return lean if lean is not None and len(lean) < len(data) else None


def _strip_png(data: bytes, upright: bool) -> bytes | None:
    kept = [data[:8]]
    at = 8  # the next chunk
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        oriented = name == b"eXIf" or data[at + 8 : at + 40].startswith(_ORIENTED)
        if name[0] & 0x20 and not (upright and oriented):  # an ancillary chunk: transparency and animation, too
            if end > len(data):
                return None
            if struct.pack(">I", zlib.crc32(data[at + 4 : end - 4])) != data[end - 4 : end]:
                raise ValueError(f"the checksum of its chunk {name.decode('ascii', 'replace')} is wrong")
        else:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _strip_jpeg(data: bytes, upright: bool) -> bytes | None:
    kept = [data[:2]]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a marker may be filled up
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            return None
        if _APP0 <= marker <= _APP15 or marker == _COMMENT:
            is_needed = length - 2 >= _LEAST[marker] if marker in _LEAST else upright and marker == _APP1
        else:
            is_needed = True
        if is_needed:
            kept.append(data[at:end])
        at = end
        if marker == _SCAN:
            return b"".join([*kept, data[at:]])
    return None
