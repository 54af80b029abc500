"""The data sets that users have, through the whole of stage one and two, with a small real trunk."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache import DataError, Settings
from featcache.recipe import resolve_recipe
from tests.builders import list_split, write_annotations, write_table
from tests.conftest import ARCH, Nano, single_thread

SETTINGS = Settings(device="cpu", workers=1, batch_size=4)


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def trunk(nano: Nano, tmp_path: Path) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}


def recipe(path: Path, data: str) -> str:
    """A recipe file with this data section."""
    path.write_text(f'name = "set"\n[data]\n{data}\n')
    return str(path)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Three people, two chunks each that share a frame; three folds that re-deal them; one frame is not on disk."""
    root = tmp_path / "daa"
    chunks = {
        person: [f"{person},vp{person}/run,1,0,3,sitting,0", f"{person},vp{person}/run,2,3,5,writing,0"]
        for person in (1, 2, 3)
    }
    for fold, (train, val, test) in enumerate([(1, 2, 3), (2, 3, 1), (3, 1, 2)]):
        write_annotations(root, fold=fold, train=chunks[train], val=chunks[val], test=chunks[test][:1])
    for person in (1, 2, 3):
        for frame in range(6):
            draw(root / f"vp{person}/run/img_{frame:06d}.png", 10 * person + frame)
    return root


def fold_of(root: Path, fold: int) -> str:
    """A recipe of one fold, beside the data set."""
    data = f'layout = "drive-act"\nroot = "{root}"\nview = "kinect_color"\nfold = {fold}'
    return recipe(root / f"{fold}.toml", data)


def test_a_second_fold_embeds_only_what_the_first_did_not_hold(drives, trunk, tmp_path):
    """Fold 0 lacks the writing of person 3: that is all that fold 1 embeds, and no image is embedded twice."""
    folds = [fold_of(drives, fold) for fold in range(3)]
    found = [featcache.extract(pipeline=fold, settings=SETTINGS, **trunk) for fold in folds]
    assert [[summary.rows for summary in summaries] for summaries in found] == [[7, 7, 4]] * 3
    assert [sum(summary.embedded for summary in summaries) for summaries in found] == [16, 2, 0]
    one = featcache.load("val", pipeline=folds[0], cache=trunk["cache"])
    other = featcache.load("train", pipeline=folds[1], cache=trunk["cache"])
    assert one.paths == other.paths
    np.testing.assert_array_equal(one.x, other.x)
    assert (one.subjects[0], one.clips[0], one.classes) == ("2", "vp2/run/1/0", ("sitting", "writing"))
    assert not any(summary.cuts for summaries in found for summary in summaries)


def test_a_second_level_embeds_nothing_and_has_heads_of_its_own(drives, trunk):
    """Frames are shared: tasklevel adds listings, no embedding; its heads, classes and tables are never midlevel's."""
    tasks = {"train": ["1,vp1/run,9,0,3,resting,0", "1,vp1/run,9,4,5,working,1"], "val": ["2,vp2/run,9,0,5,working,0"]}
    write_annotations(drives, level="tasklevel", **tasks)
    options = {"pipeline": fold_of(drives, 0), "cache": trunk["cache"]}
    featcache.extract(pipeline=options["pipeline"], settings=SETTINGS, **trunk)
    shards = set(Path(trunk["cache"]).glob("stores/*/shards/*"))
    second = featcache.extract(pipeline=options["pipeline"], level="tasklevel", settings=SETTINGS, **trunk)
    assert [(summary.rows, summary.embedded, summary.engine) for summary in second] == [(6, 0, ""), (6, 0, "")]
    assert set(Path(trunk["cache"]).glob("stores/*/shards/*")) == shards
    fits = [
        featcache.fit_head(0.1, **options, level=level, epochs=2, check_seconds=None)
        for level in ("midlevel", "tasklevel")
    ]
    assert [fit.best.classes for fit in fits] == [("sitting", "writing"), ("resting", "working")]
    tables = [featcache.compare(**options, level=level) for level in ("midlevel", "tasklevel")]
    assert [[head.name for head in table.heads] for table in tables] == [[fit.best.name] for fit in fits]
    assert [table.variant for table in tables] == [
        "fold0-kinect_color-all", "fold0-kinect_color-all-tasklevel",
    ]  # fmt: skip


