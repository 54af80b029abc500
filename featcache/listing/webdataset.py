"""The images of a tar file and their labels: beside them, as WebDataset writes it, or by the folders of their names.

A sample is what stands under one key: `ants/0013.jpg` with `ants/0013.cls` (the label as text) or `ants/0013.json` (an
object with a field for it). Nothing else of a sample is read: no pickle, no array.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from featcache.containers import ContainerError, TarFile
from featcache.files import parse_json
from featcache.listing.container_rows import ContainerRows
from featcache.listing.leftovers import IMAGE_SUFFIXES, is_leftover
from featcache.listing.paths import shown_path

_MOST_LABEL_BYTES = 1 << 20
_SIDECARS = (".cls", ".json")
_LABEL_FIELDS = ("label", "cls", "class")  # of a JSON object, where none is named
_ROLES = ("split", "clip", "subject")


def list_tar(tar: TarFile, label_field: str | None) -> ContainerRows:
    """Return the images of a tar file, in its order.

    Args:
        tar: Open.
        label_field: The field of a sample's JSON that holds its label; None: label, cls or class.

    Returns:
        The rows; `label` is among their columns where a label stands beside any image of the tar.

    Raises:
        ContainerError: the tar is damaged, cut off or compressed.
    """
    names = [name for name in tar.names if not _is_leftover(name)]
    sidecars = {name for name in names if name.lower().endswith(_SIDECARS)}
    keys = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    problems = [f"{shown_path(name)}: two members have this name" for name in tar.repeated]
    columns: Mapping[str, Sequence[str]] = {}
    if sidecars:
        keys = _without_parts(keys)
        labels = _Labels(tar, sidecars, _LABEL_FIELDS if label_field is None else (label_field,))
        columns = labels.read_columns(keys)
        problems += labels.problems
    notes = [
        f"{what} are no rows: {shown_path(members[0])}{f' and {len(members) - 1:,} more' if len(members) > 1 else ''}"
        for members, what in (
            (tar.links, "links, devices and sparse files"), (tar.unsafe, "absolute names and names with '..'"),
        )
        if members
    ]  # fmt: skip
    others = _count_endings({*names} - {*keys} - sidecars)
    return ContainerRows(keys, columns, [n for n in tar.names if _is_leftover(n)], notes + others, problems)


def _is_leftover(name: str) -> bool:
    return any(map(is_leftover, name.split("/")))


def sample_key(name: str) -> str:
    """Return WebDataset's key of a member: its name up to the first dot behind the last slash.

    Args:
        name: Of the member.
    """
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _without_parts(keys: Sequence[str]) -> list[str]:
    """Return the images but those that are a part of a sample with a plain one: beside `a.jpg`, `a.seg.png` is none."""
    plain = {sample_key(key) for key in keys if _stem(key) == sample_key(key)}
    return [key for key in keys if _stem(key) == sample_key(key) or sample_key(key) not in plain]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


class _Labels:
    """The labels that stand beside the images of a tar, and what is wrong with them."""

    def __init__(self, tar: TarFile, sidecars: set[str], fields: Sequence[str]) -> None:
        self.tar, self.sidecars, self.fields = tar, sidecars, fields
        self.problems: list[str] = []

    def read_columns(self, keys: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return label, split, clip and subject of each image; the last three where any image has one."""
        rows = [self._read_row(key) for key in keys]
        roles = ["label", *(role for role in _ROLES if any(role in row for row in rows))]
        return {role: tuple(row.get(role, "") for row in rows) for role in roles}

    def _read_row(self, key: str) -> dict[str, str]:
        """Return what stands beside one image; a missing label is a problem."""
        row: dict[str, str] = {}
        for stem in dict.fromkeys((_stem(key), sample_key(key))):
            if f"{stem}.json" in self.sidecars:
                row |= self._read_json(f"{stem}.json")
            if f"{stem}.cls" in self.sidecars:
                row["label"] = self._read_text(f"{stem}.cls").strip()
            if row:
                break
        if not row.get("label"):
            expected = f"{shown_path(sample_key(key))}.cls, or .json with the field {self.fields[0]!r}"
            self.problems.append(f"{shown_path(key)}: no label; expected {expected}")
        return row

    def _read_json(self, name: str) -> dict[str, str]:
        try:
            document = parse_json(self._read_text(name).encode())
        except ValueError as error:
            self.problems.append(f"{shown_path(name)}: no JSON: {error}")
            return {}
        values = document if isinstance(document, dict) else {}
        row = {role: values[role] for role in _ROLES if role in values}
        label = next((values[name] for name in self.fields if name in values), None)
        row |= {"label": label}
        return {role: str(value) for role, value in row.items() if _is_label(value)}

    def _read_text(self, name: str) -> str:
        """Return the text of a small member; "" and a problem where it has none."""
        try:
            return self.tar.read_small(name, _MOST_LABEL_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            self.problems.append(f"{shown_path(name)}: no text in UTF-8")
        except ContainerError as error:
            self.problems.append(f"{shown_path(name)}: {error}")
        return ""


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _count_endings(names: Iterable[str]) -> list[str]:
    """Return how many members are no images by their names, by the ends of these, as a sentence."""
    endings = Counter(os.path.splitext(name)[1].lower() or "without an ending" for name in names)
    largest = sorted(endings, key=lambda ending: (-endings[ending], ending))[:8]
    shown = ", ".join(f"{shown_path(ending)} ({endings[ending]:,})" for ending in largest)
    return [f"members that are no images by their names: {shown}"] if endings else []
