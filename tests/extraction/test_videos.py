"""Drive&Act's videos through stage one: for every frame the embedding of that very frame, and none twice."""

from pathlib import Path

import av
import numpy as np
import pytest

import featcache
from featcache import DataError, Settings
from featcache.media import resize_and_crop
from featcache.recipe import resolve_recipe
from featcache.trunks import WeightsMemo
from featcache.trunks.trunk import TrunkSource, load_trunk
from tests.builders import write_annotations
from tests.conftest import ARCH, Nano, single_thread
from tests.extraction.test_layouts import recipe
from tests.videos import TICKS, nearest, pictures, remux, write_video

SETTINGS = Settings(device="cpu", workers=2, batch_size=4)
HIDDEN = 3  # frames that an edit hides
PATIENT = Settings(device="cpu", workers=1, batch_size=4, max_bad=0.9)
FRAMES = 24
SHOWN = {person: pictures(FRAMES, first=60 * person) for person in range(4)}
B_FRAMES = {"bf": "3", "g": "8"}


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def trunk(nano: Nano, tmp_path: Path) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": str(tmp_path / "cache")}


def drive(person: int) -> str:
    return f"vp{person}/run.kinect_color"


def chunk(person: int, first: int, last: int, activity: str, annotation: int = 1) -> str:
    return f"{person},{drive(person)},{annotation},{first},{last},{activity},0"


def film_of(root: Path, person: int) -> Path:
    return root / "kinect_color" / f"{drive(person)}.mp4"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path)


def write_films(folder: Path) -> Path:
    """Four drives in as many encoders' ways; three folds that re-deal them, and chunks that share frames."""
    root = folder / "daa"
    uneven = [TICKS * at + 400 * (at % 3) for at in range(FRAMES)]
    write_video(film_of(root, 0), SHOWN[0], options=B_FRAMES)
    write_video(film_of(root, 1), SHOWN[1], options=B_FRAMES, times=uneven)
    write_video(film_of(root, 2), SHOWN[2], options={"bf": "0"}, times=range(99 * TICKS, 200 * TICKS, TICKS))
    plain = write_video(folder / "plain.mp4", SHOWN[3], options=B_FRAMES)
    remux(plain, film_of(root, 3), shift=-HIDDEN)
    sitting = [chunk(person, 2, 9, "sitting", 1) for person in range(4)]
    writing = [chunk(person, 8, 15, "writing", 2) for person in range(4)]  # 8 and 9 stand in two chunks
    write_annotations(root, fold=0, train=[*sitting[:2], *writing[:2]], val=[sitting[2]], test=[sitting[3]])
    write_annotations(root, fold=1, train=[*sitting[2:], *writing[2:]], val=[sitting[0]], test=[sitting[1]])
    write_annotations(root, fold=2, train=[sitting[3], *sitting[:1], *writing[:1]], val=[writing[1]], test=[writing[2]])
    return root


def fold_of(root: Path, fold: int, more: str = "") -> str:
    data = f'layout = "drive-act"\nroot = "{root}"\nview = "kinect_color"\nfold = {fold}\n{more}'
    return recipe(root / f"{fold}{abs(hash(more))}.toml", data)


def embedded(summaries) -> int:
    return sum(summary.embedded for summary in summaries)


def test_every_row_has_the_embedding_of_its_very_frame(films, trunk, nano):
    """B-frames, uneven times, a late start, hidden frames: row by row the trunk's answer to what is shown there."""
    name = fold_of(films, 0)
    summaries = featcache.extract(pipeline=name, settings=SETTINGS, **trunk)
    assert [(one.rows, one.embedded, one.failed) for one in summaries] == [(32, 28, 0), (8, 8, 0), (8, 8, 0)]
    section = resolve_recipe(name).override("trunk", arch=ARCH, weights=str(nano.weights), precision="fp32").trunk
    source = TrunkSource(section, WeightsMemo(Path(trunk["cache"])))
    network = load_trunk(source, source.spec("float32"), device="cpu", batch_size=4)
    expected = {}
    for person in range(4):
        shown = SHOWN[person][HIDDEN if person == 3 else 0 :]
        with av.open(str(film_of(films, person))) as film:
            decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert [nearest(pixels, shown) for pixels in decoded] == list(range(len(shown)))
        for frame, pixels in enumerate(decoded):
            expected[person, frame] = network.embed(resize_and_crop(pixels, source.transform)[None])[0]
    seen = 0
    for split in ("train", "val", "test"):
        found = featcache.load(split, pipeline=name, cache=trunk["cache"])
        for path, subject, x, y in zip(found.paths, found.subjects, found.x, found.y, strict=True):
            frame = int(path.rpartition("#")[2])
            np.testing.assert_array_equal(x, expected[int(subject), frame])
            assert found.classes[y] == "sitting" or frame > 7
            seen += 1
    assert seen == 48


