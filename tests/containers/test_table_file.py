"""Parquet and Arrow files: any row's image in any order, and damage is told."""

import contextlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from featcache.containers import (
    ContainerError,
    MemberLocator,
    MemberPath,
    MemberReader,
    class_names,
    find_image_column,
    find_label_column,
    has_image_column,
    nearest_member,
    open_container,
    read_member,
    row_key,
)
from tests.packed import write_parquet, write_saved

LIMIT = 1 << 20
ROWS = [
    {"image": {"bytes": bytes([row]) * (50 + row), "path": f"{row}.jpg"}, "label": "ab"[row % 2]} for row in range(90)
]


def written(folder: Path, kind: str, rows: list[dict[str, object]]) -> Path:
    if kind == "arrow":
        return write_saved(folder, rows, rows_a_batch=20) / "data-00000-of-00001.arrow"
    return write_parquet(folder / "a.parquet", rows, row_group_size=40)


def schema(*columns: tuple[str, pa.DataType], notes: object = None) -> pa.Schema:
    features = None if notes is None else {"huggingface": json.dumps({"info": {"features": notes}})}
    return pa.schema(list(columns), metadata=features)


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@given(st.lists(st.integers(0, 89), min_size=1, max_size=12))
def test_any_row_is_read_in_any_order(tmp_path_factory, kind, order):
    """Forwards, backwards, within a row group and across: each row's image is its own."""
    path = str(written(tmp_path_factory.mktemp("rows"), kind, ROWS))
    with MemberReader() as reader:
        for row in order:
            assert reader.read(MemberPath(path, row_key(row)), LIMIT) == ROWS[row]["image"]["bytes"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("key", ["000090", "x", "-00001", "1", "000000000000000001"])
def test_a_row_that_is_not_there_is_told(tmp_path, kind, key):
    """A number behind the end, and what is no number."""
    with pytest.raises(OSError, match="the table has 90 rows, the first is number 0"):
        read_member(MemberPath(str(written(tmp_path, kind, ROWS)), key), LIMIT)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("typed", "meant"), [("3", "000003"), ("image/0089", "image/000089"), ("90", None), ("000003", None), ("x", None)]
)
def test_a_number_without_its_zeros_means_the_row(tmp_path, kind, typed, meant):
    """The path of the row as it is written; None where there is no such row, or nothing is wrong with the number."""
    path = str(written(tmp_path, kind, ROWS))
    assert nearest_member(MemberPath(path, typed)) == (None if meant is None else f"{path}#{meant}")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_row_without_bytes_follows_no_path(tmp_path, kind):
    """A path beside missing bytes leads out of the container, and is not followed; nor is there a picture of null."""
    rows = [{"image": {"bytes": None, "path": "/etc/passwd"}, "label": "a"}, *ROWS[1:3], {"image": None, "label": "a"}]
    path = str(written(tmp_path, kind, rows))
    for row in (0, 3):
        with pytest.raises(OSError, match="no bytes of an image; a path to a file elsewhere is not followed"):
            read_member(MemberPath(path, row_key(row)), LIMIT)
    assert read_member(MemberPath(path, row_key(2)), LIMIT) == ROWS[2]["image"]["bytes"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_no_container_stays_open_once_its_images_are_located(tmp_path, kind):
    """A data set of more files than a process may open is located all the same."""
    paths = [str(written(tmp_path / str(number), kind, ROWS)) for number in range(3)]
    before = len(os.listdir("/dev/fd"))
    locator = MemberLocator()
    assert [locator.locate(MemberPath(path, row_key(89)))[0] for path in paths] == [row_key(89)] * 3
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_an_image_that_is_too_large_is_refused(tmp_path, kind):
    """Its size is held against the limit."""
    with pytest.raises(OSError, match="139 bytes: larger than any supported image"):
        read_member(MemberPath(str(written(tmp_path, kind, ROWS)), row_key(89)), 138)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("left", [0, 10, 1000])
def test_a_table_that_is_cut_off_is_refused(tmp_path, kind, left):
    """An empty file, a start, and one without its end."""
    path = written(tmp_path, kind, ROWS)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ContainerError, match="or damaged or cut off"):
        open_container(str(path))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damage_gives_bytes_or_a_reason(tmp_path, kind):
    """Wherever a byte is changed, reading ends in bytes or in an OSError: nothing else, and no crash."""
    path = written(tmp_path, kind, ROWS)
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 60)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        for row in (0, 50):
            with contextlib.suppress(OSError):
                read_member(MemberPath(str(path), row_key(row)), LIMIT)


