"""What systems and tools leave behind: no split, no class, no row; and a class that has such a name."""

import os
from pathlib import Path

import pytest

from featcache.dataset.summary import describe
from featcache.errors import DataError
from featcache.listing.folder import find_splits, list_folder
from featcache.listing.leftovers import count_leftovers, is_leftover, may_be_leftover, note_leftovers
from featcache.prediction.images import find_images

FOLDERS = (
    "__MACOSX", "__macosx", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", ".TemporaryItems",
    ".DocumentRevisions-V100", "Network Trash Folder", "Temporary Items", ".AppleDB", ".AppleDesktop",
    "@eaDir", "@EADIR", "@tmp", "@sharebin", "#recycle", "#snapshot", ".@__thumb", "@Recycle", "@Recently-Snapshot",
    "@Transcode", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "found.000", "FOUND.013",
    "LOST.DIR", ".Trash-1000", ".thumbnails", ".ipynb_checkpoints", "__pycache__", ".git", ".svn", ".dvc", ".snapshot",
    "~snapshot", ".zfs", ".sync", ".stversions", ".stfolder", ".dropbox.cache", ".cache", ".venv", "_gsdata_",
    "S-1-5-21-1004336348-1177238915-682003330-1001", ".tmp.drivedownload", ".AppleDesktop", ".idea", ".hidden",
)  # fmt: skip
FILES = (
    "._1.png", ".DS_Store", "Thumbs.db", "THUMBS.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Icon\r",
    ".nfs00000000009f1a2b00000001", ".directory", ".apdisk", ".fuse_hidden0000a1", ".~lock.1.png#", "Picasa.ini",
    "SYNOPHOTO_THUMB_M.jpg", "SYNOINDEX_MEDIA_INFO", "1.jpg@SynoEAStream", "Desktop DB",
)  # fmt: skip


def laid(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def listed(root: Path):
    return list_folder(str(root), "train", data_set="set")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_a_system_is_nothing_wherever_it_stands(tmp_path, name):
    """Beside the splits, the classes, the clips or the images: no split, no class, no row, and told."""
    laid(tmp_path, "train/cat/1.png", "train/cat/clip/2.png")
    places = ["", "train/", "train/cat/", "train/cat/clip/"]
    laid(
        tmp_path, *(f"{place}{name}/train/cat/1.png" for place in places), *(f"{place}{name}/x.jpg" for place in places)
    )
    found = listed(tmp_path)
    assert find_splits(str(tmp_path)) == ["train"]
    assert (found.classes, found.paths) == (("cat",), ("train/cat/1.png", "train/cat/clip/2.png"))
    assert (set(found.left_out), found.ignored) == ({place + name for place in places}, ())


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_system_is_no_row(tmp_path, name):
    """A file that a system wrote is neither a row nor one that was not taken for an image."""
    laid(tmp_path, "train/cat/1.png", f"train/{name}", f"train/cat/{name}", name)
    found = listed(tmp_path)
    assert (found.paths, found.ignored) == (("train/cat/1.png",), ())
    assert set(found.left_out) == {name, f"train/{name}", f"train/cat/{name}"}


@pytest.mark.parametrize(
    "name", ["lost+found", "Recycler", "CVS", "lost", "cache", "git", "macosx", "thumbs", "S-1", "#1"]
)
def test_a_class_that_a_person_named_is_kept(tmp_path, name):
    """A name that a class may have is a class where an image lies in it, at any depth."""
    found = listed(laid(tmp_path, "train/cat/1.png", f"train/{name}/clip/2.png"))
    assert set(found.classes) == {"cat", name}
    assert len(found) == 2
    if may_be_leftover(name):
        assert found.remarks() == [f"folder train/{name} is taken for a class, since there are images in it"]


def test_a_lost_and_found_of_a_file_system_is_no_class(tmp_path):
    """Without an image in it, or beside the splits, or where nobody may look, it is the file system's."""
    laid(tmp_path, "train/cat/1.png", "lost+found/#12345/1.png", "train/lost+found/#123", "train/cat/lost+found/.x.png")
    found = listed(tmp_path)
    assert (find_splits(str(tmp_path)), found.classes) == (["train"], ("cat",))
    assert set(found.left_out) == {"lost+found", "train/lost+found", "train/cat/lost+found"}


def test_what_was_left_out_is_counted_by_name():
    """One sentence for what lies beside the splits, one for the rest; families of names are one name."""
    paths = ["__MACOSX", "train/cat/._1.png", "train/cat/._2.png", "train/.DS_Store", "val/@eaDir", "val/a\nb/.x\ny"]
    assert note_leftovers(paths) == [
        "beside the splits, 1 hidden entry or system leftover was left out: __MACOSX (1)",
        r"among the images, 5 hidden entries or system leftovers were left out: ._* (2), .DS_Store (1), @eaDir (1), "
        r".x\ny (1)",
    ]
    assert count_leftovers([f".{n}" for n in range(20)]).endswith("and 12 more names")


def test_data_says_each_once(tmp_path):
    """`featcache data` names what it left out of all splits; what lies beside them is counted once."""
    laid(
        tmp_path,
        "__MACOSX/x",
        *(f"{split}/{name}" for split in ("train", "val") for name in ("cat/1.png", ".DS_Store")),
    )
    notes = describe(data=str(tmp_path), cache=tmp_path / "cache").notes
    assert notes == (
        "beside the splits, 1 hidden entry or system leftover was left out: __MACOSX (1)",
        "among the images, 2 hidden entries or system leftovers were left out: .DS_Store (2)",
    )


def test_a_root_may_have_any_name(tmp_path):
    """Only what stands below the root is looked at: a person may mean a hidden folder."""
    root = laid(tmp_path / ".cache" / "@eaDir", "train/cat/1.png")
    assert listed(root).paths == ("train/cat/1.png",)
    assert [os.path.basename(path) for path in find_images(root)] == ["1.png"]


def test_a_root_with_leftovers_alone_names_them(tmp_path):
    """Where nothing else is there, the error says what was found."""
    with pytest.raises(DataError, match=r"no folder in it but \.git, __MACOSX; expected"):
        find_splits(str(laid(tmp_path, "__MACOSX/train/a/1.png", ".git/x")))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_given_to_predict_has_none_of_them(tmp_path, name):
    """`predict FOLDER` asks about a person's images alone, and counts the others; a file that is named is meant."""
    root = laid(tmp_path / "in", "a.png", "b/c.jpg", f"{name}/x.png", f"b/{name}/y.png", "b/._c.jpg", "b/Thumbs.db")
    left_out: list[str] = []
    assert [os.path.relpath(path, root) for path in find_images(root, left_out)] == ["a.png", "b/c.jpg"]
    assert len(left_out) == 4
    assert find_images(root / name / "x.png") == [str(root / name / "x.png")]


def test_no_name_of_a_person_is_taken_for_a_leftover():
    """Words, numbers and other scripts are left alone."""
    names = (
        "cat",
        "0",
        "__init__",
        "Temp",
        "trash",
        "recycle",
        "eaDir",
        "snapshot",
        "caf\u00e9",
        "\u5b57",
        "_",
        "@home",
        "#1",
    )
    assert not any(is_leftover(name) or may_be_leftover(name) for name in names)
