"""The data section of a recipe: one set of keys for each layout, every problem at once."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.files.documents import NAME_PATTERN
from featcache.listing.sources import name_variant, resolve_source
from featcache.recipe import Recipe, check_recipe, resolve_recipe

DRIVE_ACT = {"layout": "drive-act", "root": "x", "view": "kinect_color", "fold": 0}
TABLE = {"layout": "table", "root": "x", "table": "labels.csv"}


def read(**data: object) -> Recipe:
    return check_recipe({"name": "set", "data": data}, where="test")


def refused(**data: object) -> str:
    with pytest.raises(UsageError) as caught:
        read(**data)
    return str(caught.value)


def test_daa_is_complete(tmp_path, monkeypatch):
    """A user who owns Drive&Act edits one path: view, fold and cap stand in the recipe that ships."""
    monkeypatch.chdir(tmp_path)
    found = resolve_recipe("daa", data="/mine")
    assert found.data.model_dump(exclude_none=True) == {
        "layout": "drive-act",
        "root": "/mine",
        "view": "kinect_color",
        "fold": 0,
        "frames_per_chunk": 49,
        "stride": 1,
        "level": "midlevel",
    }
    assert name_variant(found) == "fold0-kinect_color-49"


@pytest.mark.parametrize(
    ("data", "kind"), [({"root": "x"}, "Folder"), (DRIVE_ACT, "DriveAct"), (TABLE, "Table")], ids=["", "daa", "table"]
)
def test_every_layout_has_its_source(data, kind):
    """The layout decides who lists the images; without one it is a folder."""
    assert type(resolve_source(read(**data))).__name__ == kind
    assert type(resolve_source(read(**data, split={"val": 0.1, "by": "image"}))).__name__ == "AssignedSplits"


def test_every_problem_of_a_layout_is_named_at_once():
    """The keys are those of the layout that is named; a layout that does not exist is one line, and its keys none."""
    message = refused(layout="drive-act", root="", views="x", fold=3, stride=0, split={"val": 2, "of": 1})
    for line in (
        "data.root: found ''",
        "data.views: unknown key; did you mean view?",
        "data.view: missing",
        "data.fold: found 3",
        "data.stride: found 0",
        "data.split.val: found 2",
        "data.split.by: missing",
        "data.split.of: unknown key; expected val, test, by, seed",
    ):
        assert f"\n  {line}" in message
    message = refused(layout="zip", rot=3)
    assert "2 problems" in message
    assert "data.root: missing" in message
    assert "data.layout: found 'zip', expected folder, drive-act, table or container" in message


def test_settings_that_do_not_go_together_are_told_without_all_the_others():
    """A fault of a whole section does not print the section."""
    files = {"frames": "{file_id}/{frame}.png", "videos": "{file_id}.mp4"}
    message = refused(layout="drive-act", root="x", view="a", fold=0, **files)
    assert "data: frames and videos are both named; leave one of them out" in message
    assert "{'" not in message
    with pytest.raises(UsageError, match=r"trunk\.cnn: found 3, expected a section of settings"):
        check_recipe({"name": "a", "data": {"root": "a"}, "trunk": {"arch": "cnn", "cnn": 3}}, where="some.toml")


def test_a_key_of_another_layout_is_unknown():
    """An image folder has no fold, a table no view."""
    assert "data.fold: unknown key; expected layout, root, split" in refused(root="x", fold=0)
    assert refused(root="x", level="tasklevel").endswith("layout, root, split; only the layout drive-act has it")
    assert "data.view: unknown key" in refused(**TABLE, view="x")
    assert "data.table: missing" in refused(layout="table", root="x")


@pytest.mark.parametrize("layout", [3, [], {}, "", "Folder"])
def test_a_layout_of_any_kind_is_read_or_refused(layout):
    """Whatever stands where the layout should, the answer is its own line."""
    assert "data.layout: found" in refused(root="x", layout=layout)


@pytest.mark.parametrize(
    "pattern",
    [
        "{file_id}/{frame}",
        "{view}/{file_id}/img_{frame:06d}.png",
        "{participant_id}/{activity}/{annotation_id}-{chunk_id}/{file_id}_{frame:6}.jpg",
        "..{file_id}/{frame:d}..png",
    ],
)
def test_a_pattern_of_frames_may_use_what_names_a_chunk(pattern):
    """Every column that identifies a chunk, and the frame's number in any width."""
    assert read(**DRIVE_ACT, frames=pattern).data.frames == pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "expected {frame} once, and {file_id}"),
        ("videos", "expected {frame} once, and {file_id}"),
        ("img_{frame:06d}.png", "{file_id}, which tells the drives apart"),
        ("{file_id}/x.png", "expected {frame} once"),
        ("{file_id}/{frame}/{frame}.png", "expected {frame} once"),
        ("/data/{file_id}/{frame}.png", "below the root"),
        ("../{file_id}/{frame}.png", "below the root"),
        ("{file_id}/../{frame}.png", "below the root"),
        ("{file_id.__class__}/{frame}", "unknown field 'file_id.__class__'"),
        ("{0}/{file_id}/{frame}", "unknown field '0'"),
        ("{}/{file_id}/{frame}", "unknown field ''"),
        ("{file_id!r}/{frame}", "unknown field 'file_id!r'"),
        ("{file_id}/{frame:0999999999d}", "only a frame has a format"),
        ("{file_id}/{frame:x}", "only a frame has a format"),
        ("{file_id:90}/{frame}", "only a frame has a format"),
        ("{file_id}/{frame:{view}}", "an unmatched brace"),
        ("{{file_id}}/{file_id}/{frame}", "an unmatched brace"),
        ("{file_id}/{frame}\0", "a NUL"),
    ],
)
def test_a_pattern_that_cannot_name_frames_is_refused(pattern, said):
    """No path out of the root, no field that is none, no frame that two drives would share."""
    message = refused(**DRIVE_ACT, frames=pattern)
    assert "1 problem\n  data.frames: found" in message
    assert said in message
    assert "Value error" not in message


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("all.mp4", "{file_id}, which tells the drives apart"),
        ("{file_id}/{frame}.mp4", "unknown field 'frame'"),
        ("{file_id}-{activity}.mp4", "unknown field 'activity'"),
        ("/{file_id}.mp4", "below the root"),
    ],
)
def test_a_pattern_that_cannot_name_videos_is_refused(pattern, said):
    """A drive has one video: its pattern has the drive in it, and nothing of a chunk or a frame."""
    message = refused(**DRIVE_ACT, videos=pattern)
    assert "1 problem\n  data.videos: found" in message
    assert said in message
    assert read(**DRIVE_ACT, videos="{view}/{participant_id}/{file_id}.avi").data.frames is None


