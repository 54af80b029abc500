"""The images of a Parquet or Arrow file and their labels, as columns beside them."""

from collections.abc import Sequence
from typing import Any

from featcache.containers import (
    ContainerError,
    TableFile,
    class_names,
    find_image_column,
    find_label_column,
    refuse_twins,
    row_key,
)
from featcache.listing.container_rows import ROLES, ContainerRows
from featcache.listing.sheet import column_as_text

_UNKNOWN = "-1"  # what Hugging Face writes where a label is not known
_NAMED = 5  # rows in a message


def list_table(table: TableFile, label_column: str | None, image_column: str | None) -> ContainerRows:
    """Return the images of a table, in its order.

    Args:
        table: Open.
        label_column: That of the labels; None: the one that is called like it.
        image_column: That of the images; None: the one that holds images.

    Returns:
        The rows, with label and, where there are columns of these names, split, clip and subject.

    Raises:
        ContainerError: the table is damaged, or no column can be the images.
    """
    find_image_column(table.schema, image_column)
    keys = [row_key(row, image_column) for row in range(table.rows)]
    try:
        name = find_label_column(table.schema, label_column)
        labels, problems = _read_labels(table, name)
    except ContainerError as error:
        return ContainerRows(keys, {"label": ("",) * len(keys)}, problems=[str(error)])
    roles = [role for role in ROLES[1:] if role in table.schema.names and role != name]
    for role in roles:
        refuse_twins(table.schema, role)
    others = {role: column_as_text(table.read_column(role)) for role in roles}
    return ContainerRows(keys, {"label": labels, **others}, problems=problems)


def _read_labels(table: TableFile, name: str) -> tuple[Sequence[str], list[str]]:
    """Return the label of every row, and what is wrong with them: one that is missing, or a type that is none."""
    column = table.read_column(name)
    if not _may_be_labels(column.type):
        return ("",) * table.rows, [f"column {name!r} is of type {column.type}; expected text or whole numbers"]
    labels: Sequence[str] = column_as_text(column)
    names = class_names(table.schema, name)
    if names:
        meaning = {str(number): text for number, text in enumerate(names)}
        labels = [meaning.get(label, "" if label == _UNKNOWN else label) for label in labels]
    missing = [row for row, label in enumerate(labels) if not label.strip()]
    rows = ", ".join(f"{row:06d}" for row in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    return labels, [f"no label in column {name!r} of rows {rows}{more}"] if missing else []


def _may_be_labels(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
