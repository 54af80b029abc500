"""Data sets in tar files: their rows, labels and splits, and an outcome for all that may be wrong with them."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

import featcache
from featcache.errors import Correction, DataError
from featcache.listing import is_of_containers, resolve_source
from featcache.recipe import check_recipe
from tests.builders import write_table
from tests.packed import write_lmdb, write_parquet, write_saved, write_tar


def source_of(root: Path | str, **keys: object):
    data = {"layout": "container", "root": str(root), **keys}
    return resolve_source(check_recipe({"name": "birds", "data": data}, where="test"))


def rows_of(root: Path | str, split: str = "train", **keys: object) -> list[tuple[str, str]]:
    """Return path and label of every row of a split."""
    listing = source_of(root, **keys).listing(split)
    return [(path, listing.classes[label]) for path, label in zip(listing.paths, listing.labels, strict=True)]


def refused(root: Path | str, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        source_of(root, **keys).splits()
    return str(caught.value)


def test_labels_stand_beside_the_images(tmp_path):
    """`key.cls` holds the label as text; of JSON it is the field label, cls or class, or the one that is named."""
    members = {
        "a.jpg": b"", "a.cls": b"ants\n", "b/c.png": b"", "b/c.json": b'{"label": "bees", "kind": 7}',
        "d.jpg": b"", "d.json": b'{"cls": 3}', "d.txt": b"a caption", "e.pyd": b"pickle",
    }  # fmt: skip
    path = write_tar(tmp_path / "a.tar", members)
    assert rows_of(path) == [("a.tar#a.jpg", "ants"), ("a.tar#b/c.png", "bees"), ("a.tar#d.jpg", "3")]
    notes = source_of(path).listing("train").remarks()
    assert notes == ["a.tar: members that are no images by their names: .pyd (1), .txt (1)"]
    assert "a.tar: d.jpg: no label; expected d.cls, or .json with the field 'kind'" in refused(
        path, label_column="kind"
    )


def test_json_names_split_clip_and_subject(tmp_path):
    """What a sample's JSON says of split, clip and subject is kept; `validation` is val."""
    samples = {"1": ("train", "k1", "ann"), "2": ("validation", "k2", "bob")}
    members = {}
    for key, (split, clip, subject) in samples.items():
        document = {"label": "x", "split": split, "clip": clip, "subject": subject}
        members |= {f"{key}.jpg": b"", f"{key}.json": json.dumps(document).encode()}
    source = source_of(write_tar(tmp_path / "a.tar", members))
    assert source.splits() == ["train", "val"]
    val = source.listing("val")
    assert (val.paths, val.clips, val.subjects) == (("a.tar#2.jpg",), ("k2",), ("bob",))


def test_a_part_of_a_sample_is_no_image_of_its_own(tmp_path):
    """Beside `a.jpg`, `a.seg.png` is a part of the sample; where no plain image stands beside it, it is the image."""
    members = dict.fromkeys(("a.jpg", "a.seg.png", "b.left.jpg", "b.right.jpg"), b"") | {"a.cls": b"x", "b.cls": b"y"}
    expected = [("s.tar#a.jpg", "x"), ("s.tar#b.left.jpg", "y"), ("s.tar#b.right.jpg", "y")]
    assert rows_of(write_tar(tmp_path / "s.tar", members)) == expected


@pytest.mark.parametrize(
    ("names", "splits", "labels"),
    [
        (["ants/1.jpg", "bees/1.jpg"], ["train"], {"ants", "bees"}),
        (["photos/ants/1.jpg", "photos/bees/1.jpg"], ["train"], {"ants", "bees"}),
        (["p/train/ants/1.jpg", "p/val/bees/1.jpg"], ["train", "val"], {"ants"}),
        (["train/ants/1.jpg", "train/bees/1.jpg"], ["train"], {"ants", "bees"}),
        (["ants/1.jpg"], ["train"], {"ants"}),
    ],
)
def test_an_image_folder_that_was_packed_is_listed_as_it_was(tmp_path, names, splits, labels):
    """Without labels beside the images, the folders of their names are splits and classes."""
    path = write_tar(tmp_path / "a.tar", dict.fromkeys(names, b""))
    assert source_of(path).splits() == splits
    assert {label for _, label in rows_of(path)} == labels


def test_a_folder_below_the_class_is_the_clip(tmp_path):
    """As in an image folder."""
    path = write_tar(tmp_path / "a.tar", {"ants/run1/1.jpg": b"", "bees/1.jpg": b""})
    assert source_of(path).listing("train").clips == ("ants/run1", "")