@pytest.mark.parametrize(
    ("columns", "notes", "expected"),
    [
        ([("image", IMAGE), ("label", pa.int64())], None, "image.bytes"),
        ([("picture_data", pa.binary())], None, "picture_data"),
        ([("thumb", IMAGE), ("full", IMAGE)], {"full": {"_type": "Image"}}, "full.bytes"),
        ([("key", pa.binary()), ("jpg", pa.large_binary())], None, "jpg"),
    ],
)
def test_the_column_of_images_is_found(columns, notes, expected):
    """By Hugging Face's notes, by its type, by its name, or because it is the only one of bytes."""
    assert find_image_column(schema(*columns, notes=notes)).leaf == expected


def test_columns_that_cannot_be_told_are_named():
    """No column of bytes, several, and a name that is none: each says what there is."""
    with pytest.raises(ContainerError, match="its columns are 'path', 'label'"):
        find_image_column(schema(("path", pa.string()), ("label", pa.string())))
    with pytest.raises(ContainerError, match="several columns may hold the images: 'a', 'b'; name one"):
        find_image_column(schema(("a", IMAGE), ("b", IMAGE)))
    with pytest.raises(ContainerError, match="no column 'c' of image bytes"):
        find_image_column(schema(("a", IMAGE)), "c")
    with pytest.raises(ContainerError, match="several hold classes: 'fine', 'coarse'"):
        find_label_column(
            schema(("fine", pa.int8()), ("coarse", pa.int8()), notes={"fine": {"names": []}, "coarse": {"names": []}})
        )


@pytest.mark.parametrize("notes", [None, [], {"label": 3}, {"label": {"names": "ab"}}, {"label": {"names": {"a": 1}}}])
def test_notes_of_any_kind_are_read_or_passed_over(notes):
    """What stands in the place of Hugging Face's notes may be anything."""
    table = schema(("label", pa.int64()), notes=notes)
    assert class_names(table, "label") == ()
    assert find_label_column(table) == "label"


def test_a_table_of_paths_has_no_images(tmp_path):
    """A Parquet file with paths as text, or as bytes that are no UTF-8, is a table."""
    assert has_image_column(str(write_parquet(tmp_path / "a.parquet", ROWS)))
    assert not has_image_column(str(write_parquet(tmp_path / "b.parquet", [{"path": "a.jpg", "label": "x"}])))
    assert not has_image_column(str(write_parquet(tmp_path / "c.parquet", [{"path": b"caf\xe9.jpg", "label": "x"}])))
    (tmp_path / "d.parquet").write_bytes(b"no Parquet")
    assert not has_image_column(str(tmp_path / "d.parquet"))


@pytest.mark.parametrize(("name", "find"), [("image", find_image_column), ("label", find_label_column)])
def test_two_columns_of_one_name_are_refused(tmp_path, name, find):
    """Which one is meant cannot be told; the name is in the sentence."""
    columns = {"image": pa.array([b"x"]), "label": pa.array(["a"])}
    names = ["image", "label", name]
    pq.write_table(pa.Table.from_arrays([columns[each] for each in names], names=names), tmp_path / "a.parquet")
    with contextlib.closing(open_container(str(tmp_path / "a.parquet"))) as file:
        schema = file.schema
    with pytest.raises(ContainerError, match=f"^2 columns are called '{name}', expected one; rename the others$"):
        find(schema)


def test_behind_a_row_that_failed_every_row_is_still_its_own(tmp_path):
    """What cannot be read for once fails alone: the rows behind it are not taken from what was read before."""
    path = str(written(tmp_path, "parquet", ROWS))
    with contextlib.closing(open_container(path)) as file:
        assert file.read(file.locate(row_key(0)), LIMIT) == ROWS[0]["image"]["bytes"]
        file._cursor.batches = iter(())  # nothing more comes
        with pytest.raises(ContainerError):
            file.read(file.locate(row_key(30)), LIMIT)
        for row in (31, 32, 1):
            assert file.read(file.locate(row_key(row)), LIMIT) == ROWS[row]["image"]["bytes"]
