"""fit-head: which splits it looks at, what it chooses, and that it does the same twice."""

import csv
import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score

import featcache
from featcache import CacheError, DataError, UsageError
from featcache.heads.fit_linear import COMPILING, Fit, seconds_of_check
from featcache.heads.training import numba_stack
from tests.builders import DIM, cluster_rows, record


def fit(cache: Path, lr=None, **options) -> Fit:
    options = {"epochs": 6, "batch_size": 16, "check_seconds": None, "device": "cpu", **options}
    return featcache.fit_head(lr, data="/data/toy", cache=cache, **options)


def files(found: Fit) -> dict[str, bytes]:
    assert found.best is not None
    return {path.name: path.read_bytes() for path in found.best.folder.iterdir()}


SPLITS = {"train": cluster_rows(1), "val": cluster_rows(2), "test": cluster_rows(3)}


def test_the_same_command_gives_the_same_bytes(tmp_path):
    """All four files of a head, in the same cache; the weights and history in another one too."""
    record(tmp_path / "a", SPLITS)
    record(tmp_path / "b", dict(reversed(SPLITS.items())))
    first, second, elsewhere = (
        files(fit(tmp_path / "a", 0.1)),
        files(fit(tmp_path / "a", 0.1)),
        files(fit(tmp_path / "b", 0.1)),
    )
    assert first.keys() == {"head.safetensors", "head.json", "history.csv", "temperature.json"}
    assert first == second
    assert first == elsewhere
    assert files(fit(tmp_path / "a", 0.1, seed=1))["head.safetensors"] != first["head.safetensors"]


def test_the_test_split_is_never_looked_at(tmp_path):
    """With another test split, a damaged one or none, every byte of the head is the same."""
    record(tmp_path / "a", SPLITS)
    record(tmp_path / "b", {**SPLITS, "test": cluster_rows(7, rows=9)})
    record(tmp_path / "c", {"train": SPLITS["train"], "val": SPLITS["val"]})
    found = {name: files(fit(tmp_path / name, [0.1, 0.01])) for name in "abc"}
    assert found["a"] == found["b"] == found["c"]
    listing = next((tmp_path / "a" / "listings").rglob("test-*.h5"))
    listing.unlink()
    listing.write_bytes(b"damaged")
    assert files(fit(tmp_path / "a", [0.1, 0.01])) == found["a"]


def test_the_best_head_is_the_one_that_val_prefers(tmp_path):
    """By macro recall on val, as scikit-learn counts it from the saved weights."""
    record(tmp_path, SPLITS)
    found = fit(tmp_path, [1e-6, 0.05, 500.0])
    x, y = SPLITS["val"]
    scores = []
    for head in found.heads:
        tensors = load_file(head.folder / "head.safetensors")
        predicted = x @ tensors["weight"].numpy().T + tensors["bias"].numpy()
        scores.append(balanced_accuracy_score(y, predicted.argmax(axis=1)))
        assert head.head.val.macro_recall == pytest.approx(scores[-1])
    assert found.best is found.heads[int(np.argmax(scores))]
    assert found.selected_by == "macro recall on val"
    assert len(set(scores)) > 1


def test_a_head_that_is_best_on_train_is_not_chosen_for_that(tmp_path):
    """With the classes of val permuted, the head that learned least wins."""
    x, y = SPLITS["val"]
    record(tmp_path, {**SPLITS, "val": (x, (y + 1) % 3)})
    found = fit(tmp_path, [1.0, 1e-6])
    by_train = max(found.heads, key=lambda head: head.head.train.accuracy - head.head.train.loss)
    assert by_train is found.heads[0]
    assert found.best is found.heads[1]