def test_shards_have_the_split_that_their_names_say(tmp_path):
    """A word of the file's name, or the folder it lies in; the classes are those of all splits."""
    for name in ("train-000.tar", "train-001.tar", "valid-000.tar", "test/000.tar"):
        write_tar(tmp_path / name, {"1.jpg": b"", "1.cls": name[:2].encode()})
    source = source_of(tmp_path)
    assert source.splits() == ["train", "val", "test"]
    assert source.listing("val").paths == ("valid-000.tar#1.jpg",)
    assert source.listing("val").classes == ("te", "tr", "va")
    assert rows_of(f"{tmp_path}/train-{{000..001}}.tar") == [
        ("train-000.tar#1.jpg", "tr"),
        ("train-001.tar#1.jpg", "tr"),
    ]


def test_what_a_row_says_of_its_split_comes_before_the_name_of_its_file(tmp_path):
    """A file train.parquet with a column that says test: a test image is not trained on. Else the name says it."""
    rows = [{"image": b"a", "label": "x", "split": "test"}, {"image": b"b", "label": "x", "split": None}]
    write_parquet(tmp_path / "train.parquet", rows)
    assert source_of(tmp_path).splits() == ["train", "test"]
    assert rows_of(tmp_path, "test") == [("train.parquet#000000", "x")]


def test_what_systems_leave_is_left_out(tmp_path):
    """A Mac's `._` files in a tar are no images; they are counted like those of a folder."""
    path = write_tar(tmp_path / "a.tar", dict.fromkeys(("x/1.jpg", "x/._1.jpg", "__MACOSX/x/1.jpg"), b""))
    assert rows_of(path) == [("a.tar#x/1.jpg", "x")]
    assert "2 hidden entries or system leftovers were left out" in source_of(path).listing("train").remarks()[0]


def test_links_and_names_that_lead_out_are_no_rows(tmp_path):
    """They are named in a note, and the rest is listed."""
    path = write_tar(tmp_path / "a.tar", {"x/1.jpg": b"", "../x/2.jpg": b"", "/x/3.jpg": b""})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("x/4.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert rows_of(path) == [("a.tar#x/1.jpg", "x")]
    assert source_of(path).listing("train").remarks() == [
        "a.tar: links, devices and sparse files are no rows: x/4.jpg",
        "a.tar: absolute names and names with '..' are no rows: ../x/2.jpg and 1 more",
    ]


def test_every_image_without_a_label_is_named(tmp_path):
    """A missing label, one that is no text, JSON that is none, and a key that stands there twice: all at once."""
    members = [("1.jpg", b""), ("1.cls", b"x"), ("2.jpg", b""), ("3.jpg", b""), ("3.cls", b"\xff"), ("1.jpg", b"")]
    message = refused(write_tar(tmp_path / "a.tar", [*members, ("4.jpg", b""), ("4.json", b"{")]))
    assert message.startswith(f"{tmp_path}/a.tar: 6 problems\n")
    assert "a.tar: 1.jpg: two members have this name" in message
    assert "a.tar: 2.jpg: no label; expected 2.cls, or .json with the field 'label'" in message
    assert "a.tar: 3.cls: no text in UTF-8" in message
    assert "a.tar: 4.json: no JSON" in message


def test_a_container_without_labels_beside_others_with_labels_is_named(tmp_path):
    """Its images are refused: they would be of a class without a name, whatever their folders are called."""
    write_tar(tmp_path / "a.tar", {"1.jpg": b"", "1.cls": b"x"})
    write_tar(tmp_path / "b.tar", {"x/2.jpg": b"", "y/3.jpg": b""})
    assert "b.tar: no label stands beside x/2.jpg or another image of it, as in other files" in refused(tmp_path)


def test_an_image_in_no_folder_has_no_label(tmp_path):
    """Where nothing says what an image is, it is named."""
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"", "x/2.jpg": b""})
    assert "a.tar#1.jpg: no label stands beside it, and no folder of its name is a class" in refused(path)


