"""`featcache data` as a user types it, before and after an extract."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import SHARED, Nano, Ran, write_images

Run = Callable[..., Ran]


def test_before_an_extract(run: Run, tmp_path: Path) -> None:
    """Counts of every split come without torch and without opening an image, as text, as JSON and as CSV."""
    root = write_images(tmp_path / "digits", {"train": {"0": 6, "[1]": 2}, "val": {"0": 3}})
    (root / "train" / "0" / "notes.txt").write_text("remember the milk")
    for image in root.rglob("*.png"):
        image.write_bytes(b"no image")
    table = tmp_path / "classes.csv"
    told = run("data", "--data", root, "--json", "--csv", table, PYTHONPROFILEIMPORTTIME="1")
    found = json.loads(told.out)["splits"]
    assert list(found) == ["train", "val"]
    contract = {"rows": 8, "images": 8, "shared_images": 0, "conflicting_images": 0, "clips": 0, "subjects": 0}
    assert contract.items() <= found["train"].items()
    assert found["train"]["classes"] == {"0": 6, "[1]": 2}
    assert (found["train"]["imbalance"], found["val"]["lacking"]) == (3, ["[1]"])
    assert (found["train"]["not_on_disk"], found["train"]["ignored"]) == (0, ["train/0/notes.txt"])
    imported = {line.rsplit("|", 1)[-1].strip() for line in told.err.splitlines()}
    assert "featcache.dataset.duplicates" in imported
    assert not imported & {"torch", "torchvision", "sklearn", "matplotlib"}
    assert [row["rows"] for row in csv.DictReader(table.read_text().splitlines())] == ["6", "2", "3", "0"]

    shown = run("data", "--data", root, "--split", "val", COLUMNS="60")
    assert shown.code == 0
    assert "lacks 1 class: [1]" in shown.out
    assert "train" not in shown.out
    assert not shown.err


def test_leaks_between_splits(run: Run, nano: Nano, tmp_path: Path) -> None:
    """After an extract a copied file is an exact duplicate, and --near finds one that was only written anew."""
    root = write_images(tmp_path / "digits", {"train": {"0": 4, "1": 4}, "val": {"0": 2, "1": 2}})
    shutil.copy(root / "train" / "0" / "0000.png", root / "val" / "1" / "copied.png")
    Image.open(root / "train" / "1" / "0001.png").save(root / "val" / "1" / "again.png", compress_level=0)
    assert "not known before `featcache extract`" in run("data", "--data", root).out
    assert run("data", "--data", root, "--near", 0.98).code == 3
    assert run("extract", "--data", root, *nano.flags).code == 0

    shown = run("data", "--data", root, "--near", 0.99999)
    assert shown.code == 0
    assert "1 image appears under two or more paths" in shown.out
    assert "  = train/0/0000.png\n    val/1/copied.png\n" in shown.out
    assert "  1.0000  train/1/0001.png\n          val/1/again.png\n" in shown.out

    table = tmp_path / "pairs.csv"
    found = json.loads(run("data", "--data", root, "--near", 0.99999, "--json", "--csv", table).out)
    assert found["duplicates"]["across_splits"] == [{"splits": ["train", "val"], "contents": 1}]
    assert found["duplicates"]["conflicts"] == [{"labels": ["0", "1"], "images": 1}]
    pairs = {tuple(image["path"] for image in pair["images"]): pair["exact"] for pair in found["near"]["pairs"]}
    assert pairs == {("train/0/0000.png", "val/1/copied.png"): True, ("train/1/0001.png", "val/1/again.png"): False}
    assert len(table.read_text().splitlines()) == 1 + 2


def test_what_cannot_be_asked(run: Run, tmp_path: Path) -> None:
    """A cosine that is none, a file that is no CSV, a split that is not there: an exit code and a way out."""
    root = write_images(tmp_path / "digits", {"train": {"0": 1, "1": 1}})
    for words, code, message in (
        (("--near", "1.5"), 2, "such as 0.98"),
        (("--csv", "a.txt"), 2, "expected a name that ends in .csv"),
        (("--split", "dev"), 4, "found train"),
        (("--near", "0.9"), 3, f"`featcache extract {root}`"),
    ):
        told = run("data", "--data", root, *words)
        assert (told.code, message in told.err, told.out) == (code, True, ""), told.err


def test_drive_act_as_it_comes(run: Run, tmp_path: Path) -> None:
    """Fold 0 with at most 49 frames a chunk has the published counts, though no frame is on disk."""
    root = SHARED / "drive_act"
    if not root.is_dir():
        pytest.skip("../shared/data/drive_act is not here")
    recipe = tmp_path / "daa.toml"
    recipe.write_text(
        'name = "daa"\n[data]\nlayout = "drive-act"\nview = "kinect_color"\nfold = 0\nframes_per_chunk = 49\n'
        f'root = "{root}"\n'
    )
    train = json.loads(run("data", "-p", recipe, "--json").out)["splits"]["train"]
    expected = {"rows": 259_865, "images": 254_276, "shared_images": 5_589, "conflicting_images": 1_084}
    assert (expected | {"clips": 6_642, "subjects": 10, "not_on_disk": 254_276}).items() <= train.items()
    assert len(train["classes"]) == 34
    assert round(train["imbalance"]) == 346
    assert sum(conflict["images"] for conflict in train["conflicts"]) >= 1_084
