"""A CSV that names images, with columns of any names, as a listing."""

import builtins
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import DataError, UsageError
from featcache.listing import sheet
from featcache.listing.sources import list_split, root_of, splits, variant
from featcache.listing.spellings import same_name_key
from featcache.recipe import Recipe, check_recipe
from tests.builders import write_table


def recipe_of(root: Path, **keys: object) -> Recipe:
    data = {"layout": "table", "root": str(root), "table": "labels.csv", **keys}
    return check_recipe({"name": "birds", "data": data}, where="test")


def refused(recipe: Recipe) -> str:
    with pytest.raises(DataError) as caught:
        splits(recipe)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_a_path_and_a_label_are_enough(tmp_path):
    """Without a split column every row is train; the rows keep their order, the classes are sorted."""
    root = write_table(tmp_path, ("path", "label"), ("b.png", "wren"), ("a.png", "owl"))
    assert splits(recipe_of(root)) == ["train"]
    found = list_split(recipe_of(root), "train")
    assert (found.paths, found.classes, found.labels.tolist()) == (("b.png", "a.png"), ("owl", "wren"), [1, 0])
    assert (found.clips, found.subjects) == (("", ""), ("", ""))
    assert (found.split, found.variant) == ("train", "all")


def test_columns_have_any_names(tmp_path):
    """The recipe names the columns; those that it does not name are left alone."""
    rows = [("file", "species", "where", "film", "bird", "label"), ("a.png", "owl", "dev", "f1", "Otto", "no")]
    root = write_table(tmp_path, *rows)
    names = {"path_column": "file", "label_column": "species", "split_column": "where", "clip_column": "film"}
    found = list_split(recipe_of(root, **names, subject_column="bird"), "dev")
    assert (found.classes, found.clips, found.subjects) == (("owl",), ("f1",), ("Otto",))


def test_a_column_by_its_usual_name_is_taken(tmp_path):
    """split, clip and subject need no word in the recipe: a table that has them means them."""
    rows = [("path", "label", "split", "clip", "subject"), ("a", "x", "val", "c", "s"), ("b", "y", "train", "", "")]
    root = write_table(tmp_path, *rows)
    assert splits(recipe_of(root)) == ["train", "val"]
    val = list_split(recipe_of(root), "val")
    assert (val.clips, val.subjects, val.classes, val.labels.tolist()) == (("c",), ("s",), ("x", "y"), [0])


def test_paths_are_relative_to_the_table(tmp_path):
    """A table below the root names files beside itself; an absolute path is taken as it is."""
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.touch()
    rows = [("path", "label"), ("img/a.png", "x"), ("../up.png", "x")]
    root = write_table(tmp_path / "data", *rows, name="tables/labels.csv")
    with (root / "tables/labels.csv").open("a") as file:
        file.write(f"{elsewhere},x\n")
    recipe = recipe_of(root, table="tables/labels.csv")
    found = list_split(recipe, "train")
    assert found.root == root_of(recipe) == str(root / "tables")
    assert all(os.path.isfile(found.file(row)) for row in range(3))
    assert found.file(2) == str(elsewhere)
    assert list_split(recipe_of(tmp_path, table=str(root / "tables/labels.csv")), "train").root == found.root


def test_every_fault_is_named_with_its_line(tmp_path):
    """Missing files, empty paths, labels and splits, a bad split name, a repeated row, a short line: one error."""
    rows = [
        ("path", "label", "split"),
        ("a.png", "x", "train"),
        ("gone.png", "x", "train"),
        ("b.png", " ", "train"),
        ("", "x", "train"),
        ("c.png", "x", ""),
        ("d.png", "x", "../up"),
        ("./a.png", "x", "train"),
        ("e.png", "x"),
    ]
    root = write_table(tmp_path, *rows, files=False)
    for name in "abcde":
        (root / f"{name}.png").touch()
    message = refused(recipe_of(root))
    assert "labels.csv: 7 problems" in message
    for line in (
        "line 3: no file 'gone.png'",
        "line 4: no label",
        "line 5: no path",
        "line 6: no split",
        "line 7: split '../up' would name a file of the cache",
        "line 8: the same row as line 2",
        "line 9: found 2 fields, expected 3",
    ):
        assert f"\n  {line}" in message


def test_missing_columns_are_all_named_with_what_is_there(tmp_path):
    """A column that the recipe names and the table lacks is named beside the other faults."""
    root = write_table(tmp_path, ("path", "species", "species"), ("gone.png", "owl", "owl"), files=False)
    message = refused(recipe_of(root, clip_column="film", subject_column="species"))
    assert "4 problems" in message
    assert "line 1: no column 'label'; found 'path', 'species', 'species'" in message
    assert "line 1: no column 'film'" in message
    assert "line 1: column 'species' stands there twice" in message
    assert "line 2: no file 'gone.png'" in message


