"""What a .skops file describes, read without building any of it and in bounded memory.

A .skops file is a zip archive: `schema.json`, a tree of nodes, and one `.npy` member an array. skops trusts both: it
unpacks what is declared, and scikit-learn's C code then follows what was unpacked. So a file is first read here, as
plain values, arrays that are views of its bytes, and `DescribedObject` where an object would be built; only what passes
(`rules`) is given to skops. Nodes are read in skops's own order, because of two nodes of one id it keeps the first.

Memory beyond the file's own bytes: at most 64 MiB of schema text, some 200 bytes for each of 2^21 JSON values, and
1 KiB for each of 2^17 members: below 700 MiB, whatever the file says.
"""

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_MEMBERS = 1 << 17
MOST_SCHEMA = 1 << 26  # bytes
MOST_VALUES = 1 << 21  # values, keys and brackets of the schema
_DEEPEST = 48  # nodes inside each other
_LONGEST_TEXT = 4096  # bytes of a plain value
_MEMBER = re.compile(r"[A-Za-z0-9-]{1,64}\.(json|npy)")
_LOCAL = struct.Struct("<4s5H3I2H")  # a member's own header (PKWARE APPNOTE 4.3.7)
_PLAIN_TYPES = (type(None), bool, int, float, str, np.generic)
_SHARED = ("numpy.random.mtrand.RandomState", "numpy.random._generator.Generator")
_KEYS = {"builtins.str": str, "builtins.int": int, "numpy.int64": int, "numpy.int32": int}


class DescriptionError(ValueError):
    """A file that is none of ours, or one that declares more than it holds; the message says in what."""


@dataclass(frozen=True, slots=True, eq=False)
class DescribedObject:
    """An object as a file describes it: plain data, of which nothing was built."""

    type: str  # "sklearn.svm._classes.SVC"
    attributes: Mapping[str, Any]
    arguments: tuple[Any, ...] = ()  # of its constructor, where that is called


@dataclass(frozen=True, slots=True)
class _TypeName:
    name: str


