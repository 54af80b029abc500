"""Which column of a table holds images, and which their labels: by Hugging Face's notes on it, its type, or its name.

pyarrow is an optional extra: what is needed of it is passed in, and nothing here imports it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featcache.containers.container import ContainerError
from featcache.errors import UsageError

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes", "content")
_LABEL_NAMES = ("label", "labels", "class", "cls", "class_name", "label_name", "category", "species", "target")
_NOTES = b"huggingface"  # where `datasets` writes which columns are images and what labels are called


def require_arrow(path: str) -> None:
    """Refuse a Parquet or Arrow file where pyarrow is not installed.

    Args:
        path: Of the file.

    Raises:
        UsageError: it is not.
    """
    try:
        import pyarrow  # noqa: F401 (a broken one shows here too)
    except ImportError:
        raise UsageError(
            f"{path}: Parquet and Arrow files are read by pyarrow, which is not installed: "
            f"pip install 'featcache[parquet]'"
        ) from None


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """The column that holds images."""

    name: str
    part: str  # of a struct, the field with the bytes; "" where the column is binary itself

    @property
    def leaf(self) -> str:
        """What Parquet calls the column of the bytes."""
        return f"{self.name}.{self.part}" if self.part else self.name


def find_image_column(schema: Any, name: str | None = None) -> ImageColumn:
    """Return the column that holds image bytes.

    Args:
        schema: Of the table, as pyarrow has it.
        name: The column that is meant; None: the only one, or the one that is called like it.

    Raises:
        ContainerError: there is none, or there are several.
    """
    parts = {field.name: part for field in schema if (part := _bytes_part(field.type)) is not None}
    if name is not None:
        if name not in parts:
            raise ContainerError(f"no column {name!r} of image bytes; its columns are {_listed(schema.names)}")
        return _as_image_column(schema, name, parts[name])
    noted = [column for column, note in read_notes(schema).items() if note.get("_type") == "Image" and column in parts]
    structs = [column for column, part in parts.items() if part]
    for columns in (noted, structs, [column for column in _IMAGE_NAMES if column in parts][:1], list(parts)):
        if len(columns) == 1:
            return _as_image_column(schema, columns[0], parts[columns[0]])
        if columns:
            break
    if not parts:
        raise ContainerError(
            f"no column of image bytes (binary, or a struct with the field 'bytes'); its columns are "
            f"{_listed(schema.names)}"
        )
    named = _listed(noted or structs or list(parts))
    raise ContainerError(f"several columns may hold the images: {named}; name one in featcache.toml, as image_column")


def _as_image_column(schema: Any, name: str, part: str) -> ImageColumn:
    refuse_twins(schema, name)
    return ImageColumn(name, part)


def refuse_twins(schema: Any, name: str) -> None:
    """Refuse a column that another one shares its name with: which one is meant cannot be told.

    Args:
        schema: Of the table, as pyarrow has it.
        name: The column.

    Raises:
        ContainerError: there are two.
    """
    if (count := schema.names.count(name)) > 1:
        raise ContainerError(f"{count} columns are called {name!r}, expected one; rename the others")


def has_images(schema: Any) -> bool:
    """Return whether a table has a column of images by its notes, its type or its name; any binary column is not one.

    Args:
        schema: Of the table, as pyarrow has it.
    """
    parts = {field.name: part for field in schema if (part := _bytes_part(field.type)) is not None}
    notes = read_notes(schema)
    return any(part or column in _IMAGE_NAMES or "_type" in notes.get(column, {}) for column, part in parts.items())


def find_label_column(schema: Any, name: str | None = None) -> str:
    """Return the column of labels.

    Args:
        schema: Of the table, as pyarrow has it.
        name: The column that is meant; None: the one that Hugging Face's notes say, or that is called like one.

    Raises:
        ContainerError: there is none, or there are several.
    """
    if name is not None:
        if name not in schema.names:
            raise ContainerError(f"no column {name!r}; its columns are {_listed(schema.names)}")
        refuse_twins(schema, name)
        return name
    noted = [column for column, note in read_notes(schema).items() if "names" in note and column in schema.names]
    usual = [column for column in _LABEL_NAMES if column in (noted or schema.names)]
    if usual or len(noted) == 1:
        refuse_twins(schema, usual[0] if usual else noted[0])
        return usual[0] if usual else noted[0]
    which = f"several hold classes: {_listed(noted)}" if noted else f"its columns are {_listed(schema.names)}"
    raise ContainerError(f"no column is called like labels ({which}); name it in featcache.toml, as label_column")


def read_notes(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return what Hugging Face's `datasets` has noted of each column of a table; nothing where it has not written it.

    Args:
        schema: Of the table, as pyarrow has it.
    """
    try:
        notes = json.loads((schema.metadata or {}).get(_NOTES, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    notes = notes if isinstance(notes, dict) else {}
    return {column: note for column, note in notes.items() if isinstance(note, dict)}


def class_names(schema: Any, column: str) -> Sequence[str]:
    """Return what the numbers of a column of labels mean, from 0; none where that is not noted.

    Args:
        schema: Of the table, as pyarrow has it.
        column: The column of labels.
    """
    names = read_notes(schema).get(column, {}).get("names", ())
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _bytes_part(kind: Any) -> str | None:
    """Return "" for a binary column, the name of the field for a struct with bytes, None for any other."""
    import pyarrow as pa

    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    has_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return "bytes" if has_bytes and _bytes_part(kind.field("bytes").type) == "" else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