def test_two_spellings_of_a_label_are_refused(tmp_path):
    """As in folders and tables, with the first row of each."""
    message = refused(write_tar(tmp_path / "a.tar", {"1.jpg": b"", "1.cls": b"1", "2.jpg": b"", "2.cls": b"01"}))
    assert "two spellings of one label: '01' (a.tar#2.jpg) and '1' (a.tar#1.jpg)" in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.tar", "it does not exist"),
        ("s-{0..3}.tar", "3 of 4 files missing: s-1.tar, s-2.tar, s-3.tar"),
        ("x*.tar", "this pattern matches no file"),
        ("a.tar.gz", "a compressed tar file"),
        ("empty.tar", "no image in it"),
        ("cut.tar", "cut off"),
    ],
)
def test_what_cannot_be_listed_is_refused_with_the_reason(tmp_path, name, reason):
    """A missing shard, a pattern of nothing, a compressed, an empty and a damaged tar: one sentence each."""
    data = write_tar(tmp_path / "s-0.tar", {"x/1.jpg": b"x" * 600}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:700])
    (tmp_path / "a.tar.gz").write_bytes(data)
    write_tar(tmp_path / "empty.tar", {"notes.txt": b""})
    assert reason in refused(tmp_path / name)


def test_a_misspelt_container_is_answered_with_the_one_that_is_meant(tmp_path, monkeypatch):
    """Of a name, the file beside it; of a pattern, the suffix under which files are there; each with its command."""
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "food-train.tar", {"x/1.jpg": b""})
    for typed, meant in (("food-trian.tar", "food-train.tar"), ("food*.tra", "'food*.tar'")):
        with pytest.raises(DataError, match="did you mean ") as caught:
            featcache.extract("train", data=typed, weights="random", cache=tmp_path / "cache")
        assert Correction(typed, meant) in caught.value.corrections


def test_a_folder_of_shards_is_told_from_images(tmp_path):
    """A folder with tar files alone is of containers; a tar that lies beside the images of a folder changes nothing."""
    write_tar(tmp_path / "shards/a.tar", {})
    write_tar(tmp_path / "photos/backup.tar", {})
    (tmp_path / "photos/ants").mkdir()
    (tmp_path / "photos/ants/1.jpg").touch()
    assert is_of_containers(str(tmp_path / "shards"))
    assert not is_of_containers(str(tmp_path / "photos"))
    assert not is_of_containers(str(tmp_path / "nowhere"))


def test_files_of_a_split_and_of_none_are_refused(tmp_path):
    """Where one file is of a split by its name, every one must be."""
    for name in ("train-0.tar", "more.tar"):
        write_tar(tmp_path / name, {"x/1.jpg": b""})
    assert "train-0.tar is of split 'train' by its name, and more.tar of none" in refused(tmp_path)


def test_containers_without_splits_are_divided(tmp_path):
    """`--val` and `--test` divide them, as they divide a folder."""
    members = {f"{name}/{number}.jpg": b"" for name in ("ants", "bees") for number in range(8)}
    source = source_of(write_tar(tmp_path / "a.tar", members), split={"val": 0.25, "test": 0.25, "by": "image"})
    assert source.splits() == ["train", "val", "test"]
    assert [len(source.listing(split)) for split in source.splits()] == [8, 4, 4]


def test_labels_of_a_table_are_a_column(tmp_path):
    """By Hugging Face's notes numbers have names; else text and numbers are classes as they are."""
    rows = [
        {"image": {"bytes": b"", "path": None}, "label": label, "split": "dev"} for label in ("bees", "ants", "bees")
    ]
    write_saved(tmp_path / "saved", rows)
    write_parquet(tmp_path / "a.parquet", [{"jpg": b"", "cls": number} for number in (7, 3)])
    assert [label for _, label in rows_of(tmp_path / "saved", "val")] == ["bees", "ants", "bees"]
    assert rows_of(tmp_path / "a.parquet") == [("a.parquet#000000", "7"), ("a.parquet#000001", "3")]


def test_named_columns_are_taken(tmp_path):
    """`image_column` and `label_column` decide; the column of the image is then a part of its key."""
    rows = [{"left": b"", "right": b"", "kind": "a", "label": "b"}]
    path = write_parquet(tmp_path / "a.parquet", rows)
    assert rows_of(path, image_column="right", label_column="kind") == [("a.parquet#right/000000", "a")]
    assert "name one in featcache.toml, as image_column" in refused(path)
    assert "no column 'sort'; its columns are 'left', 'right', 'kind', 'label'" in refused(
        path, image_column="left", label_column="sort"
    )


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"image": b"", "label": None}, {"image": b"", "label": "x"}], "no label in column 'label' of rows 000000"),
        ([{"image": b"", "label": [1, 2]}], "column 'label' is of type list"),
        ([{"image": b"", "label": 0.5}], "column 'label' is of type double; expected text or whole numbers"),
        ([{"image": b"", "text": "x"}], "no column is called like labels"),
        ([{"label": "x", "path": "a.jpg"}], "no column of image bytes"),
    ],
)
def test_a_table_without_images_or_labels_is_refused(tmp_path, rows, reason):
    """What is missing is named, with the columns that there are."""
    assert reason in refused(write_parquet(tmp_path / "a.parquet", rows))


