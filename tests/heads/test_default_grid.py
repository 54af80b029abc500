"""The default experiment: what fit-head trains where nobody gives a learning rate, and that it trains nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.heads.config import SETTINGS, HeadConfig
from featcache.heads.default_grid import (
    LEARNING_RATES,
    MANY_ROWS,
    WEIGHT_DECAYS,
    WITHOUT_VAL,
    default_batch_size,
    fill_in_defaults,
)
from featcache.heads.grid import head_configs, parse_grid
from featcache.heads.training.train import train_heads
from featcache.recipe import HeadSection, resolve_recipe
from tests.builders import CLASSES, cluster_rows, features, record

SPLITS = {"train": cluster_rows(1), "val": cluster_rows(2), "test": cluster_rows(3)}


def fit(cache, lr=None, **options) -> featcache.Fit:
    return featcache.fit_head(lr, data="/data/toy", cache=cache, check_seconds=None, device="cpu", **options)


@given(st.integers(1, 10**6))
def test_a_batch_gives_ten_steps_an_epoch(rows):
    """From ten rows on an epoch has ten steps or more; a batch has at most the declared 1,024 rows."""
    batch = default_batch_size(rows)
    assert 1 <= batch <= HeadConfig().batch_size
    assert -(-rows // batch) >= min(rows, 10)
    assert batch == HeadConfig().batch_size or rows / batch < 20


@pytest.mark.parametrize(
    "section",
    [
        HeadSection(lr=0.003),
        HeadSection(lr=(0.003, 0.01)),
        HeadSection(**parse_grid("lr=0.003 weight_decay=0.5")),
        HeadSection(**parse_grid("optimizer=sgd,adam")),
        resolve_recipe("daa", data="x").head,
        resolve_recipe("digits").head,
    ],
    ids=["a rate", "rates", "a grid", "a grid without rates", "daa", "digits"],
)
def test_a_given_learning_rate_is_the_whole_experiment(section):
    """Typed, in a grid or in a recipe: every setting is what it says or its declared default, and nothing is noted."""
    for rows in (40, 259_865):
        assert fill_in_defaults(section, rows, has_val=True) == (section, "")


def test_a_typed_rate_has_its_old_name_and_bytes(tmp_path):
    """`--lr 0.003` is the head that it always was: one head, of batches of 1,024, with its name and weights."""
    record(tmp_path, SPLITS)
    made = fit(tmp_path, 0.003, epochs=2)
    assert [saved.head.config for saved in made.heads] == [HeadConfig(lr=0.003, epochs=2)]
    assert made.heads[0].name == "lr0.003-epochs2-4924c0cd"
    document = json.loads((made.heads[0].folder / "head.json").read_text())
    later = ("head", "normalize", "views", "loss", "huber_delta", "matmul_precision")
    of_before = [name for name in SETTINGS if SETTINGS[name].applies_to("linear") and name not in later]
    assert list(document["config"]) == of_before
    (alone,) = train_heads(features(*SPLITS["train"], CLASSES), None, [HeadConfig(lr=0.003, epochs=2)])
    np.testing.assert_array_equal(made.heads[0].head.weight, alone.weight)


def test_without_a_rate_a_grid_is_trained(tmp_path):
    """Rates x weight decays on small batches; the best on val is kept, and a note says what was trained."""
    record(tmp_path, SPLITS)
    made = fit(tmp_path, epochs=2)
    configs = [saved.head.config for saved in made.heads]
    assert {(config.lr, config.weight_decay) for config in configs} == {
        (lr, decay) for lr in LEARNING_RATES["sgd"] for decay in WEIGHT_DECAYS
    }
    assert {config.batch_size for config in configs} == {4}
    assert made.selected_by == "macro recall on val"
    assert made.notes[0].startswith(f"no --lr was given: {len(configs)} heads were trained, with learning rates ")
    assert made.notes[0].endswith("on batches of 4 rows (10 steps an epoch)")


def test_what_is_given_beside_the_rate_is_kept(tmp_path):
    """Without --lr, --batch-size, --weight-decay and --optimizer are what was typed; a typed grid is the whole grid."""
    record(tmp_path, SPLITS)
    made = fit(tmp_path, epochs=2, batch_size=7, weight_decay=0.5, optimizer="adam")
    configs = [saved.head.config for saved in made.heads]
    assert [config.lr for config in configs] == list(LEARNING_RATES["adam"])
    assert {(config.batch_size, config.weight_decay, config.optimizer) for config in configs} == {(7, 0.5, "adam")}
    by_grid = fit(tmp_path, epochs=2, grid="weight_decay=0.25 label_smoothing=0,0.1").heads
    assert {saved.head.config.weight_decay for saved in by_grid} == {0.25}
    assert [saved.head.config.lr for saved in by_grid] == [HeadConfig().lr] * 2


def test_without_val_one_head_is_trained(tmp_path):
    """Where nothing can choose there is no grid: one head, on small batches."""
    record(tmp_path, {"train": SPLITS["train"]})
    (saved,) = fit(tmp_path, epochs=2).heads
    assert saved.head.config == HeadConfig(lr=WITHOUT_VAL["sgd"], batch_size=4, epochs=2)


def test_many_rows_get_a_smaller_grid():
    """A head of a large set costs seconds: with many rows the grid has the learning rates alone, on whole batches."""
    section, sentence = fill_in_defaults(HeadSection(), MANY_ROWS, has_val=True)
    configs = head_configs(section)
    assert [config.lr for config in configs] == list(LEARNING_RATES["sgd"])
    assert {(config.weight_decay, config.batch_size) for config in configs} == {(0.0, 1024)}
    assert "weight decay" not in sentence


def test_the_best_head_of_the_grid_is_the_same_head_typed(tmp_path):
    """The best head's settings, typed, give its very name."""
    record(tmp_path, SPLITS)
    best = fit(tmp_path, epochs=2).best
    config = best.head.config
    again = fit(
        tmp_path, config.lr, weight_decay=config.weight_decay, batch_size=config.batch_size, epochs=config.epochs
    )
    assert again.best.name == best.name