def test_several_learning_rates_need_a_val_split(tmp_path):
    """Without one nothing may choose: exit class 3, no head written; a single rate is trained, and says so."""
    record(tmp_path, {"train": SPLITS["train"], "test": SPLITS["test"]})
    with pytest.raises(CacheError, match="featcache extract --split val"):
        fit(tmp_path, [0.1, 0.01])
    assert not list(tmp_path.rglob("head.json"))
    found = fit(tmp_path, [0.1, 0.1])
    assert (len(found.heads), found.selected_by, found.val_rows) == (1, "", None)
    assert found.to_json()["heads"][0]["val"] is None
    assert any("no head was selected" in note for note in found.notes)


def test_splits_of_different_class_lists_are_refused(tmp_path):
    """Labels of one list are never read with another: exit class 3, and the extract that mends it."""
    record(tmp_path, {"train": SPLITS["train"]})
    record(tmp_path, {"val": SPLITS["val"]}, classes=("ant", "bee", "cow"))
    with pytest.raises(CacheError, match="featcache extract"):
        fit(tmp_path, 0.1)
    assert not list(tmp_path.rglob("head.json"))


def test_one_class_is_refused_by_name(tmp_path):
    """A classifier needs two: exit class 4, also where the second class has only failed images."""
    x, y = SPLITS["train"]
    record(tmp_path / "a", {"train": (x, np.ones_like(y))})
    with pytest.raises(DataError, match="only class 'bee'"):
        fit(tmp_path / "a", 0.1)
    record(tmp_path / "b", {"train": (x, np.array([0] * 3 + [2] * 37))}, failed=3)
    with pytest.raises(DataError, match="only class 'cat'"):
        fit(tmp_path / "b", 0.1)


def test_a_split_without_a_usable_row_is_refused(tmp_path):
    """A train or val split whose images all failed is exit class 4."""
    record(tmp_path / "a", {"train": SPLITS["train"]}, failed=40)
    with pytest.raises(DataError, match="no row with an embedding"):
        fit(tmp_path / "a", 0.1)
    record(tmp_path / "b", {"train": SPLITS["train"]})
    record(tmp_path / "b", {"val": SPLITS["val"]}, failed=40)
    with pytest.raises(DataError, match="'val'"):
        fit(tmp_path / "b", 0.1)


def test_nothing_extracted_says_what_to_run(tmp_path):
    """Exit class 3 with the command; val alone is not enough."""
    record(tmp_path, {"val": SPLITS["val"]})
    with pytest.raises(CacheError, match="featcache extract --split train"):
        fit(tmp_path, 0.1)


def test_a_head_is_torchs_own_linear_layer(tmp_path):
    """head.safetensors loads strictly into nn.Linear, which gives the head's logits."""
    record(tmp_path, SPLITS)
    head = fit(tmp_path, 0.1).best
    layer = torch.nn.Linear(DIM, 3)
    layer.load_state_dict(load_file(head.folder / "head.safetensors"), strict=True)
    x = SPLITS["test"][0]
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), head.head.logits(x), rtol=1e-5, atol=1e-6)


def test_history_has_a_row_an_epoch(tmp_path):
    """Train from the steps, val from a pass; the last val row is the head's score; no val split, no val figures."""
    record(tmp_path / "a", SPLITS)
    found = fit(tmp_path / "a", 0.1)
    rows = list(csv.DictReader(io.StringIO(files(found)["history.csv"].decode())))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 7))
    assert float(rows[-1]["val_macro_recall"]) == found.best.head.val.macro_recall
    assert float(rows[0]["train_loss"]) > float(rows[-1]["train_loss"])
    record(tmp_path / "b", {"train": SPLITS["train"]})
    rows = list(csv.DictReader(io.StringIO(files(fit(tmp_path / "b", 0.1))["history.csv"].decode())))
    assert {row["val_loss"] for row in rows} == {""}


def test_steps_are_epochs_times_batches_rounded_up(tmp_path):
    """40 rows in batches of 16 are 3 steps, the last one partial."""
    record(tmp_path, SPLITS)
    assert fit(tmp_path, 0.1).best.head.steps == 18


