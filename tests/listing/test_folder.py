"""An image folder, <root>/<split>/<class>/.../image, as a listing."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featcache.errors import DataError
from featcache.listing.folder import IMAGE_SUFFIXES, find_splits, list_folder
from featcache.listing.spellings import same_name_key
from featcache.recipe import check_recipe
from tests.builders import find_recipe_splits, list_split


def laid(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(root: Path, split: str = "train"):
    return list_folder(str(root), split, data_set="set")


def test_the_usual_splits_come_first(tmp_path):
    """train, val and test stand in this order before every other folder; files and hidden folders are none."""
    laid(tmp_path, *(f"{split}/a/1.png" for split in ("zoo", "test", "val", "train", "dev", ".git")), "notes.txt")
    assert find_splits(str(tmp_path)) == ["train", "val", "test", "dev", "zoo"]
    recipe = check_recipe({"name": "set", "data": {"root": str(tmp_path)}}, where="test")
    assert find_recipe_splits(recipe) == find_splits(str(tmp_path))
    assert list_split(recipe, "dev").data_set == "set"


def test_one_class_list_for_all_splits(tmp_path):
    """Classes are the union over the splits, sorted; one that a split lacks keeps its index there."""
    laid(tmp_path, "train/bee/1.png", "train/wasp/1.png", "val/ant/1.png", "val/wasp/1.png")
    train, val = listed(tmp_path), listed(tmp_path, "val")
    assert train.classes == val.classes == ("ant", "bee", "wasp")
    assert train.labels.tolist() == [1, 2]
    assert val.labels.tolist() == [0, 2]
    assert train.support().tolist() == [0, 1, 1]


def test_an_empty_class_keeps_its_place(tmp_path):
    """A class folder without an image is a class, with no rows."""
    laid(tmp_path, "train/b/1.png")
    (tmp_path / "train/a").mkdir()
    assert listed(tmp_path).classes == ("a", "b")
    assert listed(tmp_path).labels.tolist() == [1]


def test_the_folder_right_above_an_image_is_its_clip(tmp_path):
    """At any depth the image's own folder is its clip; an image right in its class belongs to none."""
    laid(tmp_path, "train/a/z.png", "train/a/run/2.png", "train/a/run/deep/er/3.png", "train/b/run/4.png")
    found = listed(tmp_path)
    assert list(zip(found.paths, found.clips, strict=True)) == [
        ("train/a/run/2.png", "train/a/run"),
        ("train/a/run/deep/er/3.png", "train/a/run/deep/er"),
        ("train/a/z.png", ""),
        ("train/b/run/4.png", "train/b/run"),
    ]


names = st.text(alphabet="aZ0-_ ~.é\U0001f41d\n", min_size=1, max_size=4).filter(lambda name: name[0] != ".")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.lists(
        st.tuples(st.sampled_from(["a", "a-b"]), st.lists(names, max_size=2), names), min_size=1, max_size=12
    )
)
def test_rows_are_sorted_by_class_then_path(tmp_path_factory, files):
    """Whatever the names and depths, rows come by class and then by path, byte by byte, each once."""
    clips = {"/".join([label, *(f"{part}d" for part in above)]) for label, above, _ in files}
    assume(len({same_name_key(clip) for clip in clips}) == len(clips))
    root = tmp_path_factory.mktemp("sorted")
    laid(
        root,
        *{"/".join(["train", label, *(f"{part}d" for part in above), f"{name}.png"]) for label, above, name in files},
    )
    found = listed(root)
    # A class ends where "/" stands: "a" comes before "a-b", though "-" comes before "/".
    keys = [(os.fsencode(path.split("/")[1]), os.fsencode(path)) for path in found.paths]
    assert keys == sorted(keys)
    on_disk = {str(path.relative_to(root)) for path in root.rglob("*.png")}
    assert set(found.paths) == on_disk
    assert len(found) == len(on_disk)
    assert [found.classes[label] for label in found.labels] == [path.split("/")[1] for path in found.paths]


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".JPG", ".Png"])
def test_every_suffix_of_an_image_makes_a_row(tmp_path, suffix):
    """A file is a row by the end of its name, in any case of letters."""
    assert listed(laid(tmp_path, f"train/a/x{suffix}")).paths == (f"train/a/x{suffix}",)


def test_what_is_no_image_by_its_name_is_ignored_and_named(tmp_path):
    """A file with another ending is no row, and stands in `ignored`; hidden ones do not."""
    laid(tmp_path, "train/a/1.png", "train/a/x.db", "train/a/deep/x.txt", "train/loose.png", "train/a/.hidden.png")
    found = listed(tmp_path)
    assert found.paths == ("train/a/1.png",)
    assert set(found.ignored) == {"train/a/x.db", "train/a/deep/x.txt", "train/loose.png"}


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    """x.jpg/ is a clip, not a row."""
    assert listed(laid(tmp_path, "train/a/x.jpg/1.png")).paths == ("train/a/x.jpg/1.png",)


