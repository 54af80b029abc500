"""Two spellings of one name: refused where they meet, left alone where a data set has one of them throughout."""

import csv
import time
import unicodedata
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.dataset.summary import describe
from featcache.errors import DataError
from featcache.listing.folder import list_folder
from featcache.listing.sources import resolve_source
from featcache.listing.spellings import (
    find_spelling_faults,
    look_alike_key,
    note_look_alikes,
    same_name_key,
)
from featcache.listing.split_assignment import respell_groups
from featcache.recipe import Recipe, check_recipe
from tests.builders import list_split

SAME = [
    ("caf\u00e9", "cafe\u0301"), ("cat", "cat "), ("cat", " cat"), ("hot dog", "hot  dog"), ("hot dog", "hot\u00a0dog"),
    ("hot dog", "hot\tdog"), ("cat", "cat\u200b"), ("cat", "\ufeffcat"), ("cat", "c\u00adat"), ("cat", "cat\n"),
    ("0", "0.0"), ("1", "01"), ("1", "1."), ("1", "+1"), ("0", "-0"), ("10", "1e+1"), ("1", "1.0e+0"),
    ("100000", "1E+05"), ("0.0", "0.00"), ("1.0", "01.00"), ("1", "\uff11"), ("1", "1 "), ("\u2126", "\u03a9"),
    ("\u212b", "\u00e5".upper()),
    ("\uac00", "\u1100\u1161"), ("a\u0323\u0307", "a\u0307\u0323"), ("\u2764", "\u2764\ufe0f"), ("cat\r", "cat"),
    ("a\u200d\u0301", "\u00e1"), ("hot\u3000dog", "hot dog"), ("cat\x00", "cat"), ("cat\x1f", "cat"),
]  # fmt: skip
DIFFERENT = [
    ("Cat", "cat"), ("a", "b"), ("1", "2"), ("1", "1.5"), ("1", "1a"), ("00a", "0a"), ("inf", "infinity"),
    ("nan", "NaN"),
    ("1_000", "1000"), ("1e0", "1"), ("m\u00b2", "m2"), ("hot_dog", "hot dog"),
    ("12345678901234567890", "12345678901234567891"),
    ("\U0001f3f4\U000e0067\U000e007f", "\U0001f3f4\U000e0073\U000e007f"), ("1,5", "15"), ("", "0"),
    ("-1", "1"), ("1e+1", "1e+2"), ("1.1", "1.10"), ("0.5", ".5"), ("0.0001", "1e-04"), ("1.10.0", "1.1.0"),
]  # fmt: skip


def laid(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def table(root: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = ("path", "label", "split")) -> Recipe:
    root.mkdir(exist_ok=True)
    with (root / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    for row in rows:
        (root / row[0]).touch()
    return check_recipe({"name": "t", "data": {"layout": "table", "root": str(root), "table": "t.csv"}}, where="test")


def refused(recipe: Recipe) -> str:
    with pytest.raises(DataError) as caught:
        list_split(recipe, "train")
    assert caught.value.exit_code == 4
    return str(caught.value)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_name_share_a_key(one, other):
    """Unicode forms, blanks, what cannot be seen and ways to write a number make no other name."""
    assert one != other
    assert same_name_key(one) == same_name_key(other)
    (fault,) = find_spelling_faults("label", [one, other], lambda name: "here")
    assert ascii(one) in fault
    assert ascii(other) in fault


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_names_share_none(one, other):
    """Names that a person tells apart, and codes that merely look like numbers, stay two names."""
    assert same_name_key(one) != same_name_key(other)
    assert not find_spelling_faults("label", [one, other], lambda name: "here")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"), ("1e0", "1"), ("m\u00b2", "m2"), ("hot_dog", "hot dog"), ("hot-dog", "hot_dog"),
        ("\uff43at", "cat"),
        ("men's", "men\u2019s"), ("a\u2013b", "a-b"), ("stra\u00dfe", "strasse"), ("\u0441at", "cat"),
        ("\ufb01sh", "fish"), ("1.1", "1.10"), ("0.5", ".5"), ("0.0001", "1e-04"), ("1.5", "\uff11.50"),
    ],
)  # fmt: skip
def test_names_that_look_alike_are_a_note(tmp_path, one, other):
    """They may be two classes, so they stay two; the note shows both so that they can be told apart."""
    recipe = table(tmp_path, ("a", one, "train"), ("b", other, "train"))
    found = list_split(recipe, "train")
    assert found.classes == tuple(sorted([one, other]))
    first, second = map(ascii, sorted([one, other]))
    assert found.remarks() == [f"labels that look alike and are taken for different ones: {first} and {second}"]


