"""featcache export: one split as one plain file that everybody else's tools read."""

import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import featcache
from featcache import CacheError, Features, MachineError, UsageError
from featcache.features.exporting import _write_hdf5, _write_npz, _write_parquet
from tests.conftest import ARCH, Nano, write_images

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def some(paths: tuple[str, ...] = ("0/a.png", "0/ü=1.png", "1/c\n.png")) -> Features:
    rows = len(paths)
    x = np.random.default_rng(3).standard_normal((rows, 5)).astype(np.float32)
    return Features(
        x=x, y=np.arange(rows) % 2, classes=("zero", "one, or ‘eins’"), paths=paths, clips=("", "c1", "c1")[:rows],
        subjects=("p1",) * rows, split="train", source={"store": "s", "data_set": "d"},
    )  # fmt: skip


def strings(column) -> tuple[str, ...]:
    return tuple(os.fsdecode(text) for text in column)


def read_h5(path: Path) -> dict:
    with h5py.File(path) as file:
        assert all(file[name].chunks is None for name in file)
        found = {name: file[name][...] for name in file}
        assert file.attrs["store"] == "s"
    return found | {name: strings(found[name].tolist()) for name in ("paths", "clips", "subjects", "classes")}


def read_npz(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["store"] == "s"
        return {name: file[name] for name in file.files} | {
            name: tuple(file[name].tolist()) for name in ("paths", "clips", "subjects", "classes")
        }


def read_parquet(path: Path) -> dict:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    classes = tuple(json.loads(table.schema.metadata[b"classes"]))
    labels = table["label"].to_numpy()
    assert [classes[label] for label in labels] == table["class"].to_pylist()
    columns = {f"{name}s": strings(table[name].to_pylist()) for name in ("path", "clip", "subject")}
    embeddings = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    return {"embeddings": embeddings, "labels": labels, "classes": classes, **columns}


@pytest.mark.parametrize(
    ("write", "read"), [(_write_hdf5, read_h5), (_write_npz, read_npz), (_write_parquet, read_parquet)]
)
@pytest.mark.parametrize("paths", [some().paths, ("0/\udcff\udc80.png",)], ids=["text", "not UTF-8"])
def test_every_format_gives_back_every_column(tmp_path, write, read, paths):
    """Embeddings bit for bit, labels, names with umlauts, newlines and bytes that are no UTF-8; nothing is pickled."""
    features = some(paths)
    write(features, tmp_path / "x")
    found = read(tmp_path / "x")
    assert found["embeddings"].tobytes() == features.x.tobytes()
    assert found["labels"].tolist() == features.y.tolist()
    for name in ("paths", "clips", "subjects", "classes"):
        assert found[name] == getattr(features, name)


@pytest.fixture(scope="module")
def made(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> dict:
    here = tmp_path_factory.mktemp("exported")
    write_images(here / "digits", {"train": {"0": 3, "1": 2}})
    where = {"data": str(here / "digits"), "cache": here / "cache"}
    settings = featcache.Settings(device="cpu", workers=1, batch_size=4)
    featcache.extract(**where, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=settings)
    return where


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
def test_a_split_of_the_cache_is_exported(made, tmp_path, suffix):
    """What `load` gives, in a file under the name that was asked for; a file that stood there is replaced."""
    path = tmp_path / f"features{suffix}"
    path.write_bytes(b"old")
    written = featcache.export("train", path, **made)
    assert written.x.tobytes() == featcache.load("train", **made).x.tobytes()
    if suffix == ".h5":
        with h5py.File(path) as file:
            assert file["embeddings"][...].tobytes() == written.x.tobytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("to", ["features.csv", "none/features.h5", "features"])
def test_what_cannot_be_written_is_refused_before_anything_is_read(made, tmp_path, to):
    """Another suffix, a folder that is not there: exit class 2."""
    with pytest.raises(UsageError, match="--to"):
        featcache.export("train", tmp_path / to, **made)


def test_a_failing_export_leaves_the_old_file_and_no_litter(made, tmp_path, monkeypatch):
    """A full disk is exit class 5; a split that is not there 3."""
    path = tmp_path / "features.npz"
    path.write_bytes(b"old")
    with pytest.raises(CacheError, match="split 'none'"):
        featcache.export("none", path, **made)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        featcache.export("train", path, **made)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".parquet"])
def test_every_row_has_the_digest_of_its_image(made, tmp_path, suffix):
    """The sha256 of the file, as `sha256sum` prints it: bytes in .h5 and .npz, hexadecimal text in Parquet."""
    path = tmp_path / f"features{suffix}"
    written = featcache.export("train", path, **made)
    expected = [hashlib.sha256((Path(made["data"]) / name).read_bytes()).hexdigest() for name in written.paths]
    if suffix == ".parquet":
        found = pa.parquet.read_table(path)["digest"].to_pylist()
    elif suffix == ".h5":
        with h5py.File(path) as file:
            found = [row.tobytes().hex() for row in file["digests"][...]]
    else:
        with np.load(path, allow_pickle=False) as file:
            found = [row.tobytes().hex() for row in file["digests"]]
    assert found == expected


@pytest.mark.parametrize("paths", [some().paths, ("0/\udcff\udc80.png",)], ids=["text", "not UTF-8"])
def test_parquet_tells_hugging_face_the_names_of_the_classes(tmp_path, paths):
    """Its metadata describe every column as `datasets` does: the label is a ClassLabel, the types are Arrow's."""
    features = some(paths)
    _write_parquet(features, tmp_path / "x.parquet")
    schema = pa.parquet.read_schema(tmp_path / "x.parquet")
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(described) == schema.names
    assert described.pop("label") == {"names": list(features.classes), "_type": "ClassLabel"}
    embedding = described.pop("embedding")
    assert (embedding["_type"], embedding["length"], embedding["feature"]["dtype"]) == ("Sequence", 5, "float32")
    assert schema.field("embedding").type == pa.list_(pa.float32(), 5)
    assert schema.field("class").type.value_type == pa.string()
    path = "string" if paths == some().paths else "binary"
    assert {name: value["dtype"] for name, value in described.items()} == {
        "class": "string", "path": path, "clip": "string", "subject": "string",
    }  # fmt: skip


def test_hugging_face_datasets_reads_the_classes(made, tmp_path):
    """`load_dataset("parquet")` gives rows whose label is a ClassLabel with the names of the classes."""
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "train.parquet"
    written = featcache.export("train", path, **made)
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.features["label"].names == list(written.classes)
    assert rows["label"] == written.y.tolist()
    np.testing.assert_array_equal(np.array(rows["embedding"], dtype=np.float32), written.x)
