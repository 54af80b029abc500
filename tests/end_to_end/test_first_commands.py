"""What somebody types first: a folder behind the command, a folder without splits, Drive&Act, `featcache init`."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.builders import OBJECT_HEADER, write_annotations
from tests.conftest import Nano, Ran, write_images

Run = Callable[..., Ran]


def write_drives(root: Path) -> Path:
    """Write a folder as Drive&Act's: six frames of each of three people, and the annotations of three folds."""
    names = [f"vp{person}/run.kinect_color" for person in (1, 2, 3)]
    for person, name in enumerate(names):
        for frame in range(6):
            path = root / name / f"img_{frame:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), 60 * person + 40 * (frame % 2)).save(path)
    lines = [
        [f"{person},{name},{frame},{frame},{frame},{('eating', 'writing')[frame % 2]},0" for frame in range(6)]
        for person, name in enumerate(names, start=1)
    ]
    for fold in range(3):
        train, val, test = lines[fold:] + lines[:fold]
        write_annotations(root, fold=fold, train=train, val=val, test=test)
    return root


def test_from_a_folder_without_splits_to_a_report(run: Run, nano: Nano, tmp_path: Path) -> None:
    """The refusal has a command; it works when pasted, and so does each command that an answer ends with."""
    here = tmp_path / "here"
    write_images(here, {"photos": {"0": 14, "1": 14}})
    refused = run("extract", "photos", *nano.flags)
    assert refused.code == 4
    (words,) = re.findall(r"^  featcache (extract .*)$", refused.err, re.MULTILINE)
    told = run(*shlex.split(words), *nano.flags)
    assert (told.code, "photos/val: 4 images: 4 embedded" in told.out) == (0, True), told.err
    for extra in (("--learning-rate", "0.01,0.1", "--epochs", 2, "--no-check"), ()):
        (words,) = re.findall(r"^next: featcache (.*)$", told.out, re.MULTILINE)
        told = run(*shlex.split(words), *extra)
        assert told.code == 0, told.err
    assert "photos · test" in told.out
    assert "daa" not in told.out + told.err
    short = run("report", "photos", "--json")
    assert json.loads(short.out)["split"] == "test"


def test_advice_on_a_folder_without_splits_divides_it(run: Run, tmp_path: Path) -> None:
    """The extract that fit-head and report ask for is one that works when pasted: it has the shares of the splits."""
    write_images(tmp_path / "here", {"photos": {"0": 4, "1": 4}})
    for command in ("fit-head", "report"):
        told = run(command, "photos")
        assert told.code == 3
        assert "`featcache extract photos --val 0.15 --test 0.15`" in told.err


def test_a_misspelt_split_of_a_divided_folder_is_named(run: Run, nano: Nano, tmp_path: Path) -> None:
    """The splits that the shares make are known as those of folders are; the nearest is proposed."""
    write_images(tmp_path / "here", {"photos": {"0": 8, "1": 8}})
    told = run("extract", "photos", "--val", "0.2", "--test", "0.2", "--split", "tets", *nano.flags)
    assert told.code == 4
    assert "no split 'tets' in it; did you mean test? found train, val, test" in told.err


def test_init_writes_a_recipe_once(run: Run, tmp_path: Path) -> None:
    """It says what it understood and what comes next, that command reads the file and says so once, and a second
    init leaves it alone and shows the lines that it would have written.
    """
    write_images(tmp_path / "here", {"photos": {"0": 4, "1": 4}})
    told = run("init", "photos")
    assert "photos: images in a folder for each class (0, 1), without splits." in told.out
    assert told.out.endswith("next: featcache data\n")
    recipe = tmp_path / "here/featcache.toml"
    text = recipe.read_text()
    assert tomllib.loads(text)["data"]["root"] == "photos"
    counted = run("data")
    assert counted.err.count("featcache.toml") == 1
    again = run("init", "photos")
    assert (again.code, "stays as it is" in again.err, recipe.read_text()) == (2, True, text)
    shown = again.err.partition(":\n")[2]
    assert tomllib.loads(shown) == tomllib.loads(text)


def test_a_level_of_drive_act_by_a_flag(run: Run, nano: Nano, tmp_path: Path) -> None:
    """--level stands in every command that an answer ends with; a level that is misspelt, that is not here, that has
    several columns, or that another data set cannot have is one sentence, and a command that works where there is one.
    """
    root = write_drives(tmp_path / "drives")
    rows = [("1,vp{0}/run.kinect_color,{1},{1},{1},open,{2},seat,0", frame, "ab"[frame % 2]) for frame in range(6)]
    for person, split in enumerate(("train", "val", "test"), start=1):
        lines = [f"{person}{row[1:].format(person, frame, name)}" for row, frame, name in rows]
        write_annotations(root, level="objectlevel", header=OBJECT_HEADER, **{split: lines})
    wrong = run("data", root, "--level", "objekt")
    assert (wrong.code, "did you mean objectlevel?" in wrong.err) == (2, True)
    several = run(*shlex.split(re.findall(r"^try: featcache (.*)$", wrong.err, re.MULTILINE)[0]))
    assert (several.code, "columns that can be predicted: activity, object and location" in several.err) == (2, True)
    told = run("extract", root, "--level", "objectlevel", "--target", "object", *nano.flags)
    assert "note: objectlevel: the classes are those of the column 'object'" in told.err
    for extra in (("--epochs", 2, "--no-check"), ()):
        (words,) = re.findall(r"^next: featcache (.*)$", told.out, re.MULTILINE)
        assert "--level objectlevel --target object" in words
        told = run(*shlex.split(words), *extra)
        assert told.code == 0, told.err
    assert "-objectlevel-object" in told.out
    absent = run("extract", root, "--level", "tasklevel", *nano.flags)
    assert absent.code == 4
    assert "no annotations of the level tasklevel; found midlevel and objectlevel" in absent.err
    write_images(tmp_path / "here", {"photos": {"0": 4, "1": 4}})
    other = run("data", "photos", "--level", "tasklevel")
    assert (other.code, "--level: photos has no levels; only the layout drive-act has them" in other.err) == (2, True)
    assert "try: featcache data photos\n" in other.err
    assert "(midlevel, objectlevel)" in run("init", root).out


def test_all_folds_of_drive_act_from_its_folder_alone(run: Run, nano: Nano, tmp_path: Path) -> None:
    """--folds extracts and fits each fold; a second fold embeds nothing anew, and the report averages them."""
    root = write_drives(tmp_path / "drives")
    every = json.loads(run("extract", root, "--folds", "0,1,2", *nano.flags, "--json").out)
    assert [(part["fold"], part["split"]) for part in every] == [
        (fold, split) for fold in range(3) for split in ("train", "val", "test")
    ]
    assert [sum(part["embedded"] for part in every if part["fold"] == fold) for fold in range(3)] == [6, 0, 0]
    fits = json.loads(run("fit-head", root, "--folds", "0,1,2", "--epochs", 2, "--no-check", "--json").out)
    assert [fit["fold"] for fit in fits["folds"]] == [0, 1, 2]
    averaged = run("report", root, "--folds", "0,1,2", "--by", "clip")
    assert "3 folds" in averaged.out, averaged.err
