"""JSON that knows whether it is whole: lines of a log, and single documents, each with its own checksum."""

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one a line, a third of a line's time
_MARK = b',"sum":"'
_TAIL = 16 + len(b'"}')
MAX_DEPTH = 64  # brackets inside one another; a document of ours has six


def seal_line(value: dict[str, Any]) -> bytes:
    """Return a line of JSON, newline included; its last key `sum` is the start of the sha256 of the bytes before it.

    Args:
        value: What the line says, as JSON has it; its keys stay in this order, and none is called `sum`.
    """
    body = _ENCODER.encode(value).encode()[:-1]
    return body + _MARK + _checksum(body).encode() + b'"}\n'


def is_intact(line: bytes) -> bool:
    """Whether a line (without its newline) is as `seal_line` left it."""
    mark = line[-_TAIL - len(_MARK) : -_TAIL]
    return mark == _MARK and line[-2:] == b'"}' and _checksum(line[: -_TAIL - len(_MARK)]).encode() == line[-_TAIL:-2]


def unseal_line(line: bytes) -> dict[str, Any] | None:
    """Return what `seal_line` was given; None where the line is torn or damaged.

    Args:
        line: A line of a log, without its newline.
    """
    if not is_intact(line):
        return None
    try:
        value = parse_json(line[: -_TAIL - len(_MARK)] + b"}")
    except ValueError:  # sealed, but not by seal_line
        return None
    return value if isinstance(value, dict) else None


def seal_document(value: dict[str, Any]) -> bytes:
    """Return an indented JSON document; `sum` is the start of the sha256 of its canonical form without `sum`.

    Args:
        value: What the document says, as JSON has it.
    """
    return json.dumps({**value, "sum": _checksum(_canonical(value))}, indent=2).encode() + b"\n"


def unseal_document(data: bytes) -> dict[str, Any] | None:
    """Return what `seal_document` was given; None where the document is damaged."""
    try:
        value = parse_json(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.pop("sum", None) != _checksum(_canonical(value)):
        return None
    return value


def parse_json(data: bytes) -> Any:
    """Return the value that a JSON text stands for.

    Args:
        data: The text, UTF-8 without a byte order mark.

    Raises:
        ValueError: no JSON, no UTF-8, or more than `MAX_DEPTH` brackets inside one another: what comes after the
            parser walks a value by recursion.
    """
    try:
        value = json.loads(data.decode())  # of bytes, json would take UTF-16 and a byte order mark too
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError("it nests too deeply")
    return value


def _depth(value: Any) -> int:
    """Return how many lists and objects of a value stand inside one another; without recursion."""
    depth, layer = 0, [value]
    while layer := [container for container in layer if isinstance(container, dict | list)]:
        depth += 1
        layer = [inner for outer in layer for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _canonical(value: dict[str, Any]) -> bytes:
    """Return the form of a document that its checksum is over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _checksum(body: bytes) -> str:
    """Return the first 16 hex digits of a sha256."""
    return hashlib.sha256(body).hexdigest()[:16]
