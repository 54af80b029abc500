"""Arrays <-> the bytes of an HDF5 file. The file is built in memory: libhdf5 never writes to the disk.

What is read with libhdf5 has been hashed before; and it must hold exactly the arrays that are expected: no link that
leads elsewhere, no external or virtual storage, no filter.
"""

import io
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import h5py
import numpy as np
import numpy.typing as npt

from featcache.files import FileHandle, as_binary_file

AnyArray = npt.NDArray[np.generic]

_BUILT = itertools.count()  # of the files in memory: HDF5 refuses a name that an interrupted build has left open


class ForeignFileError(ValueError):
    """A well-formed HDF5 file that is not one of ours; the message says in what."""


def build_file(arrays: Mapping[str, AnyArray]) -> tuple[bytes, dict[str, int]]:
    """Return the bytes of a file with these contiguous datasets, deterministic, and at which byte each one starts."""
    unique = f"in memory {next(_BUILT)}"
    with h5py.File(unique, "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.ascontiguousarray(array), track_times=False)
        file.flush()
        offsets = {name: file[name].id.get_offset() or 0 for name in arrays}
        return bytes(file.id.get_file_image()), offsets


def lay_out_file(arrays: Mapping[str, AnyArray]) -> list[bytes | memoryview]:
    """Return a file with these contiguous datasets as consecutive blocks, deterministic; no array is copied.

    For what is too large to be held twice. Its layout is another than that of `build_file`.
    """
    flat = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = _PlannedFile({array.ctypes.data: array.reshape(-1).view(np.uint8).data for array in flat.values()})
    with h5py.File(layout, "w", driver="fileobj", libver=("v110", "v110")) as file:
        for name, array in flat.items():
            file.create_dataset(name, data=array, track_times=False)
    blocks: list[bytes | memoryview] = []
    end = 0
    for at, block in sorted(layout.blocks.items()):
        blocks += [bytes(at - end), block]
        end = at + len(block)
    return [*filter(len, blocks), bytes(layout.size - end)]


class _PlannedFile:
    """What HDF5 takes for a file: of an array that it writes, only the place is noted."""

    def __init__(self, arrays: Mapping[int, memoryview]) -> None:
        self._arrays = arrays  # by their addresses
        self.blocks: dict[int, bytes | memoryview] = {}  # by their places in the file
        self.size = self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: memoryview) -> int:
        array = self._arrays.get(np.frombuffer(data, dtype=np.uint8).ctypes.data)
        self.blocks[self._at] = array if array is not None and len(array) == len(data) else bytes(data)
        self._at += len(data)
        self.size = max(self.size, self._at)
        return len(data)

    def read(self, size: int = -1) -> bytes:  # h5py asks for it; HDF5 reads nothing of a file that it makes
        raise OSError(f"{size} bytes of a file that is being laid out were to be read")

    def truncate(self, size: int) -> None:
        self.size = size

    def flush(self) -> None:
        pass