@settings(max_examples=150, deadline=None)
@given(st.integers(-(10**20), 10**20), st.integers(0, 8), st.integers(0, 3))
def test_a_number_has_one_key_however_it_is_written(digits, places, zeros):
    """Decimals of one value share the key of what looks alike, whole ones the key of one name, too; those of two
    values share neither, with as many digits as there may be.
    """
    value, next_to_it = (Decimal(number).scaleb(-places) for number in (digits, digits + 1))
    plain = f"{value:f}"
    padded = "-" * (value < 0) + "0" * zeros + plain.lstrip("-") + ("" if "." in plain else ".") + "0" * zeros
    texts = (plain, padded, f"{value:E}".replace("E-", "e-"), f" {plain}")
    for key in [look_alike_key, *([same_name_key] if value == value.to_integral_value() else [])]:
        keys = {key(text) for text in texts}
        assert len(keys) == 1
        assert key(f"{next_to_it:f}") not in keys
    assert same_name_key(f"{next_to_it:f}") not in map(same_name_key, texts)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=8))
def test_a_key_is_the_same_for_every_normal_form(name):
    """Whatever a name holds, its Unicode forms and blanks around it share its key, and a key is its own."""
    key = same_name_key(name)
    for form in ("NFC", "NFD"):
        assert same_name_key(unicodedata.normalize(form, f" {name}\u00a0")) == key
    assert key.startswith("number\n") or same_name_key(key) == key
    assert look_alike_key(name) == look_alike_key(unicodedata.normalize("NFC", name))


def test_one_form_throughout_is_left_as_it_is(tmp_path):
    """A data set from a Mac, all NFD, or with a blank behind every label, is read without a word."""
    laid(tmp_path / "d", "train/cafe\u0301/1.png", "val/cafe\u0301/1.png", "train/dog /1.png", "val/dog /1.png")
    found = list_folder(str(tmp_path / "d"), "train", data_set="d")
    assert (found.classes, found.remarks()) == (("cafe\u0301", "dog "), [])
    assert list_split(table(tmp_path / "t", ("a", "0.0", "train"), ("b", "1.0", "val")), "train").classes == (
        "0.0",
        "1.0",
    )


def test_two_forms_of_a_class_folder_are_refused_in_whatever_splits_they_stand(tmp_path):
    """Both folders are named with escapes, whichever split was asked for."""
    laid(tmp_path, "train/caf\u00e9/1.png", "val/cafe\u0301/1.png", "val/dog/1.png")
    for split in ("train", "val"):
        with pytest.raises(DataError) as caught:
            list_folder(str(tmp_path), split, data_set="d")
        assert str(caught.value) == (
            rf"{tmp_path}: two spellings of one class: 'cafe\u0301' (val/cafe\u0301) and 'caf\xe9' (train/caf\xe9), "
            r"which are the same in Unicode's normal form NFC. Rename folders so that a name is spelled in one way."
        )


@pytest.mark.parametrize("files", [("train /a/1.png", "train/a/1.png"), ("01/a/1.png", "1/a/1.png", "train/a/1.png")])
def test_two_spellings_of_a_split_are_refused(tmp_path, files):
    """A split folder with a blank behind it, or another zero, is named beside its twin."""
    with pytest.raises(DataError, match="two spellings of one split"):
        list_folder(str(laid(tmp_path, *files)), "train", data_set="d")


def test_two_spellings_of_a_clip_folder_are_refused(tmp_path):
    """Two clip folders that only bytes tell apart are named; zeros in folders' numbers are left alone."""
    laid(tmp_path, "train/a/run\u00e9/1.png", "train/a/rune\u0301/1.png")
    with pytest.raises(DataError, match="two spellings of one clip"):
        list_folder(str(tmp_path), "train", data_set="d")
    found = list_folder(str(laid(tmp_path / "d", "train/a/1/1.png", "train/a/01/1.png")), "train", data_set="d")
    assert len(set(found.clips)) == 2


@pytest.mark.parametrize("column", ["label", "split", "clip", "subject"])
def test_two_spellings_in_a_table_are_named_with_their_lines(tmp_path, column):
    """Labels, splits, clips and subjects alike, the rows of all splits together."""
    columns = ("path", "label", "split", "clip", "subject")
    rows = [["a", "x", "train", "c", "s"], ["b", "y", "train", "d", "t"], ["c", "x", "train", "c", "s"]]
    rows[0][columns.index(column)], rows[2][columns.index(column)] = "1", "1.0"
    message = refused(table(tmp_path, *map(tuple, rows), columns=columns))
    assert f"two spellings of one {column}: '1' (line 2) and '1.0' (line 4), which are the same number" in message


