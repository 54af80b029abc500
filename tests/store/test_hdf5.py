"""Arrays to the bytes of an HDF5 file and back; whatever else HDF5 can express is refused."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featcache.store.hdf5 import ForeignFileError, build_file, parse_file

EXPECTED = {"a": ("float32", 2)}
A = np.arange(6, dtype=np.float32).reshape(2, 3)

arrays = st.dictionaries(
    st.sampled_from(["embeddings", "digests", "labels", "meta"]),
    hnp.arrays(
        st.sampled_from([np.float32, np.float16, np.uint8, np.int64, np.int32]),
        hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=6),
    ),
    min_size=1,
)


@given(arrays)
def test_what_was_built_is_parsed_bit_for_bit(given_arrays):
    """Every dtype that is stored, empty arrays, nan and inf included."""
    data, _ = build_file(given_arrays)
    found = parse_file(data, {name: (str(array.dtype), array.ndim) for name, array in given_arrays.items()})
    assert found.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@given(arrays)
def test_the_same_arrays_give_the_same_bytes(given_arrays):
    """A file's hash says what is in it, and nothing of when it was made."""
    assert build_file(given_arrays) == build_file({name: array.copy(order="F") for name, array in given_arrays.items()})


@given(arrays)
def test_an_offset_is_where_the_array_lies(given_arrays):
    """The bytes at the stated offset are the array's own, in C order."""
    data, offsets = build_file(given_arrays)
    for name, array in given_arrays.items():
        assert data[offsets[name] : offsets[name] + array.nbytes] == array.tobytes()


def foreign(fill, tmp_path: Path) -> bytes:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        fill(file)
    return path.read_bytes()


def external(file: h5py.File) -> None:
    file.create_dataset("a", shape=(2, 3), dtype="f4", external=[("/etc/hostname", 0, 24)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "a", (2, 3))
    file.create_virtual_dataset("a", layout)


def soft_link(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("/etc/hostname", "a")


HOSTILE = {
    "nothing": lambda file: None,
    "more": lambda file: (file.create_dataset("a", data=A), file.create_dataset("b", data=A)),
    "group": lambda file: file.create_group("a"),
    "named type": lambda file: file.__setitem__("a", np.dtype("f4")),
    "float64": lambda file: file.create_dataset("a", data=A.astype("f8")),
    "big endian": lambda file: file.create_dataset("a", data=A.astype(">f4")),
    "flat": lambda file: file.create_dataset("a", data=A.ravel()),
    "scalar": lambda file: file.create_dataset("a", data=np.float32(1)),
    "no value": lambda file: file.create_dataset("a", data=h5py.Empty("f4")),
    "strings": lambda file: file.create_dataset("a", data=[["x", "y"]]),
    "compound": lambda file: file.create_dataset("a", data=np.zeros((2, 3), "f4,f4")),
    "chunks": lambda file: file.create_dataset("a", data=A, chunks=(1, 3)),
    "gzip": lambda file: file.create_dataset("a", data=A, compression="gzip"),
    "fletcher32": lambda file: file.create_dataset("a", data=A, fletcher32=True),
    "external": external,
    "virtual": virtual,
    "soft link": soft_link,
    "external link": external_link,
    "10^12 rows": lambda file: file.create_dataset("a", shape=(10**12, 768), dtype="f4"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_well_formed_file_of_another_make_is_refused(tmp_path, kind):
    """Links, external and virtual storage, filters, other dtypes and shapes: one error, and nothing is allocated."""
    with pytest.raises(ForeignFileError):
        parse_file(foreign(HOSTILE[kind], tmp_path), EXPECTED)


def test_a_hard_link_to_the_expected_array_is_the_array(tmp_path):
    """The refusals above do not refuse everything."""
    found = parse_file(foreign(lambda file: file.create_dataset("a", data=A), tmp_path), EXPECTED)
    assert found["a"].tobytes() == A.tobytes()


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"x" * 4096, build_file({"a": A})[0][:300]])
def test_bytes_that_are_no_hdf5_are_refused(data):
    """Empty, cut and foreign bytes give the same one error."""
    with pytest.raises(ForeignFileError):
        parse_file(data, EXPECTED)


def test_what_is_built_is_what_h5py_reads():
    """Anybody's h5py sees the arrays under their names."""
    with h5py.File(io.BytesIO(build_file({"a": A})[0])) as file:
        assert file["a"][1, 2] == 5


def test_a_build_after_an_interrupted_one(monkeypatch):
    """A build that Ctrl-C left, its file in memory still open, does not stand in the way of the next one."""
    left = []
    create = h5py.h5f.create

    def interrupted(*args, **kwargs):
        left.append(create(*args, **kwargs))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(h5py.h5f, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_file({"embeddings": np.zeros((1, 2), np.float32)})
    assert left
    assert build_file({"embeddings": np.zeros((1, 2), np.float32)})
