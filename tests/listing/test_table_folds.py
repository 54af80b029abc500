"""Folds that a table names: the rows of one are test, and every fold is a variant of its own."""

import pytest

from featcache import DataError, UsageError
from featcache.dataset import DatasetRequest
from featcache.listing import name_variant
from featcache.recipe import check_recipe
from tests.builders import find_recipe_splits, list_split, write_table

HEADER = ("path", "label", "fold")


def recipe_of(folder, fold=0, **data):
    """The recipe of a table below a folder, with a column of folds."""
    keys = {"layout": "table", "root": str(folder), "table": "labels.csv", "fold_column": "fold", "fold": fold}
    return check_recipe({"name": "toy", "data": {**keys, **data}}, where="a test")


def test_the_rows_of_the_fold_are_test_and_the_others_are_what_their_split_says(tmp_path):
    """A row in no fold is never test; numbers may be written as fractions of 0."""
    rows = [("a.png", "x", "0"), ("b.png", "y", "1.0"), ("c.png", "x", ""), ("d.png", "y", "2"), ("e.png", "x", "1")]
    folder = write_table(tmp_path, HEADER, *rows)
    assert find_recipe_splits(recipe_of(folder)) == ["train", "test"]
    for fold, test, train in ((0, "a", "bcde"), (1, "be", "acd"), (2, "d", "abce")):
        recipe = recipe_of(folder, fold)
        assert [path[0] for path in list_split(recipe, "test").paths] == list(test)
        assert [path[0] for path in list_split(recipe, "train").paths] == list(train)
        assert name_variant(recipe) == f"fold{fold}-all"
    rows = [("path", "label", "fold", "split"), ("a.png", "x", "0", "val"), ("b.png", "y", "1", "val"),
            ("c.png", "x", "1", "train")]  # fmt: skip
    folder = write_table(tmp_path / "split", *rows)
    assert [list(list_split(recipe_of(folder), split).paths) for split in ("train", "val", "test")] == [
        ["c.png"], ["b.png"], ["a.png"],
    ]  # fmt: skip


def test_what_is_no_fold_is_named_with_its_line(tmp_path):
    """A word, a row that is test in every fold, and a fold without a row; the last with a fold that there is."""
    folder = write_table(tmp_path, HEADER, ("a.png", "x", "first"), ("b.png", "y", "1"))
    with pytest.raises(DataError, match="line 2: fold 'first', expected a whole number from 0 to 999, or an empty"):
        find_recipe_splits(recipe_of(folder))
    rows = [(*HEADER, "split"), ("a.png", "x", "0", "test"), ("b.png", "y", "1", "train")]
    with pytest.raises(DataError, match="line 2: split 'test', where the rows of a fold are test"):
        find_recipe_splits(recipe_of(write_table(tmp_path / "test", *rows)))
    folder = write_table(tmp_path / "none", HEADER, ("a.png", "x", "1"), ("b.png", "y", "2"))
    with pytest.raises(DataError, match="no row of fold 0 in column 'fold'; found 1, 2") as refused:
        find_recipe_splits(recipe_of(folder))
    assert refused.value.corrections[0].right == "1"


def test_a_column_and_a_fold_belong_together_and_a_flag_names_another_fold(tmp_path):
    """In the recipe; without the column --fold is refused, with the way out."""
    with pytest.raises(UsageError, match="fold_column and fold belong together"):
        recipe_of(tmp_path, None)
    folder = write_table(tmp_path, HEADER, ("a.png", "x", "0"), ("b.png", "y", "7"))
    (folder / "toy.toml").write_text(
        f'name = "toy"\n[data]\nlayout = "table"\nroot = "{folder}"\ntable = "labels.csv"\nfold_column = "fold"\n'
        f"fold = 0\n"
    )
    request = DatasetRequest(pipeline=str(folder / "toy.toml"), fold=7, cache=tmp_path / "cache")
    assert request.variant == "fold7-all"
    assert list(list_split(request.recipe, "test").paths) == ["b.png"]
    with pytest.raises(UsageError, match="--fold: found 1000, expected a whole number from 0 to 999"):
        _ = DatasetRequest(pipeline=str(folder / "toy.toml"), fold=1000).recipe
    with pytest.raises(UsageError, match="--view: toy has no views"):
        _ = DatasetRequest(pipeline=str(folder / "toy.toml"), fold=7, view="front").recipe
    with pytest.raises(UsageError, match="labels has no folds; a table has folds where its recipe names their column"):
        _ = DatasetRequest(data=str(folder / "labels.csv"), fold=0).recipe