def test_names_survive_whatever_their_bytes(tmp_path):
    """A name that is no UTF-8, or holds a line break, names its file on disk again byte for byte."""
    raw = [b"\xff\xfe.png", b"new\nline.png", b"=cmd.png", "e\u0301.png".encode(), "\u00e9.png".encode()]
    laid(tmp_path, "train/a/0.png")
    for name in raw:
        Path(os.fsdecode(os.fsencode(tmp_path / "train/a") + b"/" + name)).touch()
    found = listed(tmp_path)
    assert len(found) == 1 + len(raw)
    assert {os.path.basename(os.fsencode(path)) for path in found.paths} == {b"0.png", *raw}
    assert all(os.path.exists(found.file(row)) for row in range(len(found)))


def test_links_are_followed(tmp_path):
    """A link to an image is a row, one to a folder is a folder, and the root itself may be one."""
    laid(tmp_path / "real", "train/a/1.png", "elsewhere/2.png")
    os.symlink("1.png", tmp_path / "real/train/a/also.png")
    os.symlink(tmp_path / "real/elsewhere", tmp_path / "real/train/a/clip")
    os.symlink("real", tmp_path / "link")
    assert listed(tmp_path / "link").paths == ("train/a/1.png", "train/a/also.png", "train/a/clip/2.png")


def test_what_cannot_be_read_is_a_row_all_the_same(tmp_path):
    """A dangling link, a link to itself and a FIFO are rows that will fail by name, not holes and not crashes."""
    laid(tmp_path, "train/a/1.png")
    os.symlink("nowhere.jpg", tmp_path / "train/a/dangling.jpg")
    os.symlink("itself.jpg", tmp_path / "train/a/itself.jpg")
    os.symlink("itself", tmp_path / "train/itself")
    os.symlink("itself", tmp_path / "itself")
    os.mkfifo(tmp_path / "train/a/pipe.jpg")
    found = listed(tmp_path)
    assert found.paths == ("train/a/1.png", "train/a/dangling.jpg", "train/a/itself.jpg", "train/a/pipe.jpg")
    assert found.ignored == ("train/itself",)


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_a_link_to_a_folder_above_ends_and_is_named(tmp_path, target):
    """A loop of links ends in an error that names the link, at once."""
    laid(tmp_path, "train/a/clip/1.png")
    os.symlink(target, tmp_path / "train/a/clip/loop")
    with pytest.raises(DataError, match="loop: this link leads back to a folder above it"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("files", "split", "said"),
    [
        ([], "train", "no folder in it"),
        (["1.png"], "train", "no folder in it"),
        ([f"{n}/a/1.png" for n in range(100, 112)], "train", "in it; found 100, .*, 109 and 2 more$"),
        (["val/a/1.png"], "train", "no split 'train' in it; found val"),
        (["train/1.png"], "train", "train/1.png, right below the split"),
        (["train/a/notes.txt"], "train", "no image in a class folder"),
        (["train/a/.hidden.png"], "train", "no image in a class folder"),
    ],
)
def test_a_folder_without_what_was_asked_says_what_it_has(tmp_path, files, split, said):
    """A missing split, class or image is one error of exit code 4 that says what was found instead."""
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataError, match=said) as caught:
        listed(laid(root, *files), split)
    assert caught.value.exit_code == 4


def test_a_root_that_is_none_is_named(tmp_path):
    """A root that does not exist, or is a file, is told apart."""
    with pytest.raises(DataError, match=r"does not exist.*--data"):
        listed(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        listed(tmp_path / "file")


def test_a_relative_root_is_the_same_data_set(tmp_path, monkeypatch):
    """However the root is written, the listing's root is absolute and its rows the same."""
    laid(tmp_path, "data/train/a/1.png")
    monkeypatch.chdir(tmp_path)
    one, other = listed(Path("data/../data/")), listed(tmp_path / "data")
    assert one.root == other.root == str(tmp_path / "data")
    assert one.paths == other.paths
    np.testing.assert_array_equal(one.labels, other.labels)


def test_the_real_photographs_are_all_listed(hymenoptera):
    """Ants and bees: 245 and 153 rows, the GIF and the .jpeg among them, as the data set's page counts them."""
    train, val = listed(hymenoptera), listed(hymenoptera, "val")
    assert train.classes == val.classes == ("ants", "bees")
    assert train.support().tolist() == [124, 121]
    assert val.support().tolist() == [70, 83]
    suffixes = {Path(path).suffix for path in (*train.paths, *val.paths)}
    assert suffixes == {".jpg", ".jpeg", ".gif"}


def test_a_misspelt_split_is_noted(tmp_path):
    """Beside train and val the folder tset, or testing, is most likely the split test."""
    root = laid(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val", "tset") for name in "ab"))
    (note,) = listed(root).notes
    assert note == "there is a split tset, and none called test: if it is that one, rename it to test"
    (root / "tset").rename(root / "testing")
    assert "a split testing, and none called test" in listed(root).notes[0]
    (root / "testing").rename(root / "test")
    assert not listed(root).notes