def test_a_frame_that_is_not_on_disk_is_a_row_that_fails(drives, trunk, tmp_path):
    """A missing frame is named at extract, and its row left out of the features; the rest stays aligned."""
    (drives / "vp1/run/img_000001.png").unlink()
    name = fold_of(drives, 0)
    with pytest.raises(DataError, match=r"img_000001\.png: "):
        featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    patient = Settings(device="cpu", workers=1, batch_size=4, max_bad=0.2)
    (summary,) = featcache.extract("train", pipeline=name, settings=patient, **trunk)
    assert [path for path, _ in summary.failures] == ["vp1/run/img_000001.png"]
    assert len(featcache.load("train", pipeline=name, cache=trunk["cache"]).y) == 6


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Eight people with four images each, of two classes."""
    return add_people(tmp_path / "people", 8)


def add_people(root: Path, count: int) -> Path:
    rows = [(f"p{person}-{at}.png", "ab"[at % 2], f"p{person}") for person in range(count) for at in range(4)]
    for number, (path, *_) in enumerate(rows):
        if not (root / path).exists():
            draw(root / path, number)
    return write_table(root, ("path", "label", "subject"), *rows, files=False)


def dealt_recipe(path: Path, root: Path, by: str) -> str:
    table = f'layout = "table"\nroot = "{root}"\ntable = "labels.csv"\n'
    return recipe(path, f'{table}[data.split]\nval = 0.25\nby = "{by}"')


def test_a_dealt_split_is_written_down(people, trunk, tmp_path):
    """An extract writes down who is in which split; with people added, fit-head and extract keep every one in place."""
    name = dealt_recipe(tmp_path / "r.toml", people, "subject")
    train, val = featcache.extract(pipeline=name, settings=SETTINGS, **trunk)
    assert (train.rows, val.rows, train.cuts, val.cuts) == (24, 8, (), ())
    (written,) = Path(trunk["cache"]).glob("listings/set/all-val0.25-subject-seed0/splits.json")
    groups = json.loads(written.read_bytes())["splits"]
    assert (len(groups["train"]), len(groups["val"])) == (6, 2)
    before = {split: set(featcache.load(split, pipeline=name, cache=trunk["cache"]).subjects) for split in groups}
    assert before == {split: set(found) for split, found in groups.items()}

    add_people(people, 13)
    fit = featcache.fit_head(0.1, pipeline=name, cache=trunk["cache"], epochs=2, check_seconds=None)
    stale = [note for note in fit.notes if "has changed since it was extracted" in note]
    assert [("0 gone" in note, "'train'" in note) for note in stale] == [(True, True), (True, False)]
    after = featcache.extract(pipeline=name, settings=SETTINGS, **trunk)
    assert sum(summary.embedded for summary in after) == 20
    for split, subjects in before.items():
        assert subjects <= set(featcache.load(split, pipeline=name, cache=trunk["cache"]).subjects)
    assert list_split(resolve_recipe(name), "train").classes == ("a", "b")


def test_a_split_that_cuts_through_people_warns_on_every_command(people, trunk, tmp_path):
    """By image, extract (of one split too), fit-head and report each say that splits share people."""
    name = dealt_recipe(tmp_path / "r.toml", people, "image")
    (train,) = featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    (warning,) = train.cuts
    assert "splits 'train' and 'val' share" in warning
    assert train.to_json()["cuts"] == [warning]
    featcache.extract("val", pipeline=name, settings=SETTINGS, **trunk)
    fit = featcache.fit_head(0.1, pipeline=name, cache=trunk["cache"], epochs=2, check_seconds=None)
    assert warning in fit.notes
    found = featcache.evaluate(pipeline=name, cache=trunk["cache"], split="val", allow_shared_subjects=True)
    assert warning in found.notes


def test_a_head_from_fold_0_is_right_on_a_val_that_lacks_a_class(trunk, tmp_path):
    """Black, grey and white are told apart on val too, which lacks black: with a class list a split, none would be."""
    root, shades = tmp_path / "daa", {"black": 0, "grey": 110, "white": 255}
    frames = {}
    for split, person, names in (("train", 1, ("black", "grey", "white")), ("val", 2, ("grey", "white"))):
        chunks = []
        for number, name in enumerate(names):
            chunks.append(f"{person},vp{person}/run,{number},{10 * number},{10 * number + 4},{name},0")
            for frame in range(10 * number, 10 * number + 5):
                path = root / f"vp{person}/run/img_{frame:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (shades[name],) * 3).save(path)
                path.write_bytes(path.read_bytes() + bytes([frame]))  # other bytes, so another image
        frames[split] = chunks
    write_annotations(root, **frames)
    name = fold_of(root, 0)
    featcache.extract(pipeline=name, settings=SETTINGS, **trunk)
    featcache.fit_head(0.5, pipeline=name, cache=trunk["cache"], epochs=60, batch_size=5, check_seconds=None)
    found = featcache.evaluate(pipeline=name, cache=trunk["cache"], split="val")
    assert found.classes == ("black", "grey", "white")
    assert found.support.tolist() == [0, 5, 5]
    np.testing.assert_array_equal(found.recall, [np.nan, 1, 1])
