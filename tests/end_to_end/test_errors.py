"""What goes wrong, as a user meets it: an exit code and one message with the way out; nothing is lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ARCH, Nano, Ran, write_images

Run = Callable[..., Ran]


def test_a_bad_file_is_named_and_skipped_and_rows_stay_aligned(run: Run, nano: Nano, folder: Path) -> None:
    """A file that is no image has no embedding, is named, and moves no other row."""
    (folder / "train" / "0" / "0003.png").write_bytes(b"<html>not found</html>")
    (folder / "train" / "1" / "notes.txt").write_text("remember the milk")
    refused = run("extract", "--split", "train", "--data", folder, *nano.flags)
    assert refused.code == 4
    assert "train/0/0003.png: no image of a known kind" in refused.err
    assert "--max-bad" in refused.err

    told = run("extract", "--split", "train", "--data", folder, *nano.flags, "--max-bad", 0.1, "--json")
    found = json.loads(told.out)
    assert (found["rows"], found["embedded"] + found["reused"], found["failed"]) == (28, 27, 1)
    assert found["failures"][0]["path"] == "train/0/0003.png"
    assert "notes.txt" in told.err

    script = "import featcache, sys; f = featcache.load('train', data=sys.argv[1]); print(f.paths[2:4], f.x.shape)"
    here = Path(found["cache"]).parent
    shown = subprocess.run([sys.executable, "-c", script, folder], cwd=here, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "('train/0/0002.png', 'train/0/0004.png') (27, 64)"


BAD = {
    "a missing folder": (["extract", "--data", "nowhere", "--weights", "random"], 4, "does not exist"),
    "a file for a folder": (["extract", "--data", "a.toml", "--weights", "random"], 4, "is a file"),
    "an empty folder": (["extract", "--data", "empty", "--weights", "random"], 4, "<split>/<class>"),
    "no such split": (["extract", "--data", "images", "--split", "dev", "--weights", "random"], 4, "found train"),
    "classes at the top": (
        ["extract", "--data", "images/train", "--weights", "random"],
        4,
        "featcache extract images/train --val 0.15 --test 0.15",
    ),
    "an unknown key": (["extract", "-p", "unknown.toml"], 2, "did you mean weights?"),
    "several problems": (["extract", "-p", "several.toml"], 2, "3 problems"),
    "no TOML": (["extract", "-p", "broken.toml"], 2, "not valid TOML"),
    "no recipe": (["extract", "-p", "nobody"], 2, "digits"),
    "no recipe file": (["extract", "-p", "no/where.toml"], 2, "No such file"),
    "an unknown architecture": (
        ["extract", "--data", "images", "--arch", "vit_b_61"],
        2,
        "try: featcache extract --data images --arch vit_b_16",
    ),
    "unknown weights": (["extract", "--data", "images", "--weights", "IMAGENET"], 2, "IMAGENET1K_V1"),
    "weights that are not there": (["extract", "--data", "images", "--weights", "no.pth"], 5, "no such file"),
    "weights that are no checkpoint": (["extract", "--data", "images", "--weights", "bad.pth"], 5, "checkpoint"),
    "an unknown device": (["extract", "--data", "images", "--device", "tpu", "--weights", "random"], 2, "cuda"),
    "a number out of range": (["extract", "--data", "images", "--workers", "0"], 2, "--workers"),
    "limit and fraction": (["extract", "--data", "images", "--limit", "3", "--fraction", "0.5"], 2, "leave one out"),
    "no cache yet": (["fit-head", "--data", "images"], 3, "`featcache extract images`"),
    "nothing to report": (["report", "--data", "images"], 3, "featcache fit-head"),
    "a picture of a wrong kind": (["report", "--data", "images", "--png", "a.jpg"], 2, ".png"),
    "no cache to verify": (["verify", "--cache", "nothing"], 3, "no cache"),
    "a check without time": (["fit-head", "--data", "images", "--check-seconds", "0"], 2, "--check-seconds"),
    "a batch beyond memory": (["extract", "--data", "images", "--batch-size", "9" * 20], 2, "--batch-size"),
    "an unknown option": (["extract", "--speed", "9"], 2, "--speed"),
    "an unknown command": (["train"], 2, "train"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_one_clear_error(what: str, run: Run, tmp_path: Path) -> None:
    """What was asked wrongly is answered with an exit code and a sentence that says the way out; never a traceback."""
    here = tmp_path / "here"
    write_images(here / "images", {"train": {"0": 2, "1": 2}})
    (here / "empty").mkdir()
    (here / "bad.pth").write_bytes(b"PK\x03\x04" + bytes(1000))
    data = '\n[data]\nroot = "images"\n'
    (here / "a.toml").write_text('name = "a"' + data)
    (here / "unknown.toml").write_text('name = "a"' + data + '[trunk]\nweigths = "random"\n')
    (here / "several.toml").write_text('name = "../a"' + data + "[head]\nlr = -1.0\nepochs = 0\n")
    (here / "broken.toml").write_text("name = ")
    words, code, message = BAD[what]
    told = run(*words)
    assert (told.code, message in told.err) == (code, True), told.err
    assert not told.out


def test_a_single_class_cannot_be_learnt(run: Run, nano: Nano, tmp_path: Path) -> None:
    """One class alone is exit 4, and the message names it."""
    root = write_images(tmp_path / "one", {"train": {"5": 3}})
    assert run("extract", "--data", root, *nano.flags).code == 0
    told = run("fit-head", "--data", root)
    assert told.code == 4
    assert "only class '5'" in told.err


def test_an_empty_class_keeps_its_index(run: Run, nano: Nano, tmp_path: Path) -> None:
    """A class without images in a split is named, keeps its place, and has recall null."""
    root = write_images(tmp_path / "gap", {"train": {"0": 4, "1": 4, "2": 4}, "test": {"0": 2, "2": 2}})
    (root / "test" / "1").mkdir()
    assert "'test' has no image of 1 class: 1" in run("extract", "--data", root, *nano.flags).err
    run("fit-head", "--data", root, "--epochs", 30, "--lr", 0.1, "--no-check")
    found = json.loads(run("report", "--data", root, "--json").out)
    assert [(entry["name"], entry["support"]) for entry in found["classes"]] == [("0", 2), ("1", 0), ("2", 2)]
    assert found["classes"][1]["recall"] is None
    assert found["classes_evaluated"] == 2


def test_without_a_val_split_nothing_chooses(run: Run, nano: Nano, tmp_path: Path) -> None:
    """One learning rate trains and says that nothing chose it; several are exit 3 with the way out."""
    root = write_images(tmp_path / "two", {"train": {"0": 4, "1": 4}, "test": {"0": 2, "1": 2}})
    run("extract", "--data", root, *nano.flags)
    one = run("fit-head", "--data", root, "--lr", 0.1, "--epochs", 5, "--no-check")
    assert one.code == 0
    assert "no head was selected" in one.err
    several = run("fit-head", "--data", root, "--lr", 0.1, "--lr", 0.2)
    assert several.code == 3
    network = f"--arch {ARCH} --weights {nano.weights} --precision fp32"
    assert f"`featcache extract {root} {network} --val 0.15` takes it from train" in several.err


def test_report_without_a_split_says_what_to_type(run: Run, nano: Nano, folder: Path) -> None:
    """Where only train is in the cache, report is exit 3 and prints the extract that is missing."""
    run("extract", "--split", "train", "--data", folder, *nano.flags)
    run("fit-head", "--data", folder, "--epochs", 2, "--no-check")
    told = run("report", "--data", folder)
    assert told.code == 3
    assert "featcache extract --split test" in told.err


def test_output_that_nobody_takes(extracted: Path, run: Run, tmp_path: Path) -> None:
    """A closed stdout and a reader that left are no errors; a full device is exit 5; none is a traceback."""
    run("fit-head", "--data", extracted, "--epochs", 2, "--no-check")
    featcache = f"cd {tmp_path / 'here'} && set -o pipefail && {sys.executable} -m featcache"
    report = f"report --data {extracted}"
    for line, code in (
        (f"{report} | head -n 1", 0),
        (f"{report} >&-", 0),
        (f"{report} > /dev/full", 5),
        ("--help > /dev/full", 5),
        ("extract --data nowhere 2> /dev/full", 4),
    ):
        told = subprocess.run(["bash", "-c", f"{featcache} {line}"], capture_output=True, text=True, check=False)
        assert (told.returncode, "Traceback" in told.stderr, "bug" in told.stderr) == (code, False, False), line


def test_a_cache_among_the_splits_is_no_split(run: Run, nano: Nano, folder: Path) -> None:
    """With `--data .` the cache stands beside the splits, and the next extract does not take it for one."""
    words = ("extract", "--data", folder, "--cache", folder / "cache", *nano.flags)
    assert run(*words).code == 0
    again = run(*words)
    assert again.code == 0, again.err
    assert "28 images: 0 embedded, 28 reused" in again.out
    assert "class" not in again.err


def test_two_folders_never_mix_under_one_name(run: Run, nano: Nano, extracted: Path, tmp_path: Path) -> None:
    """Where --name gave train to another folder, val of the first one neither chooses nor is reported on."""
    other = write_images(tmp_path / "other", {"train": {"0": 3, "1": 3, "2": 3}})
    assert run("extract", "--split", "train", "--data", other, "--name", "digits", *nano.flags).code == 0
    told = run("fit-head", "--data", other, "--name", "digits", "--no-check")
    assert told.code == 3
    assert str(extracted) in told.err
