"""Several labels a row, and numbers, as a table has them."""

import numpy as np
import pytest

from featcache.errors import UsageError
from featcache.listing.listing import Listing
from featcache.listing.sources import list_data_settings, name_variant
from featcache.listing.targets import RowTargets
from featcache.store.listings import ExtractedListing, decode_listing, encode_listing
from tests.builders import list_split, write_table
from tests.listing.conftest import recipe_of, refused


def test_labels_stand_in_a_cell(tmp_path):
    """In any order, with blanks around them; an empty cell has none; the names are sorted."""
    root = write_table(tmp_path, ("path", "label"), ("a.png", "round| red"), ("b.png", ""), ("c.png", "red"))
    listing = list_split(recipe_of(root, targets="labels"), "train")
    assert (listing.classes, listing.variant) == (("red", "round"), "all-labels")
    assert listing.targets.values.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert [listing.label_text(row) for row in range(3)] == ["red | round", "none", "red"]
    assert listing.support().tolist() == [2, 1]


def test_labels_stand_in_columns_of_0_and_1(tmp_path):
    """One column a label, in the order of the recipe, true and false included."""
    rows = [("path", "red", "round"), ("a.png", "1", "0"), ("b.png", "True", "false")]
    recipe = recipe_of(write_table(tmp_path, *rows), targets="labels", target_columns=["round", "red"])
    listing = list_split(recipe, "train")
    assert (listing.classes, listing.targets.values.tolist()) == (("round", "red"), [[0, 1], [0, 1]])
    assert name_variant(recipe) == "all-labels-round_red"


def test_numbers_stand_in_columns(tmp_path):
    """One or several; the column "value" where the recipe names none."""
    root = write_table(tmp_path, ("path", "value", "angle"), ("a.png", "-1.5e3", "2"), ("b.png", "7", "0.25"))
    assert list_split(recipe_of(root, targets="value"), "train").targets.values.tolist() == [[-1500], [7]]
    recipe = recipe_of(root, targets="value", target_columns=["value", "angle"])
    listing = list_split(recipe, "train")
    assert listing.label_text(1) == "value 7, angle 0.25"
    assert list_data_settings(recipe)["target_columns"] == '["value", "angle"]'


@pytest.mark.parametrize(
    ("keys", "cells", "message"),
    [
        ({"targets": "labels", "label_names": ["red", "round"]}, ("red|rond",),
         "line 2: label 'rond' is none of the recipe's label_names; did you mean round?"),
        ({"targets": "labels"}, ("", " | "), "line 2: no row has a label in column 'label'; give some"),
        ({"targets": "labels"}, ("red|re\u0301d", "réd"), "two spellings of one label"),
        ({"targets": "value", "target_columns": ["label"]}, ("dark",),
         "line 2: label is 'dark', which is no number; expected one such as 0.25"),
        ({"targets": "value", "target_columns": ["label"]}, ("",), "line 2: no label; expected a number"),
        ({"targets": "value", "target_columns": ["label"]}, ("nan",), "line 2: label is 'nan'; expected a finite"),
        ({"targets": "labels", "target_columns": ["label"]}, ("maybe",), "line 2: label is 'maybe', expected 1 where"),
        ({"targets": "value"}, ("1",), "no column 'value'; found 'path', 'label'"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_one_sentence_with_its_line(tmp_path, keys, cells, message):
    """An unknown label, two spellings, a number that is none: what stands there, and what is expected."""
    rows = [(f"{number}.png", cell) for number, cell in enumerate(cells)]
    assert message in refused(recipe_of(write_table(tmp_path, ("path", "label"), *rows), **keys))


def test_a_label_in_no_row_is_a_note(tmp_path):
    """The recipe may name labels that do not occur: the listing has them, and says so."""
    recipe = recipe_of(write_table(tmp_path, ("path", "label"), ("a.png", "red")), targets="labels",
                       label_names=["red", "blue"])  # fmt: skip
    listing = list_split(recipe, "train")
    assert (listing.classes, listing.support().tolist()) == (("red", "blue"), [1, 0])
    assert listing.remarks() == ["blue is in no row of the table: nothing can be learnt of such a label"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"label_separator": ";"}, 'label_separator is for cells with several labels: targets = "labels"'),
        ({"target_columns": ["a"]}, "target_columns has no effect with one class a row"),
        ({"targets": "value", "label_column": "a"}, "label_column has no effect beside the columns of the targets"),
        ({"targets": "value", "target_columns": ["a", "a"]}, "expected at least one name, and each once"),
        ({"targets": "number"}, "data.targets: found 'number', expected label, labels or value"),
    ],
)
def test_a_setting_without_effect_is_refused(tmp_path, keys, message):
    """What belongs to other targets is refused, and never left aside."""
    with pytest.raises(UsageError) as caught:
        recipe_of(tmp_path, **keys)
    assert message in str(caught.value)


def test_a_listing_comes_back_from_the_disk_with_its_targets():
    """Labels and numbers alike; a listing of classes has the bytes that it always had."""
    one = {"data_set": "d", "variant": "v", "split": "train", "root": "/d", "classes": ("a", "b"),
           "paths": ("x", "y"), "labels": np.zeros(2, np.int64), "clips": ("", ""), "subjects": ("", "")}  # fmt: skip
    digests, reasons = np.zeros((2, 32), np.uint8), ("", "")
    for kind, values in (("labels", [[1, 0], [1, 1]]), ("value", [[0.1, -2], [3, 1e30]])):
        listing = Listing(**one, targets=RowTargets(kind, np.array(values, float)))
        back = decode_listing(encode_listing(ExtractedListing(listing, digests, reasons))).listing.targets
        assert (back.kind, back.values.tolist()) == (kind, values)
    plain = encode_listing(ExtractedListing(Listing(**one), digests, reasons))
    assert b"targets" not in plain
    assert b'"version": 1' in plain
