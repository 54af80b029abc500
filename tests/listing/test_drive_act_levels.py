"""The levels of Drive&Act's annotations: other files, other classes, the same frames."""

from pathlib import Path

import pytest

from featcache.errors import DataError, UsageError
from featcache.listing.sources import describe_differences, list_data_settings, name_variant, resolve_source
from featcache.recipe import Recipe, check_recipe
from tests.builders import OBJECT_HEADER, list_split, write_annotations

RUN = "vp1/run1.kinect_color"


def recipe_of(root: Path, **keys: object) -> Recipe:
    data = {"layout": "drive-act", "root": str(root), "view": "kinect_color", "fold": 0, **keys}
    return check_recipe({"name": "daa", "data": data}, where="test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three levels of the same six frames; at objectlevel one chunk has no location."""
    write_annotations(tmp_path, train=[f"1,{RUN},1,0,2,eating,0"], val=[f"1,{RUN},2,3,5,writing,0"])
    write_annotations(
        tmp_path, level="tasklevel", train=[f"1,{RUN},7,0,2,eat_drink,0"], val=[f"1,{RUN},7,3,5,watch_video,1"]
    )
    objects = {"train": [f"1,{RUN},3,0,1,opening,bottle,hand,0", f"1,{RUN},4,2,2,closing,bottle,,0"]}
    return write_annotations(
        tmp_path, level="objectlevel", header=OBJECT_HEADER, val=[f"1,{RUN},5,3,5,holding,cup,seat,0"], **objects
    )


def refused(recipe: Recipe, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        list_split(recipe, "train")
    return str(caught.value)


def test_each_level_has_its_own_classes_and_the_same_frames(root):
    """The default is midlevel; a frame has the same path at every level."""
    listings = [
        list_split(recipe_of(root, **keys), "train")
        for keys in ({}, {"level": "tasklevel"}, {"level": "objectlevel", "target": "object"})
    ]
    assert [listing.classes for listing in listings] == [
        ("eating", "writing"), ("eat_drink", "watch_video"), ("bottle", "cup"),
    ]  # fmt: skip
    assert len({listing.paths for listing in listings}) == 1
    assert (listings[0].notes, listings[0].clips[0], listings[1].clips[0]) == ((), f"{RUN}/1/0", f"{RUN}/7/0")


def test_the_variant_tells_levels_and_targets_apart(root):
    """Midlevel and its activity are named as before; every other level and target has a variant of its own."""
    levels = ({}, {"level": "midlevel", "target": "activity"}, {"level": "tasklevel"})
    assert [name_variant(recipe_of(root, **keys)) for keys in levels] == [
        "fold0-kinect_color-all", "fold0-kinect_color-all", "fold0-kinect_color-all-tasklevel",
    ]  # fmt: skip
    assert "target" not in list_data_settings(recipe_of(root))
    of_object, of_place = (recipe_of(root, level="objectlevel", target=name) for name in ("an object", "an+object"))
    assert name_variant(of_object) == name_variant(of_place) == "fold0-kinect_color-all-objectlevel-an_object"
    assert "target = 'an+object' where it had 'an object'" in describe_differences(
        of_place, list_data_settings(of_object)
    )


def test_of_several_columns_one_must_be_named(root):
    """Objectlevel names its columns and a flag to type; the one that is taken is said, and what is left out."""
    message = refused(recipe_of(root, level="objectlevel"), UsageError)
    assert "objectlevel has 3 columns that can be predicted: activity, object and location" in message
    assert "--target activity" in message
    listing = list_split(recipe_of(root, level="objectlevel", target="location"), "train")
    assert (listing.classes, len(listing)) == (("hand", "seat"), 2)
    assert listing.notes == (
        "objectlevel: the classes are those of the column 'location'; activity and object can be predicted too "
        "(--target)",
        "1 chunk of 'train' without location left out",
    )


def test_a_column_that_is_not_there_is_answered_with_the_nearest(root):
    """A misspelt target, and one that a level lacks, name the columns that there are."""
    message = refused(recipe_of(root, level="objectlevel", target="objects"), UsageError)
    assert message.startswith("--target: objectlevel has no column 'objects'; did you mean object? found activity,")
    assert "midlevel has no column 'object'; found activity" in refused(recipe_of(root, target="object"), UsageError)
    assert "no column 'chunk_id'" in refused(recipe_of(root, target="chunk_id"), UsageError)


def test_a_single_column_needs_no_name(tmp_path):
    """Where objectlevel has one column beside the known ones, that is predicted, whatever it is called."""
    header = OBJECT_HEADER.replace("activity,object,location", "thing")
    write_annotations(tmp_path, level="objectlevel", header=header, train=[f"1,{RUN},3,0,1,bottle,0"])
    listing = list_split(recipe_of(tmp_path, level="objectlevel"), "train")
    assert (listing.classes, listing.variant) == (("bottle",), "fold0-kinect_color-all-objectlevel")
    assert listing.notes == ("objectlevel: the classes are those of the column 'thing'",)


def test_a_level_without_files_names_those_that_are_there(root):
    """What is here is named, with the file that was expected and the flag."""
    for path in root.rglob("tasklevel.*"):
        path.unlink()
    message = refused(recipe_of(root, level="tasklevel"), DataError)
    assert (
        "no annotations of the level tasklevel; found midlevel and objectlevel, expected tasklevel.chunks_90."
        in message
    )
    assert "--level" in message
    for path in root.rglob("midlevel.*"):
        path.unlink()
    assert "no annotations of the level midlevel; found objectlevel" in refused(recipe_of(root), DataError)


def test_an_empty_cell_is_a_fault_where_a_level_has_one_column(root):
    """At midlevel and tasklevel every chunk has an activity; one without is refused with its line."""
    write_annotations(root, level="tasklevel", train=[f"1,{RUN},7,0,2,,0"])
    assert "train.csv, line 2: activity is ''" in refused(recipe_of(root, level="tasklevel"), DataError)


def test_faults_name_the_column_that_is_predicted(root):
    """Two spellings, and a chunk under two names, are faults of the target, whichever it is."""
    lines = [f"1,{RUN},3,0,1,opening,cup,hand,0", f"1,{RUN},3,0,1,opening,cup ,hand,0"]
    write_annotations(root, level="objectlevel", header=OBJECT_HEADER, train=lines)
    message = refused(recipe_of(root, level="objectlevel", target="object"), DataError)
    assert "two spellings of one object: 'cup'" in message
    assert "a chunk under 'cup ' that stands under 'cup' on line 2" in message
    assert list_split(recipe_of(root, level="objectlevel", target="activity"), "train").classes == (
        "holding", "opening",
    )  # fmt: skip


def test_a_frame_may_lie_below_its_activity_at_any_level(root):
    """{activity} of a pattern is the column of that name, else the one that is predicted."""
    keys = {"level": "objectlevel", "target": "object", "frames": "{activity}/{file_id}/{frame}.png"}
    assert list_split(recipe_of(root, **keys), "train").paths[0] == f"opening/{RUN}/0.png"
    assert len(resolve_source(recipe_of(root, **keys)).splits()) == 2
