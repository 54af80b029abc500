"""A data set that Hugging Face's `datasets` has saved to a folder: which of its Arrow files count, and their splits.

`save_to_disk` writes `state.json` beside the Arrow files of a data set, and `dataset_dict.json` above those of several
splits. Other Arrow files that lie there are what `map` and `filter` remember.
"""

import os
from collections.abc import Iterator
from typing import Any

from featcache.errors import DataError
from featcache.files import parse_json, read_file
from featcache.listing.paths import shown_path
from featcache.listing.source import usual_split

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_MOST_BYTES = 1 << 24


def is_saved_dataset(folder: str) -> bool:
    """Return whether `save_to_disk` has written a folder.

    Args:
        folder: Its path.
    """
    return any(os.path.isfile(os.path.join(folder, name)) for name in (_STATE, _SPLITS))


def find_saved_files(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the Arrow files of a saved data set, as paths relative to its folder, each with its split; "" for none.

    Args:
        folder: Its path, absolute.

    Raises:
        DataError: what lies there is not what `save_to_disk` writes.
    """
    if os.path.isfile(os.path.join(folder, _STATE)):
        yield from ((name, "") for name in _files_of(folder))
        return
    splits = _read(folder, _SPLITS).get("splits")
    if not isinstance(splits, list) or not all(map(_is_name, splits)):
        raise DataError(f"{folder}: {_SPLITS} names no splits; save the data set again, with save_to_disk")
    for split in splits:
        for name in _files_of(os.path.join(folder, split)):
            yield f"{split}/{name}", usual_split(split)


def _files_of(folder: str) -> list[str]:
    """Return the names of the Arrow files of one split, in order."""
    state = _read(folder, _STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{folder}: its rows were chosen and not written: save it again after dataset.flatten_indices()"
        )
    files = state.get("_data_files")
    names = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    if not names or not all(map(_is_name, names)):
        raise DataError(f"{folder}: {_STATE} names no files; save the data set again, with save_to_disk")
    return [str(name) for name in names]


def _is_name(name: object) -> bool:
    """Return whether a text names something that lies in a folder itself, and nothing outside of it."""
    return isinstance(name, str) and bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")


def _read(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    try:
        document = parse_json(read_file(path, _MOST_BYTES, follow_links=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; save the data set again") from None
    except ValueError as error:
        raise DataError(f"{shown_path(path)}: no JSON: {error}; save the data set again, with save_to_disk") from None
    return document if isinstance(document, dict) else {}
