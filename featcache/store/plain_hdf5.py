"""An HDF5 file for other people's tools: written straight to the disk, under a scratch name until it is whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt


def write_hdf5(path: Path, arrays: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, str]) -> None:
    """Write a new file.

    Args:
        path: Where; nothing stands there yet.
        arrays: Its datasets by name, contiguous and unfiltered.
        attributes: Its attributes; names of files in them need not be UTF-8.

    Raises:
        OSError: the disk refuses; the file is then good for nothing.
    """
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
        for name, text in attributes.items():
            file.attrs[name] = text.encode("utf-8", "surrogateescape")