def test_a_diverged_head_is_named_and_not_chosen(tmp_path):
    """Beside one that did not it loses; alone, there is no best, its scores are null and nothing crashes."""
    x, y = SPLITS["train"]
    record(tmp_path, {"train": (x * 1e18, y), "val": SPLITS["val"]})
    found = fit(tmp_path, [1e30], clip_norm=1e30)
    if found.best is not None:
        pytest.fail(f"this head was meant to diverge: {found.best}")
    assert found.to_json()["best"] is None
    assert any("diverged" in note for note in found.notes)


def test_what_a_reader_must_know_is_noted(tmp_path):
    """Random weights, a part of a split, images left out, classes without a row: each has its line."""
    x, y = SPLITS["train"]
    record(tmp_path, {"train": (x, np.minimum(y, 1))}, asked="random", part="limit 40", failed=2)
    notes = " | ".join(fit(tmp_path, 0.1).notes)
    for said in (
        "weights are random",
        "limit 40",
        "2 images of split 'train'",
        "1 of 3 classes has no training image: cat",
    ):
        assert said in notes


def test_flags_win_over_the_recipe_and_faults_are_told(tmp_path):
    """A recipe's head section is used, a flag replaces it, and what cannot be is exit class 2."""
    record(tmp_path, SPLITS)
    recipe = tmp_path / "toy.toml"
    recipe.write_text('name = "toy"\n[data]\nroot = "/data/toy"\n[head]\nlr = [0.2, 0.1]\nepochs = 2\n')
    options = {"pipeline": str(recipe), "cache": tmp_path, "check_seconds": None, "device": "cpu"}
    found = featcache.fit_head(**options)
    assert [(head.head.config.lr, head.head.config.epochs) for head in found.heads] == [(0.2, 2), (0.1, 2)]
    assert [head.head.config.lr for head in featcache.fit_head(0.3, **options).heads] == [0.3]
    for bad in (
        {"lr": 0.0},
        {"lr": float("nan")},
        {"epochs": 0},
        {"batch_size": 0},
        {"momentum": 1.0},
        {"device": "tpu"},
    ):
        with pytest.raises(UsageError):
            featcache.fit_head(**{**options, **bad})


def test_the_check_has_a_budget_by_default(tmp_path):
    """A quarter of the training, at least 5 s; another word than "auto" is refused."""
    record(tmp_path, SPLITS)
    assert fit(tmp_path, 0.1, check_seconds="auto").check.seconds < 6
    assert (seconds_of_check("auto", 4.0), seconds_of_check("auto", 100.0)) == (5.0, 25.0)
    assert seconds_of_check(3.0, 100.0) == 3.0
    with pytest.raises(UsageError, match="--check-seconds: found soon, expected 'auto', or above 0"):
        fit(tmp_path, 0.1, check_seconds="soon")


def test_the_check_holds_the_best_head_against_the_optimum(tmp_path):
    """Its figures and its sentence are in the result; without a budget there is none."""
    record(tmp_path, SPLITS)
    found = fit(tmp_path, [0.1, 1e-6], check_seconds=5.0)
    check = found.to_json()["check"]
    assert check["head_objective"] >= check["objective"] > 0
    assert check["sentence"]
    assert fit(tmp_path, 0.1).to_json()["check"] is None


def test_loops_that_have_to_be_compiled_first_are_a_stage_of_their_own(tmp_path, monkeypatch):
    """Where the training waits for the compiler, progress says so; where the loops are there already, it does not."""
    record(tmp_path, SPLITS)
    fit(tmp_path, 0.1)  # they are, from here on
    stages: list[str] = []
    fit(tmp_path, 0.1, progress=lambda stage, *_: stages.append(stage))
    assert COMPILING not in stages
    train_steps = numba_stack.train_steps
    monkeypatch.setattr("featcache.heads.training.kernels.intrinsics.SECONDS_OF_LOADING", 0.01)
    monkeypatch.setattr(numba_stack, "train_steps", lambda *of: (time.sleep(0.1), train_steps(*of)))
    stages.clear()
    fit(tmp_path, 0.1, epochs=2, progress=lambda stage, *_: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["reading", COMPILING, "training"]