def test_many_faults_are_counted(tmp_path):
    """Of fifty missing files twenty are named and thirty counted."""
    root = write_table(tmp_path, ("path", "label"), *((f"{at}.png", "x") for at in range(50)), files=False)
    message = refused(recipe_of(root))
    assert (message.count("no file"), message.endswith("… and 30 more")) == (20, True)


def test_one_image_may_stand_under_two_labels_or_in_two_clips(tmp_path):
    """The same path with another label, clip or split is no repeated row: `featcache data` counts those."""
    rows = [("path", "label", "clip"), ("a.png", "x", "1"), ("a.png", "y", "1"), ("a.png", "x", "2")]
    assert len(list_split(recipe_of(write_table(tmp_path, *rows)), "train")) == 3


def test_a_folder_and_a_fifo_are_told_from_files(tmp_path):
    """A path that names a folder is no file; a FIFO is one that fails when it is read."""
    root = write_table(tmp_path, ("path", "label"), ("dir", "x"), ("pipe", "x"), ("dir/", "x"), files=False)
    (root / "dir").mkdir()
    os.mkfifo(root / "pipe")
    message = refused(recipe_of(root))
    assert "2 problems" in message
    assert "line 2: no file 'dir'" in message


def test_fields_in_quotes_may_hold_line_ends(tmp_path):
    """A fault behind a field of two lines is named with the line that its row begins on."""
    root = write_table(tmp_path, ("path", "label"), ("a.png", "two\nlines"), ("gone.png", "x"), files=False)
    (root / "a.png").touch()
    assert "line 4: no file 'gone.png'" in refused(recipe_of(root))


name = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(name, name), min_size=1, max_size=8, unique_by=lambda row: row[0]))
def test_names_come_back_as_they_were_written(tmp_path_factory, rows):
    """Whatever a CSV writer can write, paths and labels are read back as they are, or refused by name."""
    root = write_table(tmp_path_factory.mktemp("any"), ("path", "label"), *rows, files=False)
    for path, _ in rows:
        if path not in (".", ".."):
            (root / path).touch()
    labels = {label for _, label in rows}
    spelled_twice = len({same_name_key(label) for label in labels}) < len(labels)
    blank = any(not path.strip() or not same_name_key(path) or not same_name_key(label) for path, label in rows)
    if blank or spelled_twice or {".", ".."} & {path for path, _ in rows}:
        assert "labels.csv: " in refused(recipe_of(root))
        return
    found = list_split(recipe_of(root), "train")
    assert [(path, found.classes[label]) for path, label in zip(found.paths, found.labels, strict=True)] == rows


def test_a_file_name_need_not_be_utf8(tmp_path):
    """A path with stray bytes names its file."""
    root = write_table(tmp_path, ("path", "label"), ("caf\udce9.png", "x"))
    assert os.path.isfile(list_split(recipe_of(root), "train").file(0))


@pytest.mark.parametrize("column", ["label", "split", "clip", "subject"])
def test_a_name_that_is_not_utf8_is_refused_with_its_line(tmp_path, column):
    """A label, split, clip or subject in Latin-1 is an error of exit code 4 that names line, cell and way out."""
    names = ("path", "label", "split", "clip", "subject")
    rows = [tuple("K\udce4fer" if name == column else f"x{n}" for name in names) for n in range(3)]
    root = write_table(tmp_path, names, ("ok", "x", "train", "x", "x"), *rows)
    message = refused(recipe_of(root))
    assert (
        f"line 3 and in 2 more: {column} 'K\\xe4fer' is not UTF-8; save it in UTF-8, for example with `iconv" in message
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_table_in_another_encoding_says_which(tmp_path, encoding):
    """A byte order mark of UTF-16 or UTF-32 is told by its name."""
    (tmp_path / "labels.csv").write_bytes("path,label\na,x\n".encode(encoding))
    assert f"line 1: this is {encoding.upper()}, not UTF-8; save it in UTF-8" in refused(recipe_of(tmp_path))


def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path):
    """A table that was saved on Windows is the same table."""
    root = write_table(tmp_path, ("path", "label"), ("a", "x"))
    (root / "labels.csv").write_bytes(b"\xef\xbb\xbfpath,label\r\na,x\r\n")
    assert (list_split(recipe_of(root), "train").paths, list_split(recipe_of(root), "train").classes) == (
        ("a",),
        ("x",),
    )


def test_a_missing_file_whose_name_is_not_utf8_is_shown_with_its_bytes(tmp_path):
    """A path in another encoding than the disk's is named by its bytes."""
    root = write_table(tmp_path, ("path", "label"), ("caf\udce9.png", "x"), files=False)
    assert "line 2: no file 'caf\\\\xe9.png'" in refused(recipe_of(root))


@pytest.mark.parametrize("column", ["clip", "subject"])
def test_a_blank_cell_is_no_name(tmp_path, column):
    """A clip or subject of blanks would be one for all its rows: refused with its line; an empty one is none."""
    root = write_table(tmp_path, ("path", "label", column), ("a", "x", ""), ("b", "x", "\u00a0"))
    assert f"line 3: a blank {column}; leave the cell empty where there is none" in refused(recipe_of(root))