def test_a_frames_embedding_is_that_of_its_png(films, trunk, tmp_path):
    """Bit for bit: the frames written as PNG files and embedded from there give the same numbers."""
    from PIL import Image

    from featcache.media.video import decode_frames

    name = fold_of(films, 0, 'videos = "{view}/{file_id}.mp4"')
    featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    for person in (0, 1):
        folder = films / drive(person)
        folder.mkdir(parents=True)
        with film_of(films, person).open("rb") as file:
            for frame, pixels in decode_frames(file, range(2, 16)):
                Image.fromarray(pixels).save(folder / f"img_{frame:06d}.png")
    pngs = fold_of(films, 0, 'frames = "{file_id}/img_{frame:06d}.png"')
    of_videos = featcache.load("train", pipeline=name, cache=trunk["cache"])
    featcache.extract("train", pipeline=pngs, settings=SETTINGS, **trunk)
    of_files = featcache.load("train", pipeline=pngs, cache=trunk["cache"])
    assert of_files.paths[0] == f"{drive(0)}/img_000002.png"
    assert of_videos.paths[0] == f"kinect_color/{drive(0)}.mp4#000002"
    np.testing.assert_array_equal(of_files.x, of_videos.x)


def test_views_of_frames_stand_beside_them(films, trunk):
    """A view that does nothing has the frames' own embeddings, bit by bit; each frame is decoded once for both."""
    name = fold_of(films, 0)
    summaries = featcache.extract("train", pipeline=name, settings=SETTINGS, views=1, augment="none", **trunk)
    assert [(one.rows, one.embedded, one.failed) for one in summaries] == [(32, 28, 0)] * 2
    plain, view = (
        featcache.load("train", pipeline=name, cache=trunk["cache"], store=one.store).x for one in summaries
    )  # fmt: skip
    np.testing.assert_array_equal(view, plain)


def test_a_second_fold_a_stride_a_relabelling_embed_only_what_is_new(films, trunk, monkeypatch):
    """After fold 0, fold 1 embeds the writing of two people alone, fold 2 nothing, and no video is hashed again."""
    folds = [fold_of(films, fold) for fold in range(3)]
    assert embedded(featcache.extract(pipeline=folds[0], settings=SETTINGS, **trunk)) == 28 + 16
    log = (Path(trunk["cache"]) / "stat.log").read_text()
    assert sum(log.count(f'vp{person}/run.kinect_color.mp4"') for person in range(4)) == 4
    assert embedded(featcache.extract(pipeline=folds[1], settings=SETTINGS, **trunk)) == 2 * 6
    assert embedded(featcache.extract(pipeline=folds[2], settings=SETTINGS, **trunk)) == 0
    stride = fold_of(films, 0, "stride = 3\nframes_per_chunk = 7")
    assert embedded(featcache.extract(pipeline=stride, settings=SETTINGS, **trunk)) == 0
    write_annotations(films, fold=0, train=[chunk(0, 4, 12, "drinking")])
    (summary,) = featcache.extract("train", pipeline=folds[0], settings=SETTINGS, **trunk)
    assert (summary.rows, summary.embedded, summary.reused) == (9, 0, 9)
    assert (Path(trunk["cache"]) / "stat.log").read_text() == log  # nothing was read


def test_only_videos_with_missing_frames_are_opened(films, trunk):
    """What is in the cache needs no decoder: with every other video unreadable, one new frame is embedded."""
    name = fold_of(films, 0)
    featcache.extract(pipeline=name, settings=SETTINGS, **trunk)
    write_annotations(films, fold=0, train=[chunk(0, 2, 9, "sitting"), chunk(1, 2, 20, "writing")])
    (summary,) = featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    assert (summary.rows, summary.embedded, summary.reused, summary.failed) == (27, 5, 22, 0)