def test_a_subject_spelled_twice_is_refused_though_each_split_has_one_spelling(tmp_path):
    """Else a person would stand on both sides of a split unseen."""
    columns = ("path", "label", "split", "subject")
    recipe = table(tmp_path, ("a", "x", "train", "vp1"), ("b", "x", "val", "vp1 "), columns=columns)
    assert "two spellings of one subject: 'vp1' (line 2) and 'vp1 ' (line 3), which differ in blanks alone" in refused(
        recipe
    )


def test_case_alone_is_an_error_only_where_no_split_has_both(tmp_path):
    """`A` and `a` may be letters; where each has splits of its own, a head would never learn what it is asked."""
    both = table(tmp_path, ("a", "A", "train"), ("b", "a", "train"), ("c", "a", "val"))
    assert list_split(both, "train").classes == ("A", "a")
    apart = table(tmp_path, ("a", "A", "train"), ("b", "a", "val"))
    fault = "'A' (line 2) and label 'a' (line 3) differ in upper and lower case alone, and no split has both"
    assert fault in refused(apart)
    laid(tmp_path / "d", "train/A/1.png", "val/a/1.png")
    with pytest.raises(DataError, match=r"class 'A' \(train/A\) and class 'a' \(val/a\) differ in upper"):
        list_folder(str(tmp_path / "d"), "val", data_set="d")


def test_data_and_json_carry_the_note(tmp_path):
    """`featcache data` says that two classes look alike, once for all splits."""
    laid(tmp_path, "train/A/1.png", "train/a/1.png", "val/A/1.png", "val/a/1.png")
    found = describe(data=str(tmp_path), cache=tmp_path / "cache")
    note = "classes that look alike and are taken for different ones: 'A' and 'a'"
    assert found.notes == (note,)
    assert list(found.to_json()["notes"]) == [note]


def test_a_class_folder_that_is_not_utf8_is_refused(tmp_path):
    """A class is text; a file, and a folder below the class, may have any name."""
    laid(tmp_path, "train/K\udce4fer/1.png", "train/cat/1.png")
    with pytest.raises(DataError, match=r"class folder train/K\\udce4fer is not UTF-8.*convmv") as caught:
        list_folder(str(tmp_path), "train", data_set="d")
    assert caught.value.exit_code == 4
    found = list_folder(str(laid(tmp_path / "d", "train/cat/\udce4/\udce4.png")), "train", data_set="d")
    assert found.paths == ("train/cat/\udce4/\udce4.png",)


def test_a_blank_class_folder_is_refused(tmp_path):
    """A name of blanks, or of what cannot be seen, names nothing."""
    for name in (" ", "\u00a0", "\u200b"):
        with pytest.raises(DataError, match="is blank"):
            list_folder(str(laid(tmp_path / ascii(name), f"train/{name}/1.png")), "train", data_set="d")


def test_splits_that_were_dealt_outlive_a_corrected_name(tmp_path):
    """A subject whose name was corrected stays in the split that it was dealt to."""
    assert respell_groups({"vp1 ": "val", "vp2": "train"}, ["vp1", "vp2"]) == {
        "vp1 ": "val",
        "vp2": "train",
        "vp1": "val",
    }
    columns = ("path", "label", "subject")
    rows = [(f"{n}.png", str(n % 2), f"caf\u00e9{n}") for n in range(12)]
    recipe = table(tmp_path, *rows, columns=columns)
    document = recipe.model_dump()
    document["data"]["split"] = {"val": 0.4, "by": "subject"}
    before = resolve_source(check_recipe(document, where="test")).groups  # type: ignore[attr-defined]
    decomposed = {unicodedata.normalize("NFD", group): split for group, split in before.items()}
    after = resolve_source(check_recipe(document, where="test"), decomposed).groups  # type: ignore[attr-defined]
    assert {group: after[group] for group in before} == before


def test_many_names_take_little_time():
    """A quarter of a million different clips are looked through in a moment."""
    names = [f"train/class_{n % 34}/vp{n % 15}/run{n}b_2018-05-29-15-56-04.ids_1" for n in range(260_000)]
    begun = time.process_time()
    assert not find_spelling_faults("clip", names, str)
    assert time.process_time() - begun < 5  # 1 s on one core
    assert not note_look_alikes("class", names[:34])
