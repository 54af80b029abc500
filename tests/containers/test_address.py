"""Paths of images in containers, and patterns of containers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.containers import (
    MemberPath,
    expand_pattern,
    find_member,
    is_member_path,
    is_pattern,
    member_path,
    split_member_path,
    split_root,
)
from featcache.errors import UsageError

TEXT = st.text(st.characters(exclude_characters="#", exclude_categories=("Cs",)), max_size=20)


@given(TEXT, st.sampled_from([".tar", ".TAR"]), st.text(min_size=1, max_size=20))
def test_a_path_gives_back_container_and_key(stem, suffix, key):
    """Whatever a key holds, slashes, colons and `#` included, the container ends at its suffix."""
    path = member_path(f"x{stem}{suffix}", key)
    assert is_member_path(path)
    assert split_member_path(path) == MemberPath(f"x{stem}{suffix}", key)


def test_a_file_of_that_name_is_a_file(tmp_path):
    """A typed path means an image in a container only where no file has this very name, and the container is there."""
    path = str(tmp_path / "a.tar#b.jpg")
    assert find_member(path) is None
    (tmp_path / "a.tar").touch()
    assert find_member(path) == (str(tmp_path / "a.tar"), "b.jpg")
    (tmp_path / "a.tar#b.jpg").touch()
    assert find_member(path) is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("s-{008..011}.tar", ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]),
        ("{b,a}-{0..1}.tar", ["b-0.tar", "b-1.tar", "a-0.tar", "a-1.tar"]),
        ("*.tar", ["t1.tar", "t2.tar"]),
        ("t[1].tar", ["t1.tar"]),
        ("{t1}.tar", ["{t1}.tar"]),
    ],
)
def test_a_pattern_stands_for_files(tmp_path, pattern, expected):
    """Braces count and choose, as WebDataset writes them; stars stand for what is there."""
    for name in ("t2.tar", "t1.tar"):
        (tmp_path / name).touch()
    assert list(expand_pattern(str(tmp_path), pattern)) == expected


def test_a_file_that_looks_like_a_pattern_is_itself(tmp_path):
    """A file whose name has braces is no pattern."""
    (tmp_path / "a{0..3}.tar").touch()
    path = str(tmp_path / "a{0..3}.tar")
    assert not is_pattern(path)
    assert list(expand_pattern(*split_root(path))) == ["a{0..3}.tar"]


@pytest.mark.parametrize("pattern", ["{0..99999999}.tar", "{0..999}{0..999}{0..999}.tar"])
def test_a_pattern_of_too_many_files_is_refused(pattern):
    """A pattern cannot stand for a hundred million names."""
    with pytest.raises(UsageError, match="expected at most 1,000,000"):
        list(expand_pattern("/data", pattern))


def test_the_root_of_a_pattern_is_the_folder_before_it(tmp_path):
    """What is fixed of a pattern is the data set's folder; of a file, the folder that it lies in."""
    here = str(tmp_path)
    assert split_root(f"{here}/a/s-{{0..3}}.tar") == (f"{here}/a", "s-{0..3}.tar")
    assert split_root(f"{here}/*/s.tar") == (here, "*/s.tar")
    assert split_root(f"{here}/s.tar") == (here, "s.tar")
    assert split_root(here) == (here, "")
