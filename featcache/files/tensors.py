"""A safetensors file of a cache: hashed before it is parsed; every tensor by the dtype and shape that it must have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from featcache.errors import CacheError
from featcache.files.cache_files import MAX_TENSORS_BYTES, hash_cache_file, read_if_hash_matches

LONGEST_HEADER = 1 << 16  # bytes: of at most three tensors; the format itself allows 100 MB, a million tensors

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """The tensors of one file, by name."""

    path: Path
    arrays: dict[str, npt.NDArray[Any]]

    def take(self, name: str, dtype: type[T], dimensions: int) -> npt.NDArray[T]:
        """Return one tensor.

        Args:
            name: Its name in the file.
            dtype: The type that it must have.
            dimensions: How many dimensions it must have.

        Raises:
            ValueError: there is none of this name, dtype and number of dimensions.
        """
        array = self.arrays.get(name)
        if array is None:
            raise ValueError(f"{self.path.name} has no tensor {name!r}")
        if array.dtype != dtype or array.ndim != dimensions:
            expected = f"{np.dtype(dtype)} with {dimensions} dimensions"
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {expected}")
        return array


def check_file_hash(path: Path, sha256: str, *, way_out: str) -> None:
    """Raise a CacheError unless a file has this sha256; it is read in bounded memory.

    Args:
        path: The file.
        sha256: 64 hex digits.
        way_out: How the message ends.

    Raises:
        CacheError: it cannot be read, or is another file; the message ends with `way_out`.
    """
    try:
        actual = hash_cache_file(path)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; {way_out}") from None
    if actual != sha256:
        raise CacheError(f"{path}: damaged: its sha256 is not the one on record; {way_out}")


def read_hashed_file(path: Path, sha256: str, *, way_out: str) -> bytes:
    """Return the bytes of a file whose sha256 a document of the cache says.

    Args:
        path: The file.
        sha256: What the document says, 64 hex digits.
        way_out: How the message ends.

    Raises:
        CacheError: it cannot be read, or is another file; the message ends with `way_out`.
    """
    try:
        data = read_if_hash_matches(path, sha256, MAX_TENSORS_BYTES)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; {way_out}") from None
    if data is None:
        raise CacheError(f"{path}: damaged: its sha256 is not the one on record; {way_out}")
    return data


def read_tensors(path: Path, sha256: str, *, way_out: str) -> Tensors:
    """Return the tensors of a file whose sha256 a document of the cache says.

    Args:
        path: The file.
        sha256: What the document says, 64 hex digits.
        way_out: How the message ends.

    Raises:
        CacheError: as `read_hashed_file`; or it is no safetensors file.
    """
    data = read_hashed_file(path, sha256, way_out=way_out)
    try:
        return Tensors(path, parse_tensors(data))
    except ValueError as error:
        raise CacheError(f"{path}: this file of tensors cannot be read by this version: {error}") from None


def parse_tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file by name, each as large as the file says and holds.

    Args:
        data: All bytes of the file, whose sha256 was compared before.

    Raises:
        ValueError: it is no safetensors file, declares more than it holds, or has tensors that NumPy does not know.
    """
    if int.from_bytes(data[:8], "little") > LONGEST_HEADER:
        raise ValueError(f"its header is longer than {LONGEST_HEADER:,} bytes")
    try:
        return load(data)
    except (SafetensorError, KeyError, TypeError) as error:  # the last two: a dtype that NumPy has not
        raise ValueError(f"it is not a safetensors file of NumPy's types: {error}") from None