def parse_file(
    data: bytes,
    expected: Mapping[str, tuple[str, int]],
    optional: Mapping[str, tuple[str, int]] = MappingProxyType({}),
) -> dict[str, AnyArray]:
    """Return the arrays of a file whose hash was right.

    Args:
        data: The file.
        expected: The dtype and the number of dimensions of each dataset, by name.
        optional: The same of datasets that may be missing.

    Raises:
        ForeignFileError: another set of names, dtypes or shapes, or storage that is not in the file itself.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return {
                name: np.asarray(_dataset(file, name, *kind, limit=len(data))[...])
                for name, kind in _expected_kinds(file, expected, optional).items()
            }
    except (OSError, RuntimeError, KeyError) as error:
        raise ForeignFileError(f"HDF5 cannot read it: {error}") from None


def map_file(
    handle: int,
    expected: Mapping[str, tuple[str, int]],
    optional: Mapping[str, tuple[str, int]] = MappingProxyType({}),
) -> dict[str, AnyArray]:
    """Return what `parse_file` does of an open file whose hash was right, read-only: only what is used is read.

    Args:
        handle: The file; it may be closed afterwards.
        expected: The dtype and the number of dimensions of each dataset, by name.
        optional: The same of datasets that may be missing.

    Raises:
        ForeignFileError: as `parse_file`.
    """
    size = os.fstat(handle).st_size
    with _opened(handle) as file:
        places = {
            name: _place(_dataset(file, name, *kind, limit=size))
            for name, kind in _expected_kinds(file, expected, optional).items()
        }
    with os.fdopen(os.dup(handle), "rb") as raw:
        return {
            name: np.memmap(raw, place.dtype, "r", place.offset, place.shape)
            if all(place.shape)
            else np.empty(place.shape, place.dtype)
            for name, place in places.items()
        }


def _expected_kinds(
    file: h5py.File, expected: Mapping[str, tuple[str, int]], optional: Mapping[str, tuple[str, int]]
) -> dict[str, tuple[str, int]]:
    """Return dtype and dimensions of the datasets that a file has, which are those that it must and may have."""
    if set(file) - set(optional) != set(expected):
        raise ForeignFileError(f"it holds {sorted(file)}, expected {sorted(expected)}")
    return {name: kind for name, kind in {**expected, **optional}.items() if name in file}


@dataclass(frozen=True, slots=True)
class DatasetPlace:
    """Where a dataset stands in its file, in one piece."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def locate_datasets(handle: FileHandle) -> dict[str, DatasetPlace]:
    """Return where libhdf5 finds the datasets of an open file whose hash was right, by name.

    Raises:
        ForeignFileError: a link that leads elsewhere, or storage that is not in one piece in the file itself.
    """
    with _opened(handle) as file:
        return {name: _place(_checked(file, name)) for name in file}


def read_dataset_rows(handle: FileHandle, name: str, rows: npt.NDArray[np.int64]) -> AnyArray:
    """Return some rows of a dataset as libhdf5 reads them; `rows` must be ascending.

    Raises:
        ForeignFileError: HDF5 cannot read them.
    """
    with _opened(handle) as file:
        values: AnyArray = _checked(file, name)[rows]
        return values


@contextmanager
def _opened(handle: FileHandle) -> Iterator[h5py.File]:
    """Yield the file behind a descriptor: not behind its name, where another could stand by now."""
    try:
        with as_binary_file(handle) as raw, h5py.File(raw, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, ForeignFileError):
            raise
        raise ForeignFileError(f"HDF5 cannot read it: {error}") from None


def _place(dataset: h5py.Dataset) -> DatasetPlace:
    """Return where a dataset stands."""
    return DatasetPlace(str(dataset.dtype), tuple(dataset.shape), dataset.id.get_offset() or 0)


def _dataset(file: h5py.File, name: str, dtype: str, dimensions: int, *, limit: int) -> h5py.Dataset:
    """Return one dataset, not read yet, which has this dtype and number of dimensions, and at most `limit` bytes."""
    dataset = _checked(file, name)
    if dataset.dtype != np.dtype(dtype) or dataset.ndim != dimensions:
        raise ForeignFileError(
            f"/{name} is {dataset.dtype} with {dataset.ndim} dimensions, expected {dtype} with {dimensions}"
        )
    if dataset.size * dataset.dtype.itemsize > limit:
        raise ForeignFileError(f"/{name} declares {dataset.shape}, more than the file holds")
    return dataset


def _checked(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that stands in this very file, in one piece."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ForeignFileError(f"/{name} is a link that leads elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ForeignFileError(f"/{name} is not a dataset")
    if (
        dataset.is_virtual
        or dataset.external
        or dataset.chunks is not None
        or dataset.id.get_create_plist().get_nfilters()
    ):
        raise ForeignFileError(f"/{name} is stored outside, virtually, in chunks or through a filter")
    return dataset
