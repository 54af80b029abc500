"""Drive&Act's own annotations as listings: a row is a frame, a line of the CSV is a clip."""

import csv
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import DataError
from featcache.listing.sources import locate_root, name_variant, resolve_source
from featcache.recipe import Recipe, check_recipe
from tests.builders import DRIVE_ACT_HEADER, find_recipe_splits, list_split, write_annotations
from tests.conftest import SHARED

SEARCHING = "looking_or_moving_around (e.g. searching)"
RUN1, RUN2, RUN3 = "vp1/run1.kinect_color", "vp2/run1.kinect_color", "vp3/run2.kinect_color"
TRAIN = [
    f"1,{RUN1},1,10,13,sitting_still,0",
    f"1,{RUN1},2,13,16,eating,0",  # frame 13 stands in two chunks under two labels
    f"1,{RUN1},2,16,18,eating,1",  # frame 16 in two chunks under one
    f"2,{RUN2},1,10,12,{SEARCHING},0",
]
VAL = [f"3,{RUN3},1,0,1,{SEARCHING},0", f"3,{RUN3},2,2,3,sitting_still,0"]  # no eating
TEST = [f"4,{RUN3},7,5,5,writing,0"]  # a class that train lacks


def recipe_of(root: Path, **keys: object) -> Recipe:
    data = {"layout": "drive-act", "root": str(root), "view": "kinect_color", "fold": 0, **keys}
    return check_recipe({"name": "daa", "data": data}, where="test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_annotations(tmp_path, train=TRAIN, val=VAL, test=TEST)


def refused(recipe: Recipe, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        list_split(recipe, split)
    return str(caught.value)


def test_the_published_counts_of_fold_0():
    """Fold 0 at 49 frames a chunk has the counts that the baseline was published with, in under 2 s."""
    root = SHARED / "drive_act"
    if not root.is_dir():
        pytest.skip("../shared/data/drive_act is not here")
    began = time.process_time()
    found = list_split(recipe_of(root, frames_per_chunk=49), "train")
    seconds = time.process_time() - began
    frames = Counter(found.paths)
    labels: dict[str, set[int]] = {}
    for path, label in zip(found.paths, found.labels.tolist(), strict=True):
        labels.setdefault(path, set()).add(label)
    assert (len(found), len(frames), len(set(found.clips))) == (259_865, 254_276, 6_642)
    assert Counter(frames.values()) == {1: 248_687, 2: 5_589}
    assert sum(len(under) == 2 for under in labels.values()) == 1_084
    assert (len(found.classes), len(set(found.subjects))) == (34, 10)
    assert SEARCHING in found.classes
    assert round(found.support().max() / found.support().min()) == 346
    assert seconds < 2


def test_a_row_is_a_frame_of_a_chunk(root):
    """Both ends of a chunk are rows; chunk is clip, participant is subject, activity is label."""
    found = list_split(recipe_of(root), "train")
    assert found.paths[:5] == tuple(f"{RUN1}/img_{frame:06d}.png" for frame in (10, 11, 12, 13, 13))
    assert found.clips[:5] == (f"{RUN1}/1/0",) * 4 + (f"{RUN1}/2/0",)
    assert [found.classes[label] for label in found.labels[3:5]] == ["sitting_still", "eating"]
    assert (found.subjects[0], found.subjects[-1]) == ("1", "2")
    assert (found.root, found.variant, len(found)) == (str(root), "fold0-kinect_color-all", 14)
    assert locate_root(recipe_of(root)) == found.root
    assert Counter(found.paths)[f"{RUN1}/img_000016.png"] == 2


def test_labels_survive_a_split_that_lacks_a_class(root):
    """One class list for all splits: without `eating` in val, every class behind it keeps its index."""
    train, val = (list_split(recipe_of(root), split) for split in ("train", "val"))
    assert train.classes == val.classes == ("eating", SEARCHING, "sitting_still", "writing")
    assert val.labels.tolist() == [1, 1, 2, 2]
    assert val.support().tolist() == [0, 2, 2, 0]


def test_the_class_list_is_that_of_every_fold(root):
    """A class that only another fold's file names is in the list, so that heads of all folds share their indices."""
    before = list_split(recipe_of(root), "train").classes
    write_annotations(root, fold=2, train=[f"9,{RUN3},1,0,1,drinking,0"])
    assert list_split(recipe_of(root), "train").classes == ("drinking", *before)
    assert list_split(recipe_of(root, fold=2), "train").classes == ("drinking", *before)


def test_folds_share_frames_and_have_listings_of_their_own(root):
    """The same frame has the same path in every fold; the variant tells the folds apart."""
    write_annotations(root, fold=1, train=VAL, val=TRAIN)
    first, second = recipe_of(root), recipe_of(root, fold=1)
    assert set(list_split(first, "train").paths) == set(list_split(second, "val").paths)
    assert name_variant(first) != name_variant(second) == "fold1-kinect_color-all"


def test_the_splits_are_those_that_have_a_file(root, tmp_path):
    """A fold without a val file has no val split; other files in the folder are none of ours."""
    assert find_recipe_splits(recipe_of(root)) == ["train", "val", "test"]
    folder = root / "iccv_activities_3s/activities_3s/kinect_color"
    (folder / "midlevel.chunks_90.split_0.val.csv").unlink()
    (folder / "tasklevel.chunks_90.split_0.val.csv").write_text("nothing")
    assert find_recipe_splits(recipe_of(root)) == ["train", "test"]
    assert "no split 'val'; found train, test" in refused(recipe_of(root), "val")


chunk = st.tuples(st.integers(0, 40), st.integers(0, 120))


@settings(deadline=None)
@given(chunks=st.lists(chunk, min_size=1, max_size=6), cap=st.none() | st.integers(1, 130), stride=st.integers(1, 9))
def test_cap_and_stride_are_those_of_a_plain_loop(tmp_path_factory, chunks, cap, stride):
    """Whatever the chunks, the rows are a chunk's frames, the first `cap` of them, and of those every `stride`-th."""
    lines = [f"1,{RUN1},{at},{start},{start + more},a,0" for at, (start, more) in enumerate(chunks)]
    root = write_annotations(tmp_path_factory.mktemp("loop"), train=lines)
    keys = {"stride": stride} | ({"frames_per_chunk": cap} if cap else {})
    found = list_split(recipe_of(root, **keys), "train")
    expected = [
        (f"{RUN1}/img_{frame:06d}.png", f"{RUN1}/{at}/0")
        for at, (start, more) in enumerate(chunks)
        for frame in range(start, start + more + 1)[:cap][::stride]
    ]
    assert list(zip(found.paths, found.clips, strict=True)) == expected
    frames = f"{cap or 'all'}" + (f"-stride{stride}" if stride > 1 else "")
    assert name_variant(recipe_of(root, **keys)).endswith(frames)


def test_a_stride_adds_no_frame(root):
    """The frames of any stride are among those of stride 1 under the same cap: nothing is embedded anew."""
    every = set(list_split(recipe_of(root, frames_per_chunk=3), "train").paths)
    for stride in (2, 3, 50):
        assert set(list_split(recipe_of(root, frames_per_chunk=3, stride=stride), "train").paths) <= every


def test_frames_lie_where_the_recipe_says(root):
    """The pattern may use every column that identifies a chunk, and the view."""
    pattern = "{view}/{participant_id}/{activity}/{file_id}_{annotation_id}.{chunk_id}/f{frame:4d}.jpg"
    found = list_split(recipe_of(root, frames=pattern), "train")
    assert found.paths[-1] == f"kinect_color/2/{SEARCHING}/{RUN2}_1.0/f  12.jpg"
    assert list_split(recipe_of(root, frames="{file_id}/{frame}.png"), "train").paths[0] == f"{RUN1}/10.png"


def test_annotations_may_lie_elsewhere(root, tmp_path):
    """`annotations` names the folder of the views; the frames' root need not be there yet."""
    away = recipe_of(tmp_path / "frames", annotations=str(root / "iccv_activities_3s/activities_3s"))
    assert len(list_split(away, "train")) == 14
    assert list_split(away, "train").root == str(tmp_path / "frames")


def test_a_byte_order_mark_and_any_line_end_are_read(root):
    """What a spreadsheet makes of the file is read as the file."""
    plain = list_split(recipe_of(root), "train")
    path = root / "iccv_activities_3s/activities_3s/kinect_color/midlevel.chunks_90.split_0.train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    found = list_split(recipe_of(root), "train")
    assert (found.paths, found.labels.tolist()) == (plain.paths, plain.labels.tolist())


def test_every_fault_of_the_annotations_is_named_with_its_line(root):
    """Bad numbers, an end before the start, a chunk under two labels, a path out of the root: one error for all."""
    bad = [
        f"1,{RUN1},1,10,9,eating,0",
        f"1,{RUN1},x,-1,5.0,eating,0",
        "1,../../etc,3,1,2,eating,0",
        f"1,{RUN1},4,1,2,,0",
        f"1,{RUN1},5,1,2,eating",
        f"1,{RUN1},6,1,99999999,eating,0",
        f"1,{RUN1},1,20,21,writing,0",
    ]
    message = refused(recipe_of(write_annotations(root, train=bad)))
    assert "9 problems" in message
    for line in (
        "train.csv, line 2: frame_end 9 lies before frame_start 10",
        "train.csv, line 3: annotation_id is 'x'",
        "train.csv, line 3: frame_start is '-1'",
        "train.csv, line 3: frame_end is '5.0'",
        "train.csv, line 4: file_id is '../../etc'",
        "train.csv, line 5: activity is ''",
        "train.csv, line 6: found 6 fields, expected 7",
        "train.csv, line 7: frame_end is '99999999'",
        "train.csv, line 8: a chunk under 'writing' that stands under 'eating' on line 2",
    ):
        assert line in message


def test_many_faults_are_counted(root):
    """Of a hundred faults twenty are shown and the rest counted."""
    message = refused(recipe_of(write_annotations(root, train=[f"1,{RUN1},{at},5,4,eating,0" for at in range(100)])))
    assert "100 problems" in message
    assert message.count("lies before") == 20
    assert message.endswith("… and 80 more")


def test_another_splits_file_must_be_a_table_too(root):
    """The class list needs every file of the view: one without its columns is named, also when train is asked for."""
    path = root / "iccv_activities_3s/activities_3s/kinect_color/midlevel.chunks_90.split_0.val.csv"
    path.write_text("participant_id,file\n3,x\n")
    message = refused(recipe_of(root))
    assert "6 problems" in message
    assert "split_0.val.csv, line 1: no column 'activity'; found 'participant_id', 'file'" in message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no column 'file_id'; found nothing"),
        (DRIVE_ACT_HEADER.encode(), "no chunk in it"),
        (DRIVE_ACT_HEADER.encode() + b'\n1,"', "unexpected end of data; nothing behind it was read"),
        (DRIVE_ACT_HEADER.encode("utf-16"), "this is UTF-16, not UTF-8; save it in UTF-8"),
        (DRIVE_ACT_HEADER.encode("utf-16-le"), "a NUL byte"),
    ],
    ids=["empty", "header", "quote", "utf-16", "utf-16 without its mark"],
)
def test_a_file_that_is_no_table_says_so(root, data, said):
    """An empty file, a lone header, a quote without end and UTF-16 are each one clear error of exit code 4."""
    path = root / "iccv_activities_3s/activities_3s/kinect_color/midlevel.chunks_90.split_0.train.csv"
    path.write_bytes(data)
    assert said in refused(recipe_of(root))


