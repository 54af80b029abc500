"""featcache export: one split as one plain file, for everybody else's tools. Nothing in it is pickled.

.h5       /embeddings (rows, dim) float32, /labels int64, /paths, /clips, /subjects, /classes as bytes; attributes
.npz      the same names, strings as fixed-width text
.parquet  columns embedding (a list of dim float32), label, class, path, clip, subject; classes in the metadata
"""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.errors import UsageError
from featcache.features.in_memory import Features, load
from featcache.files import describe_target, expand_home, sync_file, sync_folder, translate_os_errors
from featcache.recipe import StoreOptions
from featcache.store import write_hdf5

SUFFIXES = (".h5", ".npz", ".parquet")


@checked
def export(split: str, to: str | Path, **where: Unpack[StoreOptions]) -> Features:
    """Write one split of the cache to `to`, by its suffix .h5, .npz or .parquet; what was written.

    A file that stands there is replaced, once the new one is whole.

    Raises:
        UsageError: another suffix, no such folder, or .parquet without pyarrow.
        CacheError: the split is not in the cache, or damaged.
        MachineError: the disk refuses.
    """
    path = Path(expand_home(to))
    write = _writer(path)
    found = load(split, **where)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with translate_os_errors(path):
        try:
            write(found, scratch)
            sync_file(scratch)
            os.replace(scratch, path)
            sync_folder(path.absolute().parent)
        finally:  # Ctrl-C included
            with contextlib.suppress(OSError):
                os.unlink(scratch)
    return found


def _writer(path: Path) -> Callable[[Features, Path], None]:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--to {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--to {path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise UsageError(f"--to {path}: a folder stands there")
    if problem := describe_target(path):
        raise UsageError(f"--to {path}: {problem}; name another file")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401 (asked for before the features are loaded)
        except ImportError:
            raise UsageError(f"--to {path}: Parquet needs pyarrow: pip install pyarrow; or .h5, .npz") from None
        return _write_parquet
    return _write_hdf5 if path.suffix == ".h5" else _write_npz


def _write_hdf5(found: Features, path: Path) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {"embeddings": found.x, "labels": found.y}
    arrays |= {name: _as_bytes(column) for name, column in _texts(found).items()}
    write_hdf5(path, arrays, _about(found))


def _write_npz(found: Features, path: Path) -> None:
    texts = {name: np.array(column, dtype=np.str_) for name, column in _texts(found).items()}
    about = np.array(json.dumps(_about(found)), dtype=np.str_)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, embeddings=found.x, labels=found.y, about=about, **texts)


def _write_parquet(found: Features, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(found.x.reshape(-1)), found.x.shape[1])
    columns = {
        "embedding": embeddings,
        "label": pa.array(found.y),
        "class": pa.DictionaryArray.from_arrays(pa.array(found.y.astype(np.int32)), _as_arrow(found.classes)),
        **{name: _as_arrow(column) for name, column in (("path", found.paths), ("clip", found.clips))},
        "subject": _as_arrow(found.subjects),
    }
    about = {"featcache": json.dumps(_about(found)), "classes": json.dumps(found.classes)}
    pq.write_table(pa.table(columns, metadata=about), path, compression="none")  # embeddings do not compress


def _texts(found: Features) -> dict[str, Sequence[str]]:
    return {"paths": found.paths, "clips": found.clips, "subjects": found.subjects, "classes": found.classes}


def _about(found: Features) -> dict[str, str]:
    """Where it came from, as attributes or JSON."""
    return {"split": found.split, "failed": str(found.failed), "part": found.part, **found.source}


def _as_bytes(column: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """File names as the bytes that they are: they need not be UTF-8. At least one byte wide, which HDF5 asks for."""
    packed = [os.fsencode(text) for text in column]
    return np.array(packed, dtype=f"S{max(map(len, packed), default=0) or 1}")


def _as_arrow(column: Sequence[str]) -> Any:
    """Text; bytes where a name is no UTF-8."""
    import pyarrow as pa

    try:
        return pa.array(column, type=pa.string())
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return pa.array([os.fsencode(text) for text in column], type=pa.binary())
