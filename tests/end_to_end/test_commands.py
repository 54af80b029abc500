"""The commands as a user types them, each in a process of its own: what they print and write."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featcache
from tests.conftest import Nano, Ran

Run = Callable[..., Ran]


@pytest.mark.skipif("FEATCACHE_TEST_WHEEL" not in os.environ, reason="only `make wheel-test` tests the built wheel")
def test_it_is_the_wheel_that_runs(run: Run) -> None:
    """Under `make wheel-test` the package comes from site-packages, and its recipes from inside it."""
    from featcache.recipe import shipped_recipes

    assert "site-packages" in featcache.__file__
    ours = Path(__file__).parents[2] / "pipelines"
    assert {path.name for path in shipped_recipes().glob("*.toml")} == {path.name for path in ours.glob("*.toml")}
    assert "daa" in run("info", "-p", "daa").out


def test_the_way_of_the_first_user(run: Run, nano: Nano, folder: Path) -> None:
    """extract, fit-head and report work one after the other, and the JSON keys are those of the contract."""
    one = json.loads(run("extract", "--split", "train", "--data", folder, *nano.flags, "--json").out)
    assert {key: one[key] for key in ("split", "rows", "embedded", "reused", "failed")} == {
        "split": "train", "rows": 28, "embedded": 28, "reused": 0, "failed": 0,
    }  # fmt: skip
    assert one["seconds"] > 0
    assert one["images_per_second"] > 0
    assert Path(one["cache"]).is_dir()

    every = json.loads(run("extract", "--data", folder, *nano.flags, "--json").out)
    assert [(part["split"], part["embedded"], part["reused"]) for part in every] == [
        ("train", 0, 28), ("val", 11, 0), ("test", 12, 0),
    ]  # fmt: skip

    fit = json.loads(run("fit-head", "--data", folder, "--lr", 0.01, "--lr", 0.1, "--epochs", 20, "--json").out)
    assert [head["lr"] for head in fit["heads"]] == [0.01, 0.1]
    for head in fit["heads"]:
        assert set(head) >= {"name", "lr", "steps", "epochs", "train", "val"}
        assert (head["steps"], head["epochs"]) == (20, 20)
        assert set(head["train"]) == set(head["val"]) == {"accuracy", "macro_recall", "loss"}
    assert fit["best"] in {head["name"] for head in fit["heads"]}
    assert fit["check"]["objective"] < fit["check"]["head_objective"]

    found = json.loads(run("report", "--data", folder, "--json").out)
    assert (found["head"], found["split"], found["by"], found["rows"]) == (fit["best"], "test", "image", 12)
    assert found["classes_evaluated"] == 3
    assert [(entry["name"], entry["support"]) for entry in found["classes"]] == [("0", 5), ("1", 4), ("2", 3)]
    assert set(found["classes"][0]) == {"name", "support", "recall", "precision", "f1", "recall_interval", "too_few"}
    confusion = np.array(found["confusion"])
    assert confusion.sum(axis=1).tolist() == [5, 4, 3]
    assert found["accuracy"] == pytest.approx(confusion.trace() / 12)
    recall = confusion.diagonal() / confusion.sum(axis=1)
    assert found["macro_recall"] == pytest.approx(recall.mean())

    info = json.loads(run("info", "--data", folder, "--arch", "vit_nano_16", "--weights", "random", "--json").out)
    assert info["version"] == featcache.__version__
    assert info["trunk"]["head_parameters"] == 65 * 3
    assert [store["rows"] for store in info["stores"]] == [51]
    verified = json.loads(run("verify", "--json").out)
    assert verified.keys() == {"problems", "notes", "bytes", "seconds", "compared", "depth"}
    assert (verified["problems"], verified["notes"], verified["depth"], verified["compared"]) == ([], [], "hashes", 0)


def test_info_counts_a_head_on_the_stores_that_there_are(run: Run, extracted: Path) -> None:
    """Where no store is of the trunk that an extract takes by default, the answer says that, and begins with them."""
    told = run("info", extracted)
    assert "head of 3 classes: 195 parameters" in told.out
    assert "no store is of vit_b_16, weights IMAGENET1K_V1, which an extract takes where" in told.out
    assert "85,798,656" not in told.out


def test_the_trunk_of_the_first_user_has_its_known_size(run: Run) -> None:
    """`featcache info` states the frozen parameters of ViT-B/16, and those of a head of 34 classes."""
    assert json.loads(run("info", "--json").out)["trunk"]["frozen_parameters"] == 85_798_656
    text = run("info").out
    assert "85,798,656 frozen" in text
    assert "34 classes: 26,146" in text


def test_extracting_again_embeds_nothing_and_imports_no_torch(run: Run, nano: Nano, extracted: Path) -> None:
    """A complete cache costs neither an embedding nor the import of torch."""
    again = run("extract", "--data", extracted, *nano.flags, PYTHONPROFILEIMPORTTIME="1")
    assert "0 embedded, 28 reused" in again.out
    imported = {line.rsplit("|", 1)[-1].strip() for line in again.err.splitlines()}
    assert "featcache.extraction.run" in imported  # by a statement: what a package loads when asked is not listed
    assert not imported & {"torch", "torchvision", "sklearn", "matplotlib"}


def test_help_imports_nothing_heavy(run: Run) -> None:
    """`featcache --help` imports neither NumPy nor torch nor anything that takes as long."""
    shown = run("--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rsplit("|", 1)[-1].strip() for line in shown.err.splitlines()}
    assert "featcache.cli" in imported
    assert not imported & {"numpy", "torch", "h5py", "sklearn", "pydantic", "PIL"}
    for command in ("extract", "fit-head", "report", "info", "verify", "demo"):
        assert command in shown.out


def test_stage_two_needs_neither_images_nor_weights(run: Run, nano: Nano, folder: Path, tmp_path: Path) -> None:
    """A cache that was made elsewhere trains and reports where images and weights are not."""
    cache, weights = tmp_path / "made", tmp_path / "copy.pth"
    shutil.copy(nano.weights, weights)
    assert run("extract", "--data", folder, "--cache", cache, *nano.flags[:2], "--weights", weights).code == 0
    shutil.rmtree(folder)
    weights.unlink()
    moved = cache.rename(tmp_path / "laptop")
    assert run("fit-head", "--data", folder, "--cache", moved, "--epochs", 5, "--no-check").code == 0
    assert "macro recall over 3 of 3" in run("report", "--data", folder, "--cache", moved).out


def test_report_writes_what_it_is_asked_for(run: Run, extracted: Path, tmp_path: Path) -> None:
    """--png writes a picture, --csv the classes; and nothing that goes into a pipe is coloured."""
    run("fit-head", "--data", extracted, "--epochs", 5, "--no-check")
    png, table = tmp_path / "matrix.png", tmp_path / "classes.csv"
    told = run("report", "--data", extracted, "--png", png, "--csv", table)
    assert told.code == 0
    assert "\x1b" not in told.out + told.err
    assert png.read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["class"] for row in rows] == ["0", "1", "2"]


def test_photographs_of_many_sizes(run: Run, nano: Nano, hymenoptera: Path) -> None:
    """398 real files, a GIF among the JPEGs: every image has its row, and the three commands end in a report."""
    found = json.loads(run("extract", "--data", hymenoptera, *nano.flags, "--json").out)
    assert [(part["split"], part["rows"], part["embedded"], part["failed"]) for part in found] == [
        ("train", 245, 245, 0), ("val", 153, 153, 0),
    ]  # fmt: skip
    assert run("fit-head", "--data", hymenoptera, "--lr", 0.003, "--lr", 0.03, "--check-seconds", 2).code == 0
    told = run("report", "--data", hymenoptera)
    assert "hymenoptera · val" in told.out
    assert "153 images" in told.out


def test_a_full_disk_is_told_and_loses_nothing(nano: Nano, folder: Path, tmp_path: Path) -> None:
    """A shard that the disk refuses is exit 5; no scratch file stays, and the next run ends as if nothing had been."""
    words = [sys.executable, "-m", "featcache", "extract", "--data", str(folder), *nano.flags, "--cache"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))

    cache = tmp_path / "cache"
    told = subprocess.run([*words, str(cache)], capture_output=True, text=True, preexec_fn=small_files, check=False)
    assert told.returncode == 5, told.stderr
    assert "File too large" in told.stderr
    assert "Traceback" not in told.stderr
    assert not [path for path in cache.rglob("*") if path.name.endswith(".partial")]
    for place in (cache, tmp_path / "undisturbed"):
        subprocess.run([*words, str(place)], check=True, capture_output=True)
    with_fault, without = (
        featcache.load("train", data=str(folder), cache=place) for place in (cache, tmp_path / "undisturbed")
    )
    assert np.array_equal(with_fault.x, without.x)