def test_a_header_in_another_spelling_is_shown_as_it_differs(tmp_path):
    """A column whose name differs in its Unicode form alone is shown with escapes."""
    root = write_table(tmp_path, ("path", "cafe\u0301"), ("a", "x"))
    assert r"no column 'caf\xe9'; found 'path', 'cafe\u0301'" in refused(recipe_of(root, label_column="caf\u00e9"))


def test_a_row_in_a_folder_of_a_system_is_a_row(tmp_path):
    """What a table names is meant, wherever it lies."""
    paths = ("__MACOSX/a.png", "x/@eaDir/b.png", ".hidden/c.png", "lost+found/d.png")
    root = write_table(tmp_path, ("path", "label"), *((path, "x") for path in paths))
    assert list_split(recipe_of(root), "train").paths == paths


def test_parquet_cells_are_text_whatever_their_type(tmp_path):
    """Strings, categories, numbers and bytes become the text of a CSV; an absent one is no label; stray bytes and NULs
    are refused by row.
    """
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    def labels(column: object) -> Recipe:
        for n in range(2):
            (tmp_path / str(n)).touch()
        pq.write_table(pa.table({"path": ["0", "1"], "label": column}), tmp_path / "t.parquet")
        return recipe_of(tmp_path, table="t.parquet")

    for column, classes in (
        (pa.array([b"cat", b"dog"]), ("cat", "dog")),
        (pa.array(["cat", "dog"]).dictionary_encode(), ("cat", "dog")),
        (pa.array([1, 2]), ("1", "2")),
        (pa.array([1.0, 2.5]), ("1.0", "2.5")),
    ):
        assert list_split(labels(column), "train").classes == classes
    assert "row 2: no label" in refused(labels(pa.array([1.0, float("nan")])))
    assert r"row 2: label 'K\xe4fer' is not UTF-8" in refused(labels(pa.array([b"cat", b"K\xe4fer"])))
    stray = pa.array([b"cat", b"K\xe4fer"]).view(pa.string())
    assert r"row 2: label 'K\xe4fer' is not UTF-8" in refused(labels(stray))
    assert r"row 2: label 'd\x00g' holds a NUL character" in refused(labels(pa.array(["cat", "d\0g"])))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'path'; found nothing"),
        ("path,label\n", "no row below the header"),
        ("path;label\na;b\n", "no column 'path'; found 'path;label'"),
    ],
)
def test_a_table_without_rows_or_columns_says_so(tmp_path, text, said):
    """An empty table, one without rows, and one with another separator are told apart."""
    (tmp_path / "labels.csv").write_text(text)
    assert said in refused(recipe_of(tmp_path))


def test_a_table_or_a_split_that_is_not_there_is_named(tmp_path):
    """A missing table and a missing split are errors that say what was looked for."""
    assert "labels.csv: this table cannot be read: No such file" in refused(recipe_of(tmp_path))
    root = write_table(tmp_path, ("path", "label"), ("a", "x"))
    with pytest.raises(DataError, match="no row of split 'val' in it; found train"):
        list_split(recipe_of(root), "val")


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    """A Parquet table asks for pyarrow where that is not installed."""
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install pyarrow.*save the table as CSV"):
        splits(recipe_of(tmp_path, table="labels.parquet"))


def test_parquet_is_the_same_table(tmp_path):
    """A Parquet file gives the listing of the CSV; its faults are named by row."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["a", "b", "c"], "label": [1, 2, 1], "clip": ["x", None, "y"], "pixels": [b"1", b"2", b"3"]}
    parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
    recipe = recipe_of(tmp_path, table="labels.parquet")
    assert refused(recipe).count("\n  row ") == 3
    for path in "abc":
        (tmp_path / path).touch()
    found = list_split(recipe, "train")
    assert (found.classes, found.labels.tolist(), found.clips) == (("1", "2"), [0, 1, 0], ("x", "", "y"))
    (tmp_path / "labels.parquet").write_bytes(b"PAR1, or not")
    assert "no Parquet file" in refused(recipe)


def test_a_table_has_one_cut(tmp_path):
    """The variant of a table is that of a folder."""
    assert variant(recipe_of(tmp_path)) == "all"


@pytest.mark.parametrize("column", ["splitt", "spilt", "Splt"])
def test_a_misspelt_split_column_does_not_make_every_row_train(tmp_path, column):
    """Val and test would be trained on without a word."""
    (tmp_path / "t.csv").write_text(f"path,label,{column}\na.png,a,train\nb.png,b,val\n")
    found = sheet.read(str(tmp_path / "t.csv"), ("path", "label"), ("split",))
    assert any("would be left out" in problem for problem in found.problems)
    (tmp_path / "t.csv").write_text("path,label,split1,weight,slip\na.png,a,1,2,3\n")
    assert sheet.read(str(tmp_path / "t.csv"), ("path", "label"), ("split", "clip")).problems == ()
