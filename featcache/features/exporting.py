"""featcache export: one split as one plain file, for other tools. Nothing in it is pickled.

.h5       /embeddings (rows, dim) float32, /labels int64, /digests (rows, 32) uint8, /paths, /clips, /subjects, /classes
          as bytes; attributes
.npz      the same names, strings as fixed-width text
.parquet  columns embedding (a list of dim float32), label, class, path, clip, subject, digest (64 hex digits); classes
          in the metadata, where Hugging Face's datasets finds them too

Where a row has several labels or numbers, `targets` (rows, outputs) float64 stands for the labels (1 where a row has
the label), `classes` names its columns, and Parquet has a column for each.

A digest is the sha256 of the image file; of a frame of a video, what docs/format.md says.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.errors import UsageError
from featcache.features.in_memory import Features, load
from featcache.files import (
    arrow_text,
    describe_target,
    expand_home,
    require_pyarrow,
    sync_file,
    sync_folder,
    translate_os_errors,
)
from featcache.recipe import LABELS, StoreOptions
from featcache.store import write_hdf5

EXPORT_SUFFIXES = (".h5", ".npz", ".parquet")


@checked
def export(split: str, to: str | Path, **options: Unpack[StoreOptions]) -> Features:
    """Write one split of the cache to a file.

    A file that stands there is replaced, once the new one is complete.

    Args:
        split: its name, such as "train".
        to: the file; its suffix .h5, .npz or .parquet says in which format.
        **options: those of `featcache.load`.

    Returns:
        What the file holds, as `featcache.load` returns it.

    Raises:
        UsageError: another suffix, no such folder, .parquet without pyarrow, or no such recipe.
        CacheError: the split is not in the cache, or in several stores, or a file of it is damaged.
        MachineError: the disk refuses, or the embeddings do not fit into memory.
    """
    path = Path(expand_home(to))
    write = _choose_writer(path)
    features = load(split, **options)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with translate_os_errors(path):
        try:
            write(features, scratch)
            sync_file(scratch)
            os.replace(scratch, path)
            sync_folder(path.absolute().parent)
        finally:  # Ctrl-C included
            with contextlib.suppress(OSError):
                os.unlink(scratch)
    return features


def _choose_writer(path: Path) -> Callable[[Features, Path], None]:
    """Return the function that writes features to a file of this suffix.

    Raises:
        UsageError: another suffix, no such folder, a file that must not be replaced, or .parquet without pyarrow.
    """
    if path.suffix not in EXPORT_SUFFIXES:
        error = UsageError(f"--to {path}: expected a name that ends in {', '.join(EXPORT_SUFFIXES)}")
        raise error.correct("--to", str(path.with_suffix(".npz")))
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--to {path}: there is no folder {path.absolute().parent}").correct("--to", path.name)
    if path.is_dir():
        raise UsageError(f"--to {path}: there is a folder of that name")
    if problem := describe_target(path):
        raise UsageError(f"--to {path}: {problem}; name another file")
    if path.suffix == ".parquet":
        require_pyarrow(f"--to {path}", ".h5, .npz")
        return _write_parquet
    return _write_hdf5 if path.suffix == ".h5" else _write_npz


def _write_hdf5(features: Features, path: Path) -> None:
    """Write features as HDF5, as the module's text says."""
    arrays = _arrays(features)
    arrays |= {name: _as_bytes(column) for name, column in _text_columns(features).items()}
    write_hdf5(path, arrays, _provenance(features))


def _write_npz(features: Features, path: Path) -> None:
    """Write features as .npz, as the module's text says."""
    texts = {name: np.array(column, dtype=np.str_) for name, column in _text_columns(features).items()}
    about = np.array(json.dumps(_provenance(features)), dtype=np.str_)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **_arrays(features), about=about, **texts)


def _write_parquet(features: Features, path: Path) -> None:
    """Write features as Parquet, as the module's text says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(features.x.reshape(-1)), features.x.shape[1]),
        **_target_columns(features),
        "path": arrow_text(features.paths),
        "clip": arrow_text(features.clips),
        "subject": arrow_text(features.subjects),
    }
    if features.digests is not None:
        columns["digest"] = arrow_text([digest.tobytes().hex() for digest in features.digests])
    about = {
        "featcache": json.dumps(_provenance(features)),
        "classes": json.dumps(features.classes),
        "huggingface": json.dumps({"info": {"features": _hugging_face(features, columns)}}),
    }
    pq.write_table(pa.table(columns, metadata=about), path, compression="none")  # embeddings do not compress


def _target_columns(features: Features) -> dict[str, Any]:
    """Return label and class of each row; or a column for each of several labels or numbers, by its name."""
    import pyarrow as pa

    if features.targets is None:
        codes = pa.array(features.y.astype(np.int32))
        return {
            "label": pa.array(features.y),
            "class": pa.DictionaryArray.from_arrays(codes, arrow_text(features.classes)),
        }
    kind = np.bool_ if features.targets.kind == LABELS else np.float64
    columns = zip(features.classes, features.targets.values.T.astype(kind), strict=True)
    return {f"target: {name}": pa.array(values) for name, values in columns}


def _hugging_face(features: Features, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns as the package `datasets` describes them, so that its labels have their classes' names."""
    kinds = {name: getattr(column.type, "value_type", column.type) for name, column in columns.items()}
    described: dict[str, Any] = {
        name: {"dtype": str(kind), "_type": "Value"} for name, kind in kinds.items()
    }  # "string", or "binary" where a name is not UTF-8
    if features.targets is None:
        described["label"] = {"names": list(features.classes), "_type": "ClassLabel"}
    of_row = {"dtype": "float32", "_type": "Value"}
    described["embedding"] = {"feature": of_row, "length": features.x.shape[1], "_type": "Sequence"}
    return described


def _arrays(features: Features) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of numbers; digests only where they are known."""
    arrays: dict[str, npt.NDArray[Any]] = {"embeddings": features.x}
    arrays |= {"labels": features.y} if features.targets is None else {"targets": features.targets.values}
    return arrays if features.digests is None else {**arrays, "digests": features.digests}


def _text_columns(features: Features) -> dict[str, Sequence[str]]:
    """Return the columns of text, (rows,) each, and the classes."""
    return {name: getattr(features, name) for name in ("paths", "clips", "subjects", "classes")}


def _provenance(features: Features) -> dict[str, str]:
    """Return where the features come from, for attributes or JSON."""
    return {"split": features.split, "failed": str(features.failed), "part": features.part, **features.source}


def _as_bytes(column: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Return file names as bytes: they need not be UTF-8. At least one byte wide, which HDF5 asks for."""
    packed = [os.fsencode(text) for text in column]
    return np.array(packed, dtype=f"S{max(map(len, packed), default=0) or 1}")