def test_what_a_video_lacks_is_a_row_that_fails(films, trunk):
    """A missing video, one cut off, one with too few frames: named rows, all others in place, and --max-bad holds."""
    film_of(films, 0).unlink()
    whole = film_of(films, 1).read_bytes()
    rows = [
        chunk(0, 2, 3, "sitting"),
        chunk(1, 2, 3, "sitting"),
        chunk(2, 20, 26, "writing"),
        chunk(3, 0, 1, "writing"),
    ]
    name = fold_of(films, 0)
    write_annotations(films, fold=0, train=rows[:2])  # one fault alone: of several, the first to be seen stops the run
    with pytest.raises(DataError, match=r"vp0/run\.kinect_color\.mp4#000002: cannot be read: No such file"):
        featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    film_of(films, 1).write_bytes(whole[: len(whole) // 2])
    write_annotations(films, fold=0, train=rows)
    (summary,) = featcache.extract("train", pipeline=name, settings=PATIENT, **trunk)
    reasons = {path.partition("kinect_color/")[2]: reason for path, reason in summary.failures}
    assert (summary.rows, summary.failed) == (13, 2 + 2 + 3)
    assert reasons[f"{drive(2)}.mp4#000024"] == "the video has 24 frames, the first is number 0"
    assert "no MP4 video" in reasons[f"{drive(1)}.mp4#000002"]
    found = featcache.load("train", pipeline=name, cache=trunk["cache"])
    assert [int(path.rpartition("#")[2]) for path in found.paths] == [20, 21, 22, 23, 0, 1]
    assert [found.classes[label] for label in found.y] == ["writing"] * 6
    log = (Path(trunk["cache"]) / "stat.log").read_text()
    (again,) = featcache.extract("train", pipeline=name, settings=PATIENT, **trunk)
    assert (again.embedded, again.failures) == (0, summary.failures)
    assert (Path(trunk["cache"]) / "stat.log").read_text() == log  # what failed is not tried again
    film_of(films, 1).write_bytes(whole)
    (mended,) = featcache.extract("train", pipeline=name, settings=PATIENT, **trunk)
    assert (mended.embedded, mended.failed) == (2, 5)


def test_a_video_that_moved_is_known_by_its_content(films, trunk, tmp_path):
    """A data set that was moved, and a video that was copied, embed nothing."""
    featcache.extract(pipeline=fold_of(films, 0), settings=SETTINGS, **trunk)
    moved = films.rename(tmp_path / "elsewhere")
    summaries = featcache.extract(pipeline=fold_of(moved, 0), settings=SETTINGS, **trunk)
    assert embedded(summaries) == 0
    assert {one.moved_from for one in summaries} == {str(films)}


def test_frames_or_videos_is_said_or_seen(films, trunk, tmp_path):
    """The recipe's word counts; without it what is there; both, or neither, is an error that says what to do."""
    name = fold_of(films, 0)
    (films / drive(0)).mkdir(parents=True)
    with pytest.raises(DataError, match=r"frames are here .* and videos too .* recipe must say which"):
        featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    said = fold_of(films, 0, 'videos = "{view}/{file_id}.mp4"')
    assert embedded(featcache.extract("train", pipeline=said, settings=SETTINGS, **trunk)) == 28

    empty = tmp_path / "empty"
    write_annotations(empty, train=[chunk(0, 2, 9, "sitting")])
    name = fold_of(empty, 0)
    with pytest.raises(DataError, match=r"neither frames nor videos are here; looked for .*run\.kinect_color\.mp4"):
        featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    contents = featcache.describe(pipeline=name, cache=trunk["cache"])
    assert contents.splits["train"].not_on_disk == 8
    assert "neither frames nor videos are here" in contents.notes[0]


def test_frames_whose_video_is_not_there_are_counted(films, trunk):
    """`featcache data` counts different frames of videos that are not there, and opens none."""
    film_of(films, 1).unlink()
    film_of(films, 0).write_bytes(b"")
    contents = featcache.describe(pipeline=fold_of(films, 0), cache=trunk["cache"])
    assert [split.not_on_disk for split in contents.splits.values()] == [14, 0, 0]
    assert [split.videos for split in contents.splits.values()] == [2, 1, 1]
    assert contents.notes == ()


def test_a_table_of_frames_has_the_embeddings_of_its_videos(films, trunk, tmp_path):
    """Rows that name frames are decoded from the videos: what Drive&Act's own layout embeds is embedded again."""
    name = fold_of(films, 0, 'videos = "{view}/{file_id}.mp4"')
    featcache.extract("train", pipeline=name, settings=SETTINGS, **trunk)
    of_drives = featcache.load("train", pipeline=name, cache=trunk["cache"])
    labels = (of_drives.classes[label] for label in of_drives.y)
    rows = [f"{path},{label}" for path, label in zip(of_drives.paths, labels, strict=True)]
    (films / "frames.csv").write_text("\n".join(["path,label", *rows]))
    table = recipe(tmp_path / "table.toml", f'layout = "table"\nroot = "{films}"\ntable = "frames.csv"')
    other = {**trunk, "cache": str(tmp_path / "other")}
    featcache.extract("train", pipeline=table, settings=SETTINGS, **other)
    of_table = featcache.load("train", pipeline=table, cache=other["cache"])
    assert of_table.paths == of_drives.paths
    np.testing.assert_array_equal(of_table.x, of_drives.x)
