"""The files of listings: checked against the log, and read once by a process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.files import (
    MAX_DOCUMENT_BYTES,
    MAX_LISTING_BYTES,
    FileHandle,
    FileStat,
    close_file,
    hash_handle,
    is_racy,
    now_ns,
    open_in_cache,
    parse_json,
    read_if_hash_matches,
    refuse_larger,
    stat_handle,
    validate,
)
from featcache.store import hdf5
from featcache.store.commits import ListingLine
from featcache.store.documents import ListingMeta

VERSION, WITH_TARGETS = 1, 2
CODED = ("clips", "subjects", "reasons")
_EXPECTED = {
    "meta": ("uint8", 1),
    "paths": ("uint8", 1),
    "labels": ("int64", 1),
    "digests": ("uint8", 2),
    **{f"{name}_names": ("uint8", 1) for name in CODED},
    **{f"{name}_codes": ("int32", 1) for name in CODED},
}
_TARGETS = {"targets": ("float64", 2)}
_MOST_READ = 4  # files that are remembered: a command reads the listings of its splits several times


@dataclass(slots=True, eq=False)
class ListingFile:
    """The file of a listing, whose hash was right."""

    status: FileStat
    sha256: str
    arrays: dict[str, hdf5.AnyArray]  # read-only: all who read the listing share them
    meta: ListingMeta
    decoded: Any = None  # what was made of the arrays, once somebody did


_READ: dict[Path, ListingFile] = {}  # those that were read last, the newest at the end


def read_listing_file(path: Path, line: ListingLine) -> ListingFile:
    """Return a listing's file; one that was read by this process and has the same stat is not read again.

    Raises:
        CacheError: its hash is not that in the log.
        OSError, ValueError: it cannot be read, or is none of ours.
    """
    handle = open_in_cache(path, line.sha256)
    try:
        status = stat_handle(handle)
        file = _READ.get(path)
        if file is not None and (file.status, file.sha256) == (status, line.sha256):
            return file
        arrays = _read_arrays(handle, path, line)
    finally:
        close_file(handle)
    file = ListingFile(status, line.sha256, arrays, check_meta(arrays))
    if (file.meta.data_set, file.meta.variant, file.meta.split) != line.key:
        raise ValueError(f"it is that of {file.meta.data_set}/{file.meta.variant}/{file.meta.split}")
    _READ.pop(path, None)
    if not is_racy(status, now_ns()):
        _READ[path] = file
        for older in list(_READ)[:-_MOST_READ]:
            _READ.pop(older, None)
    return file


def parse_listing(data: bytes) -> tuple[dict[str, hdf5.AnyArray], ListingMeta]:
    """Return the arrays of a listing, and its checked `meta`."""
    arrays = hdf5.parse_file(data, _EXPECTED, _TARGETS)
    return arrays, check_meta(arrays)


def check_meta(arrays: dict[str, hdf5.AnyArray]) -> ListingMeta:
    """Return the `meta` of a listing, which fits the arrays that it stands beside."""
    document = parse_json(arrays["meta"].tobytes())
    version = document.get("version") if isinstance(document, dict) else VERSION
    if version not in (VERSION, WITH_TARGETS) or isinstance(version, bool):
        raise ValueError(f"its version is {str(version)[:40]}, this featcache reads {VERSION} and {WITH_TARGETS}")
    meta = validate(ListingMeta, document)
    if not (meta.targets is not None) == ("targets" in arrays) == (version == WITH_TARGETS):
        raise ValueError("version 2 is that of listings with targets, and of no others")
    return meta


def way_out(line: ListingLine) -> str:
    """Return what helps where a listing is lost, as a sentence."""
    return f"`featcache extract --split {line.split}` writes it again; no embedding is lost."


def _read_arrays(handle: FileHandle, path: Path, line: ListingLine) -> dict[str, hdf5.AnyArray]:
    """Return the arrays of a listing's file. Those of a large one are mapped: what nobody looks at takes no memory."""
    arrays: dict[str, hdf5.AnyArray] | None = None
    if isinstance(handle, int) and stat_handle(handle)[0] > MAX_DOCUMENT_BYTES:
        refuse_larger(handle, MAX_LISTING_BYTES)
        if hash_handle(handle).hex() == line.sha256:
            arrays = hdf5.map_file(handle, _EXPECTED, _TARGETS)
    else:
        data = read_if_hash_matches(path, line.sha256, MAX_LISTING_BYTES)
        arrays = None if data is None else hdf5.parse_file(data, _EXPECTED, _TARGETS)
    if arrays is None:
        raise CacheError(f"{path}: its sha256 does not match the log: the file was damaged. {way_out(line)}")
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
