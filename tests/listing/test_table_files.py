"""The file of a table: encodings, line ends, quoting and Parquet; names come back as they were written."""

import builtins
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.listing.spellings import same_name_key
from featcache.recipe.recipe import Recipe
from tests.builders import find_recipe_splits, list_split, write_table
from tests.listing.conftest import recipe_of, refused


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


def test_a_header_in_another_spelling_is_shown_as_it_differs(tmp_path):
    """A column whose name differs in its Unicode form alone is shown with escapes."""
    root = write_table(tmp_path, ("path", "cafe\u0301"), ("a", "x"))
    assert r"no column 'caf\xe9'; found 'path', 'cafe\u0301'" in refused(recipe_of(root, label_column="caf\u00e9"))


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
        ("path|label\na|b\n", "no column 'path'; found 'path|label'"),
    ],
)
def test_a_table_without_rows_or_columns_says_so(tmp_path, text, said):
    """An empty table, one without rows, and one with another separator are told apart."""
    (tmp_path / "labels.csv").write_text(text)
    assert said in refused(recipe_of(tmp_path))


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    """A Parquet table asks for pyarrow where that is not installed."""
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install pyarrow.*save the table as CSV"):
        find_recipe_splits(recipe_of(tmp_path, table="labels.parquet"))


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
    assert "not a Parquet file" in refused(recipe)