def test_a_fold_a_view_or_a_root_that_is_not_there_says_what_is(root, tmp_path):
    """What is missing is named with what was found, and with the way out."""
    with pytest.raises(DataError, match=r"no annotations of fold 2; found folds: 0"):
        find_recipe_splits(recipe_of(root, fold=2))
    with pytest.raises(DataError, match=r"ceiling: the annotations .* cannot be read: No such file.*--data DIR"):
        find_recipe_splits(recipe_of(root, view="ceiling"))


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    """An activity or a file_id with stray bytes is an error of exit code 4 with its line and the way out."""
    message = refused(recipe_of(write_annotations(tmp_path, train=["1,vp\udcff/run,1,1,1,caf\udce9,0"])))
    assert "line 2: activity 'caf\\xe9' is not UTF-8; save it in UTF-8" in message
    assert "line 2: file_id 'vp\\xff/run' is not UTF-8" in message


def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path):
    """Annotations that were saved on Windows are the same annotations."""
    root = write_annotations(tmp_path, train=["1,vp1/run,1,1,1,eat,0"])
    plain = list_split(recipe_of(root), "train")
    path = root / "iccv_activities_3s/activities_3s/kinect_color/midlevel.chunks_90.split_0.train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found = list_split(recipe_of(root), "train")
    assert (found.paths, found.classes, found.clips) == (plain.paths, plain.classes, plain.clips)


