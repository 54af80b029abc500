"""Other classifiers, their comparison and training from disk, as a user types them."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Nano, Ran, write_images

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def extracted(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Three digits, three splits, embedded once; the flags that mean them."""
    place = tmp_path_factory.mktemp("digits")
    counts = {"train": {"0": 12, "1": 10, "2": 6}, "val": {"0": 4, "1": 4, "2": 3}, "test": {"0": 5, "1": 4, "2": 3}}
    root = write_images(place / "digits", counts)
    flags = ("--data", str(root), "--cache", str(place / "cache"))
    command = [sys.executable, "-m", "featcache", "extract", *flags, *nano.flags]
    subprocess.run(command, check=True, capture_output=True)
    return flags


def test_fit_report_and_compare(run: Run, extracted: tuple[str, ...], tmp_path: Path) -> None:
    """Classifiers stand beside linear heads: each has its report, all one table; test is read when it is named."""
    for words in (["knn", "k=1,3"], ["ridge"], ["sklearn.svm:SVC", "C=1,10", "--jobs", "1"]):
        ran = run("fit", *words, *extracted)
        assert ran.code == 0, ran.err
        assert "best by macro recall on val" in ran.out
    assert run("fit-head", *extracted, "--lr", 0.003, "--epochs", 3, "--check-seconds", 1).code == 0
    found = json.loads(run("compare", *extracted, "--json").out)
    assert {head["classifier"] for head in found["heads"]} == {"linear", "knn", "ridge", "sklearn.svm:SVC"}
    assert {head["split"] for head in found["heads"]} == {"val"}
    recalls = [head["macro_recall"] for head in found["heads"]]
    assert recalls == sorted(recalls, reverse=True)
    (linear,) = (head for head in found["heads"] if head["classifier"] == "linear")
    assert linear["gap"] is not None
    table = tmp_path / "all.csv"
    on_test = run("compare", *extracted, "--split", "test", "--sort", "name", "--csv", table)
    assert "scores on test" in on_test.out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    for row in rows[::2]:
        told = json.loads(run("report", row["name"], *extracted, "--json").out)
        assert (told["split"], told["head"]) == ("test", row["name"])
        assert told["macro_recall"] == pytest.approx(float(row["macro_recall"]))
    checked = run("verify", *extracted[2:])
    assert checked.code == 0
    assert re.fullmatch(r"0 problems \(\d+\.\d MB of shards hashed, \d+\.\d s\)\n", checked.out), checked.out


def test_a_recipe_names_scikit_learn_and_no_other_package(run: Run, extracted: tuple[str, ...], tmp_path: Path) -> None:
    """[fit] holds settings, which a flag overrides; a class of another package is exit 2, and never imported."""
    here = tmp_path / "here"
    recipe = (
        f'name = "digits"\n[data]\nroot = "{extracted[1]}"\n[fit."sklearn.svm:SVC"]\nC = [1, 10]\n[fit.knn]\nk = 3\n'
    )
    (here / "a.toml").write_text(recipe)
    found = json.loads(run("fit", "sklearn.svm:SVC", "-p", "a.toml", *extracted[2:], "--json", "--jobs", "1").out)
    assert [trial["settings"]["C"] for trial in found["trials"]] == [1, 10]
    found = json.loads(run("fit", "knn", "k=1", "-p", "a.toml", *extracted[2:], "--json").out)
    assert found["settings"]["k"] == 1
    (here / "evil.py").write_text("open('imported', 'w').close()\nclass C: pass\n")
    (here / "b.toml").write_text(recipe + '[fit."evil:C"]\n')
    told = run("fit", "knn", "-p", "b.toml", *extracted[2:])
    assert told.code == 2
    assert "never in a recipe" in told.err
    assert not (here / "imported").exists()


def test_a_head_from_disk(run: Run, extracted: tuple[str, ...]) -> None:
    """--from-disk trains, chooses and saves as in memory does; a sampler that repeats rows is exit 2."""
    words = ("fit-head", *extracted, "--epochs", 20, "--lr", 0.03, "--lr", 0.1, "--json")
    disk = json.loads(run(*words, "--from-disk").out)
    memory = json.loads(run(*words, "--in-memory", "--no-check").out)
    assert disk["check"] is None
    for one, other in zip(disk["heads"], memory["heads"], strict=True):
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=1e-3)  # one batch: the same steps


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fit", "nothing"], 2, "sklearn.svm:SVC"), (["fit", "knn", "k"], 2, "KEY=VALUE"),
        (["fit", "knn", "--jobs", "0"], 2, "--jobs"), (["fit", "knn"], 3, "run `featcache extract /"),
        (["compare"], 3, "featcache fit-head"), (["compare", "--sort", "beauty"], 2, "macro_recall"),
        (["compare", "--csv", "a.txt"], 2, ".csv"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_error(run: Run, folder: Path, words: list[str], code: int, message: str) -> None:
    """An exit code and the way out; never a traceback."""
    told = run(*words, "--data", folder)
    assert (told.code, message in told.err) == (code, True), told.err