def describe(data: bytes) -> Any:
    """Return what a .skops file describes: a `DescribedObject` for a fitted estimator.

    Raises:
        DescriptionError: it is no file as featcache has skops write it, or it declares more than it holds.
    """
    members = _members(data)
    schema = members.get("schema.json")
    if schema is None:
        raise DescriptionError("it holds no schema.json")
    if len(schema) > MOST_SCHEMA:
        raise DescriptionError(f"its schema has {len(schema):,} bytes, expected at most {MOST_SCHEMA:,}")
    text = bytes(schema)
    if sum(map(text.count, (b"{", b"[", b","))) > MOST_VALUES:
        raise DescriptionError(f"its schema has more than {MOST_VALUES:,} values")
    try:
        state = json.loads(text)
        if not isinstance(state, dict) or type(state.get("protocol")) is not int:
            raise DescriptionError("its schema names no protocol of skops")
        return _Reader(members, 2 * len(data)).node(state, 0)
    except (AttributeError, KeyError, TypeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DescriptionError(f"its schema is not one of skops: {type(error).__name__}: {error}") from None


def _members(data: bytes) -> dict[str, memoryview]:
    """Return every member of the archive by name, as views of `data`; each is stored as it is, once, and apart."""
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:  # no entry of the directory is without it
        raise DescriptionError(f"it has more than {MOST_MEMBERS:,} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries, end = sorted(archive.infolist(), key=lambda entry: entry.header_offset), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError, EOFError) as error:
        raise DescriptionError(f"it is not a zip archive: {error}") from None
    members: dict[str, memoryview] = {}
    whole, free = memoryview(data), 0  # everything before `free` belongs to a member
    for entry in entries:
        name, start = entry.filename, entry.header_offset
        if not _MEMBER.fullmatch(name) or name in members or name != entry.orig_filename:
            raise DescriptionError(f"its member {name[:80]!r} is named twice, or as no member of such a file")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits or entry.compress_size != entry.file_size:
            raise DescriptionError(f"its member {name!r} is compressed or encrypted, expected stored as it is")
        if not free <= start <= len(data) - _LOCAL.size:
            raise DescriptionError(f"its member {name!r} overlaps another one, or lies outside of the file")
        magic, _, flags, method, _, _, _, _, _, length, extra = _LOCAL.unpack_from(data, start)
        begin = start + _LOCAL.size + length + extra
        local = bytes(whole[start + _LOCAL.size : start + _LOCAL.size + length])
        if magic != b"PK\x03\x04" or flags or method != zipfile.ZIP_STORED or local != name.encode():
            raise DescriptionError(f"the header of its member {name!r} contradicts the archive's directory")
        free = begin + entry.file_size
        if free > end:
            raise DescriptionError(f"its member {name!r} declares {entry.file_size:,} bytes, more than the file has")
        members[name] = whole[begin:free]
    return members


def _read_array(name: str, content: memoryview) -> npt.NDArray[Any]:
    """Return the array of one `.npy` member, a view of it, whose header declares exactly the bytes that follow."""
    file = io.BytesIO(bytes(content[: 1 << 14]))
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DescriptionError(f"{name} is of version {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except DescriptionError:
        raise
    except Exception as error:  # numpy evaluates the header as a literal, which can fail in many ways
        raise DescriptionError(f"{name} has no header of an array: {type(error).__name__}") from None
    size = dtype.itemsize * math.prod(shape)
    if dtype.hasobject or dtype.itemsize == 0 or len(shape) > 4 or any(edge < 0 for edge in shape):
        raise DescriptionError(f"{name} is an array of {dtype} {shape}")
    if size != len(content) - file.tell():
        raise DescriptionError(f"{name} declares {dtype} {shape}, and holds {len(content) - file.tell():,} bytes")
    flat: npt.NDArray[Any] = np.frombuffer(content[file.tell() :], dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


class _Reader:
    """Reads the nodes of a schema; `budget` is how many bytes of arrays all references together may stand for."""

    def __init__(self, members: Mapping[str, memoryview], budget: int) -> None:
        self._members = members
        self._budget = budget
        self._read_before: dict[int, Any] = {}
        self._open: set[int] = set()

    def node(self, state: Mapping[str, Any], depth: int) -> Any:
        """Return what a node describes; of two nodes of one id, what the first does."""
        number = state.get("__id__")
        if number is not None and type(number) is not int:
            raise DescriptionError(f"an object's id is {str(number)[:40]!r}")
        if number in self._open or depth > _DEEPEST:
            raise DescriptionError("an object in it holds itself, or objects nest without end")
        if number in self._read_before:
            return self._reuse(self._read_before[number])
        if number:
            self._open.add(number)
        value = self._read(state, depth + 1)
        if number:
            self._open.discard(number)
            self._read_before[number] = value
        return value

    def _reuse(self, value: Any) -> Any:
        """Return a value that stands in a second place: an array, a plain value, an unfitted estimator.

        Anything else there is refused: few bytes could stand for much work.
        """
        parts = (
            value.attributes.values() if isinstance(value, DescribedObject) and value.type not in _SHARED else [value]
        )
        for part in parts:
            items = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else [part]
            for item in items:
                if isinstance(item, np.ndarray) and item.dtype != object:
                    self._spend(item.nbytes)
                elif isinstance(item, (*_PLAIN_TYPES, _TypeName)) or (
                    isinstance(item, DescribedObject) and item.type in _SHARED
                ):
                    self._spend(8)
                else:
                    raise DescriptionError("an object or a list in it stands in two places")
        return value

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise DescriptionError("its arrays are used more often than such a file does")

    def _read(self, state: Mapping[str, Any], depth: int) -> Any:
        loader, name = state["__loader__"], f"{state['__module__']}.{state['__class__']}"
        match loader, name:
            case "JsonNode", _:
                return _plain(state["content"])
            case "TypeNode", _:
                return _TypeName(name)
            case "ListNode", "builtins.list":
                return [self.node(item, depth) for item in state["content"]]
            case "TupleNode", "builtins.tuple":
                return tuple(self.node(item, depth) for item in state["content"])
            case "DictNode", "builtins.dict":
                return self._dict(state, depth)
            case "NdArrayNode", _:
                return self._array(state, name, depth)
            case "ObjectNode", _:
                content = state.get("content")
                return _instance(name, {} if content is None else self.node(content, depth))
            case ("TreeNode", "sklearn.tree._tree.Tree") | ("LossNode", _):
                attributes = self.node(state["content"], depth)
                arguments = self.node(state["__reduce__"]["args"], depth)
                if not isinstance(arguments, tuple):
                    raise DescriptionError(f"the arguments of {name} are not a tuple")
                return _instance(name, attributes, arguments)
            case "RandomStateNode", "numpy.random.mtrand.RandomState":
                return _instance(name, self.node(state["content"], depth))
            case "RandomGeneratorNode", "numpy.random._generator.Generator":
                content = state["content"]
                parts = {key: self.node(content[key], depth) for key in ("bit_generator", "seed_seq") if key in content}
                return _instance(name, parts)
        raise DescriptionError(f"it holds a {str(loader)[:40]} of {name[:120]}, which cannot be checked")

    def _dict(self, state: Mapping[str, Any], depth: int) -> dict[Any, Any]:
        types = self.node(state["key_types"], depth)
        values = {key: self.node(value, depth) for key, value in state["content"].items()}
        makers = [_KEYS.get(type_.name) if isinstance(type_, _TypeName) else None for type_ in types]
        if None in makers or len(makers) != len(values) or any(len(key) > _LONGEST_TEXT for key in values):
            raise DescriptionError("the keys of a table in it are neither names nor whole numbers")
        return {make(key): value for make, (key, value) in zip(makers, values.items(), strict=True) if make}

    def _array(self, state: Mapping[str, Any], name: str, depth: int) -> Any:
        if state["type"] == "json":
            items = [self.node(item, depth) for item in state["content"]]
            shape = self.node(state["shape"], depth)
            return _objects(items, shape)
        file = state["file"]
        if file not in self._members:
            raise DescriptionError(f"it holds no member {str(file)[:80]!r}")
        array = _read_array(file, self._members[file])
        self._spend(array.nbytes)
        if name == "numpy.ndarray":
            return array
        if array.ndim or name != f"numpy.{array.dtype.type.__name__}":
            raise DescriptionError(f"a single {name} in it is {array.dtype} {array.shape}")
        return array[()]


def _plain(text: Any) -> Any:
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT or text[:1] in "[{ \t\r\n":
        raise DescriptionError("a plain value in it is none, or longer than any is")
    try:
        return json.loads(text)
    except ValueError:
        raise DescriptionError(f"a plain value in it is {text[:40]!r}") from None


def _instance(name: str, attributes: Any, arguments: tuple[Any, ...] = ()) -> DescribedObject:
    if attributes == () or attributes is None:
        attributes = {}
    if not isinstance(attributes, dict) or not all(isinstance(key, str) for key in attributes):
        raise DescriptionError(f"the attributes of {name} have no names")
    return DescribedObject(name, attributes, arguments)


def _objects(items: list[Any], shape: Any) -> npt.NDArray[np.object_]:
    """Return an array of objects, of one dimension or two."""
    rows = items if isinstance(shape, tuple) and len(shape) == 2 else [items]
    edges = (len(rows), *{len(row) if isinstance(row, list) else -1 for row in rows})
    if len(edges) != 2 or (shape != edges if rows is items else shape != edges[1:]):
        raise DescriptionError(f"an array of objects in it is no {str(shape)[:40]}")
    array = np.empty(edges, dtype=object)
    for place, row in enumerate(rows):
        for column, item in enumerate(row):
            array[place, column] = item
    return array if rows is items else array[0]