def test_frames_and_videos_are_not_both_named():
    """A recipe says one of the two, or neither."""
    assert "frames and videos are both named" in refused(**DRIVE_ACT, frames="{file_id}/{frame}", videos="{file_id}")


@given(st.text(alphabet="{}:/.!ab0d", max_size=12).map("{{file_id}}/{{frame}}{}".format))
def test_any_pattern_is_filled_in_or_refused(pattern):
    """A pattern that passes can be filled in, and stays below the root."""
    try:
        read(**DRIVE_ACT, frames=pattern)
    except UsageError:
        return
    path = pattern.format(file_id="a/b", frame=7)
    assert ".." not in path.split("/")
    assert not path.startswith("/")


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"val": 0.1}, "data.split.by: missing"),
        ({"by": "image"}, "expected val, test, or both"),
        ({"val": 0.5, "test": 0.5, "by": "image"}, "leave nothing to train on"),
        ({"val": 0, "by": "image"}, "data.split.val: found 0"),
        ({"test": 1, "by": "image"}, "data.split.test: found 1"),
        ({"val": float("nan"), "by": "image"}, "data.split.val: found nan"),
        ({"val": 0.1, "by": "person"}, "data.split.by: found 'person'"),
        ({"val": 0.1, "by": "clip", "seed": -1}, "data.split.seed: found -1"),
        (3, "data.split: found 3"),
    ],
)
def test_a_split_that_cannot_be_is_refused(split, said):
    """Shares leave something to train on, and what is kept together must be said."""
    assert said in refused(root="x", split=split)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,23}", fullmatch=True),
    st.integers(1, 99_999),
    st.integers(1, 99_999),
    st.floats(1e-12, 0.49),
    st.floats(1e-12, 0.49),
    st.integers(0, 10**9 - 1),
)
def test_a_variant_is_the_name_of_a_folder(view, cap, stride, val, test, seed):
    """Whatever a recipe may ask for, its variant is a permitted name of a folder in the cache."""
    split = {"val": val, "test": test, "by": "subject", "seed": seed}
    data = {**DRIVE_ACT, "view": view, "frames_per_chunk": cap, "stride": stride, "split": split}
    assert re.fullmatch(NAME_PATTERN, name_variant(read(**data)))


def test_a_flag_keeps_the_layout():
    """Overriding one section leaves the data section as it was read."""
    found = read(**DRIVE_ACT, split={"val": 0.1, "by": "subject"})
    assert found.override("head", epochs=3).data == found.data
