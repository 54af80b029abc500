"""Grids: what `--grid` means, in which order, and what it refuses."""

import pytest

from featcache.errors import UsageError
from featcache.heads.grid import head_configs, parse_grid
from featcache.recipe import HeadSection, check_recipe


def test_words_become_lists():
    """Numbers, words and truth values are read as what they are, with - or _ in names."""
    found = parse_grid("lr=0.003,0.03 weight-decay=0,1e-4 standardize=true,false optimizer=adam seed=0,1")
    assert found == {
        "lr": [0.003, 0.03],
        "weight_decay": [0, 1e-4],
        "standardize": [True, False],
        "optimizer": ["adam"],
        "seed": [0, 1],
    }


def test_every_combination_once():
    """One head a combination, the last list fastest; a repeated value makes no second head."""
    section = HeadSection(lr=(0.1, 0.2, 0.1), weight_decay=(0.0, 1.0))
    assert [(config.lr, config.weight_decay) for config in head_configs(section)] == [
        (0.1, 0.0),
        (0.1, 1.0),
        (0.2, 0.0),
        (0.2, 1.0),
    ]


def test_lists_in_a_recipe():
    """A recipe's head section takes lists and single values alike."""
    head = {"lr": 0.1, "optimizer": ["sgd", "adam"], "class_weights": ["none", "balanced"], "seed": [0, 1]}
    recipe = check_recipe({"name": "toy", "data": {"root": "x"}, "head": head}, where="here")
    assert len(head_configs(recipe.head)) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing"),
        ("lr", "'lr'"),
        ("lr=", "'lr='"),
        ("epochs=1,2", "epochs"),
        ("lr=1 lr=2", "twice"),
        ("depth=3", "depth"),
    ],
)
def test_refused(text, said):
    """A word that is no setting, or one twice, is named."""
    with pytest.raises(UsageError, match=said):
        parse_grid(text)


def test_a_grid_that_nobody_means():
    """More than ten thousand heads are refused before anything is read."""
    with pytest.raises(UsageError, match=r"1,000,000 heads"):
        head_configs(HeadSection(lr=tuple(0.001 + n for n in range(1000)), seed=tuple(range(1000))))
