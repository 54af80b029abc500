"""The images of an LMDB file: what its keys name, and the labels that stand under keys of their own."""

from collections.abc import Mapping, Sequence

from featcache.containers import ContainerError, LmdbFile
from featcache.listing.container_rows import ContainerRows
from featcache.listing.paths import shown_path

_COUNTS = ("num-samples", "length", "len")  # keys that say how many there are
_IMAGE, _LABEL = "image-", "label-"  # image-000000001 and label-000000001
_MOST_LABEL_BYTES = 1 << 20


def list_lmdb(file: LmdbFile) -> ContainerRows:
    """Return the images of an LMDB file, sorted by their keys.

    Args:
        file: Open.

    Returns:
        The rows; `label` is among their columns where the file has keys such as label-000000001 for image-000000001.

    Raises:
        ContainerError: it is damaged.
    """
    names = file.names
    aside = [name for name in names if name in _COUNTS or (name.startswith("__") and name.endswith("__"))]
    notes = [f"keys that name no image: {', '.join(map(shown_path, aside[:5]))}"] if aside else []
    others = {*aside}
    labels = {name for name in names if name.startswith(_LABEL)}
    images = {_LABEL + name.removeprefix(_IMAGE) for name in names if name.startswith(_IMAGE)}
    has_pairs = not labels.isdisjoint(images)
    keys = [name for name in names if name not in others and not (has_pairs and name in labels)]
    if not has_pairs:
        return ContainerRows(keys, notes=notes)
    columns, problems = _read_labels(file, keys, labels)
    return ContainerRows(keys, columns, notes=notes, problems=problems)


def _read_labels(
    file: LmdbFile, keys: Sequence[str], labels: set[str]
) -> tuple[Mapping[str, Sequence[str]], list[str]]:
    """Return the label of each image, and which have none."""
    column: list[str] = []
    problems: list[str] = []
    for key in keys:
        name = _LABEL + key.removeprefix(_IMAGE)
        try:
            text = file.read(name, _MOST_LABEL_BYTES).decode("utf-8").strip() if name in labels else ""
        except (ContainerError, UnicodeDecodeError):
            text = ""
        column.append(text)
        if not text:
            problems.append(f"{shown_path(key)}: no label; expected text under the key {shown_path(name)}")
    return {"label": column}, problems