def test_a_label_of_minus_one_is_missing(tmp_path):
    """Hugging Face writes -1 where a test split keeps its labels to itself."""
    path = write_saved(tmp_path / "saved", [{"image": {"bytes": b""}, "label": "x"}]) / "data-00000-of-00001.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    hidden = table.set_column(1, table.schema.field("label"), pa.array([-1]))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, hidden.schema) as stream:
        stream.write_table(hidden)
    assert "no label in column 'label' of rows 000000" in refused(tmp_path / "saved")


def test_what_datasets_remembers_beside_a_saved_set_is_no_part_of_it(tmp_path):
    """`map` leaves Arrow files in the folder; `state.json` says which count. Chosen rows must be written first."""
    folder = write_saved(tmp_path / "saved", [{"image": {"bytes": b""}, "label": "x"}])
    (folder / "cache-1234.arrow").write_bytes(b"")
    assert rows_of(folder) == [("data-00000-of-00001.arrow#000000", "x")]
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../../up.arrow"}]}')
    assert "state.json names no files" in refused(folder)
    (folder / "state.json").write_text('{"_indices_data_files": [{"filename": "i.arrow"}]}')
    assert "save it again after dataset.flatten_indices()" in refused(folder)


def test_keys_of_an_lmdb_file_name_images(tmp_path):
    """Folders of keys are classes; or a label stands under a key of its own. Counts are no images."""
    write_lmdb(tmp_path / "a/data.mdb", {b"ants/1": b"", b"bees/2": b"", b"__len__": b"2"})
    assert rows_of(tmp_path / "a") == [("data.mdb#ants/1", "ants"), ("data.mdb#bees/2", "bees")]
    pairs = {b"image-01": b"", b"label-01": b"x", b"image-02": b"", b"label-02": b"y", b"num-samples": b"2"}
    write_lmdb(tmp_path / "b/data.mdb", pairs)
    assert rows_of(tmp_path / "b") == [("data.mdb#image-01", "x"), ("data.mdb#image-02", "y")]
    write_lmdb(tmp_path / "c/data.mdb", {**pairs, b"label-02": b""})
    assert "image-02: no label; expected text under the key label-02" in refused(tmp_path / "c")


def test_a_key_with_a_zero_byte_is_refused(tmp_path):
    """`struct.pack(">I", 1)` as a key: a listing ends its names by zeros, and could not be read again."""
    write_lmdb(tmp_path / "data.mdb", {b"ants/\0\0\0\1": b"", b"bees/\0\0\0\2": b"", b"bees/3": b""})
    assert r"data.mdb: a key with a zero byte: ants/\x00\x00\x00\x01 and 1 more" in refused(tmp_path)


def test_a_label_without_an_image_takes_no_label_from_others(tmp_path):
    """Any pair of an image and its label tells that labels have keys of their own; a label that is alone is no row."""
    pairs = {b"image-01": b"", b"label-01": b"x", b"image-02": b"", b"label-02": b"y"}
    alone = {b"label-%02d" % number: b"z" for number in range(3, 40)}
    write_lmdb(tmp_path / "data.mdb", {**pairs, **alone})
    assert rows_of(tmp_path) == [("data.mdb#image-01", "x"), ("data.mdb#image-02", "y")]


def test_a_table_names_images_in_containers(tmp_path):
    """Labels of images in a tar may stand in a table; every row then names one, and the container must be there."""
    write_tar(tmp_path / "a.tar", {"1.jpg": b"", "2.jpg": b""})
    write_table(tmp_path, ("path", "label"), ("a.tar#2.jpg", "x"), ("a.tar#1.jpg", "y"), files=False)
    recipe = check_recipe(
        {"name": "t", "data": {"layout": "table", "root": str(tmp_path), "table": "labels.csv"}}, where="test"
    )
    listing = resolve_source(recipe).listing("train")
    assert listing.members
    assert listing.image_path(0) == (str(tmp_path / "a.tar"), "2.jpg")
    write_table(tmp_path, ("path", "label"), ("a.tar#2.jpg", "x"), ("b.tar#1.jpg", "y"), files=False)
    with pytest.raises(DataError, match=r"line 3: no file 'b\.tar'"):
        resolve_source(recipe).splits()
    write_table(tmp_path, ("path", "label"), ("a.tar#2.jpg", "x"), ("a.tar", "y"), files=False)
    with pytest.raises(DataError, match="where other rows name images in containers: make two tables"):
        resolve_source(recipe).splits()
