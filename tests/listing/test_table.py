"""A CSV that names images, with columns of any names, as a listing."""

import os
import re

import pytest

from featcache.errors import DataError
from featcache.listing import sheet
from featcache.listing.sources import locate_root, name_variant
from tests.builders import find_recipe_splits, list_split, write_table
from tests.listing.conftest import recipe_of, refused


def test_a_path_and_a_label_are_enough(tmp_path):
    """Without a split column every row is train; the rows keep their order, the classes are sorted."""
    root = write_table(tmp_path, ("path", "label"), ("b.png", "wren"), ("a.png", "owl"))
    assert find_recipe_splits(recipe_of(root)) == ["train"]
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
    assert find_recipe_splits(recipe_of(root)) == ["train", "val"]
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
    assert found.root == locate_root(recipe) == str(root / "tables")
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
    assert "line 1: there are two columns 'species'" in message
    assert "line 2: no file 'gone.png'" in message


def test_the_first_missing_file_says_where_it_was_looked_for(tmp_path):
    """Paths are relative to the table's folder, which only the first of the faults names."""
    root = write_table(tmp_path, ("path", "label"), ("b.png", "x"), ("a.png", "x"), files=False)
    message = refused(recipe_of(root))
    assert f"line 2: no file 'b.png' in {root}\n" in message
    assert message.endswith("line 3: no file 'a.png'")


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


@pytest.mark.parametrize("column", ["clip", "subject"])
def test_a_blank_cell_is_no_name(tmp_path, column):
    """A clip or subject of blanks would be one for all its rows: refused with its line; an empty one is none."""
    root = write_table(tmp_path, ("path", "label", column), ("a", "x", ""), ("b", "x", "\u00a0"))
    assert f"line 3: a blank {column}; leave the cell empty where there is none" in refused(recipe_of(root))


def test_a_row_in_a_folder_of_a_system_is_a_row(tmp_path):
    """What a table names is meant, wherever it lies."""
    paths = ("__MACOSX/a.png", "x/@eaDir/b.png", ".hidden/c.png", "lost+found/d.png")
    root = write_table(tmp_path, ("path", "label"), *((path, "x") for path in paths))
    assert list_split(recipe_of(root), "train").paths == paths


def test_a_table_or_a_split_that_is_not_there_is_named(tmp_path):
    """A missing table and a missing split are errors that say what was looked for."""
    assert "labels.csv: this table cannot be read: No such file" in refused(recipe_of(tmp_path))
    root = write_table(tmp_path, ("path", "label"), ("a", "x"))
    with pytest.raises(DataError, match="no row of split 'val' in it; found train"):
        list_split(recipe_of(root), "val")


def test_a_table_has_one_cut(tmp_path):
    """The variant of a table is that of a folder."""
    assert name_variant(recipe_of(tmp_path)) == "all"


@pytest.mark.parametrize("column", ["splitt", "spilt", "Splt"])
def test_a_misspelt_split_column_does_not_make_every_row_train(tmp_path, column):
    """Val and test would be trained on without a word."""
    (tmp_path / "t.csv").write_text(f"path,label,{column}\na.png,a,train\nb.png,b,val\n")
    found = sheet.read_sheet(str(tmp_path / "t.csv"), ("path", "label"), ("split",))
    assert any("would be left out" in problem for problem in found.problems)
    (tmp_path / "t.csv").write_text("path,label,split1,weight,slip\na.png,a,1,2,3\n")
    assert sheet.read_sheet(str(tmp_path / "t.csv"), ("path", "label"), ("split", "clip")).problems == ()


def test_a_path_may_name_a_frame_of_a_video(tmp_path):
    """Then every row does; the video must be there, and a frame of an image is no path."""
    write_table(tmp_path, ("path", "label"), ("a.mp4#000000", "owl"), ("b/c.MOV#000012", "wren"), files=False)
    assert "no file 'a.mp4'" in refused(recipe_of(tmp_path))
    (tmp_path / "b").mkdir()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b" / "c.MOV").touch()
    found = list_split(recipe_of(tmp_path), "train")
    assert (found.videos, found.paths) == (True, ("a.mp4#000000", "b/c.MOV#000012"))
    write_table(tmp_path, ("path", "label"), ("a.mp4#000000", "owl"), ("a.png", "wren"), files=False)
    (tmp_path / "a.png").touch()
    assert "line 3: an image, where other rows name frames of videos" in refused(recipe_of(tmp_path))
    write_table(tmp_path, ("path", "label"), ("a.png#000000", "owl"), files=False)
    assert "no file 'a.png#000000'" in refused(recipe_of(tmp_path))


@pytest.mark.parametrize("sign", [";", "\t"])
def test_semicolons_and_tabs_stand_between_columns(tmp_path, sign):
    """A header that has no comma says what does; a comma in a cell is a part of it."""
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text(f"path{sign}label\na.png{sign}bee, or wasp\n")
    assert list_split(recipe_of(tmp_path), "train").classes == ("bee, or wasp",)


def test_a_table_without_a_recipe_whose_columns_are_others_is_led_to_one(tmp_path):
    """The error names the command that writes the recipe; one that names columns says only what is missing."""
    root = write_table(tmp_path, ("path", "red", "round"), ("a.png", "1", "0"))
    shown = re.escape(f"`featcache init {root / 'labels.csv'}`")
    assert re.search(shown, refused(recipe_of(root)))
    assert not re.search(shown, refused(recipe_of(root, label_column="colour")))


def test_cells_that_look_like_several_labels_are_noted(tmp_path):
    """As one class, and with another sign between them than the recipe's: the note has the line to write."""
    rows = [("path", "label"), ("a.png", "red;round"), ("b.png", "red")]
    root = write_table(tmp_path, *rows)
    (note,) = list_split(recipe_of(root), "train").notes
    assert 'write targets = "labels" and label_separator = ";" into [data]' in note
    (note,) = list_split(recipe_of(root, targets="labels"), "train").notes
    assert "'red;round' is one label; write label_separator = \";\" into [data]" in note
    assert not list_split(recipe_of(root, targets="label"), "train").notes
    assert not list_split(recipe_of(root, targets="labels", label_separator=";"), "train").notes


def test_a_misspelt_split_is_noted(tmp_path):
    """Where the split that it may be is missing, and no other time."""
    rows = [("path", "label", "split"), ("a.png", "a", "train"), ("b.png", "b", "tset")]
    (note,) = list_split(recipe_of(write_table(tmp_path, *rows)), "train").notes
    assert note == "there is a split tset, and none called test: if it is that one, rename it to test"
    root = write_table(tmp_path, *rows, ("c.png", "a", "test"))
    assert not list_split(recipe_of(root), "train").notes


def test_the_nearest_table_is_named(tmp_path):
    """A table that is not there may be misspelt."""
    root = write_table(tmp_path, ("path", "label"), ("a.png", "a"), name="foods.csv")
    with pytest.raises(DataError, match=r"No such file or directory; did you mean .*foods\.csv\?"):
        list_split(recipe_of(root, table="food.csv"), "train")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_signs_in_quoted_names_and_in_cells_divide_no_columns(tmp_path, end):
    """The header alone says what stands between columns: a comma in a quoted name, or below it, does not."""
    lines = ['path;label;"size, mm"', "a.png;owl;1,5"]
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text(end.join(lines), newline="")
    assert list_split(recipe_of(tmp_path), "train").classes == ("owl",)
