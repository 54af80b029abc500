"""What lies beside a misspelt path under a similar name."""

from pathlib import Path

from featcache.files import nearest_path


def test_a_folder_of_nearly_the_name_is_meant(tmp_path: Path) -> None:
    """It is returned as it would be typed; a file of that name, and what is hidden, is not meant."""
    for name in ("photos", ".photo", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.txt").touch()
    assert nearest_path(f"{tmp_path}/photo/") == f"{tmp_path}/photos"
    assert nearest_path(f"{tmp_path}/elephants") is None


def test_a_file_with_one_of_the_suffixes_is_meant(tmp_path: Path) -> None:
    """Where files are looked for, folders are not."""
    (tmp_path / "0010.JPG").touch()
    (tmp_path / "0011").mkdir()
    assert nearest_path(str(tmp_path / "0011.jpg"), suffixes=(".jpg",)) == str(tmp_path / "0010.JPG")


def test_nothing_is_near_where_there_is_no_folder(tmp_path: Path) -> None:
    """A path in a folder that does not exist has no neighbours."""
    assert nearest_path(str(tmp_path / "no/photos")) is None
