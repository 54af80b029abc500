"""Containers of images, as other programs write them: an image folder as tar files."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], **options: object) -> Path:
    """Write members, by name, to a tar file, and return its path; `options` are those of `tarfile.open`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w", **options) as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path there, sorted."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def as_webdataset(folder: Path, target: Path) -> Path:
    """Write each split of an image folder as `<target>/<split>-0.tar`: `key.png` and `key.cls`, and return `target`."""
    for split in sorted(path for path in folder.iterdir() if path.is_dir()):
        members: dict[str, bytes] = {}
        for number, (name, data) in enumerate(files_of(split).items()):
            members[f"{number:05d}{Path(name).suffix}"] = data
            members[f"{number:05d}.cls"] = Path(name).parts[0].encode()
        write_tar(target / f"{split.name}-0.tar", members)
    return target


def as_rows(folder: Path) -> list[dict[str, object]]:
    """Return a row for each file of a folder of classes: its bytes and name as `datasets` has them, its class."""
    return [
        {"image": {"bytes": data, "path": Path(name).name}, "label": Path(name).parts[0]}
        for name, data in files_of(folder).items()
    ]


def write_parquet(path: Path, rows: list[dict[str, object]], **options: object) -> Path:
    """Write rows to a Parquet file, and return its path; `options` are those of pyarrow's `write_table`."""
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def as_parquet(folder: Path, target: Path, **options: object) -> Path:
    """Write each split of an image folder as `<target>/data/<split>-00000-of-00001.parquet`, and return `target`."""
    for split in sorted(path for path in folder.iterdir() if path.is_dir()):
        write_parquet(target / "data" / f"{split.name}-00000-of-00001.parquet", as_rows(split), **options)
    return target


def write_saved(folder: Path, rows: list[dict[str, object]], *, rows_a_batch: int = 5) -> Path:
    """Write rows as `datasets` saves one split to disk, labels as numbers, and return the folder."""
    import pyarrow as pa

    names = sorted({str(row["label"]) for row in rows})
    notes = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
    numbered = [{**row, "label": names.index(str(row["label"]))} for row in rows]
    table = pa.Table.from_pylist(numbered).replace_schema_metadata({"huggingface": json.dumps(notes)})
    folder.mkdir(parents=True, exist_ok=True)
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=rows_a_batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}], "_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps(notes["info"]))
    return folder


def as_saved(folder: Path, target: Path) -> Path:
    """Write an image folder as `datasets` saves one with several splits to disk, and return `target`."""
    splits = sorted(path for path in folder.iterdir() if path.is_dir())
    for split in splits:
        write_saved(target / split.name, as_rows(split))
    (target / "dataset_dict.json").write_text(json.dumps({"splits": [split.name for split in splits]}))
    return target


def write_lmdb(path: Path, values: Mapping[bytes, bytes]) -> Path:
    """Write values, by key, to an LMDB file, and return its path."""
    import lmdb

    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(map(len, values.values())) * 2 + (1 << 20)
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=size) as environment,
        environment.begin(write=True) as writing,
    ):
        for key, value in values.items():
            writing.put(key, value)
    return path


def as_lmdb(folder: Path, target: Path) -> Path:
    """Write an image folder as `<target>/data.mdb`, under the files' paths, and return `target`."""
    write_lmdb(target / "data.mdb", {name.encode(): data for name, data in files_of(folder).items()})
    return target
