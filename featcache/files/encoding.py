"""Bytes that people write as text: recipes and tables, with the byte order marks that editors put in front."""

import codecs

from featcache.errors import UsageError

_MARKS = {  # UTF-32's before UTF-16's, which begins in the same way
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def marked_encoding(data: bytes) -> str:
    """Return the encoding that a byte order mark at the start tells, "UTF-16" or "UTF-32"; "" for UTF-8's or none.

    Args:
        data: The bytes of a file, or no fewer than its first four.
    """
    return next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), "")


def suggest_utf8(encoding: str = "") -> str:
    """Return what a person can do about a file in this encoding, as the end of a sentence.

    Args:
        encoding: As `marked_encoding` returns it; "" where the file has no mark and is not UTF-8 either.
    """
    guess = "" if encoding else " (or the encoding that it has instead of latin1)"
    return f"save it in UTF-8, for example with `iconv -f {(encoding or 'latin1').lower()} -t utf-8`{guess}"


def decode_utf8(data: bytes) -> str:
    """Return the text without a byte order mark, each line ended by a newline.

    Args:
        data: All bytes of a file that a person wrote, such as a recipe.

    Raises:
        UsageError: it is not UTF-8; the message names the line, or the encoding where a mark tells it.
    """
    if encoding := marked_encoding(data):
        raise UsageError(f"it is in {encoding}; {suggest_utf8(encoding)}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"line {line} is not UTF-8; {suggest_utf8()}") from None
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