def test_two_spellings_of_an_activity_are_named_wherever_they_stand(tmp_path):
    """A blank at the end of an activity, in whatever split and line, is refused with both places."""
    root = write_annotations(tmp_path, train=["1,vp1/run,1,1,1,eat,0"], val=["2,vp2/run,1,1,1,eat ,0"])
    message = refused(recipe_of(root))
    assert "two spellings of one activity: 'eat' (midlevel.chunks_90.split_0.train.csv, line 2) and 'eat ' (" in message
    assert "split_0.val.csv, line 2), which differ in blanks alone" in message


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(max_size=6), min_size=7, max_size=7), max_size=5))
def test_any_line_is_read_or_refused(tmp_path_factory, rows):
    """Whatever stands in the lines, the answer is a listing or a DataError."""
    root = write_annotations(tmp_path_factory.mktemp("any"), train=[])
    path = root / "iccv_activities_3s/activities_3s/kinect_color/midlevel.chunks_90.split_0.train.csv"
    with path.open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
        csv.writer(file).writerows(rows)
    try:
        found = list_split(recipe_of(root), "train")
    except DataError:
        return
    assert len(found) == len(found.paths) > 0


def test_a_source_reads_its_files_once(root, monkeypatch):
    """Every split of one command comes from one reading."""
    laid = resolve_source(recipe_of(root))
    laid.listing("train")
    for path in root.rglob("*.csv"):
        path.unlink()
    assert [len(laid.listing(split)) for split in laid.splits()] == [14, 4, 1]
    assert not laid.has_disjoint_splits
    np.testing.assert_array_equal(laid.listing("test").labels, [3])
