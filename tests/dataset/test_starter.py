"""`featcache init`: a recipe for whatever lies in a folder."""

import tomllib
from pathlib import Path

import pytest

from featcache.dataset import write_starter
from featcache.errors import DataError
from featcache.listing import resolve_source
from featcache.recipe import Recipe, TableData, check_recipe
from tests.dataset.conftest import photos
from tests.listing.test_flat_folder import flat, laid
from tests.videos import RATE, pictures, write_video


def recipe_for(path: Path) -> tuple[Recipe, str]:
    starter = write_starter(str(path))
    return check_recipe(tomllib.loads(starter.text), where="test"), starter.understood


def test_a_folder_with_splits(tmp_path):
    """Its splits are named, and it is divided no further."""
    recipe, understood = recipe_for(photos(tmp_path / "pets"))
    assert "the splits train, val, test" in understood
    assert (recipe.name, recipe.data.split) == ("pets", None)
    assert resolve_source(recipe).splits() == ["train", "val", "test"]


def test_a_folder_without_splits(tmp_path):
    """Its classes are named, and it is divided into train, val and test."""
    recipe, understood = recipe_for(flat(tmp_path / "pets"))
    assert "(ants, bees), without splits" in understood
    assert [len(resolve_source(recipe).listing(split)) for split in ("train", "val", "test")] == [12, 2, 2]


def test_a_split_that_is_missing_is_taken_from_train(tmp_path):
    """Without val, val is taken; without test, that is offered as a comment, since val can be reported on."""
    for split in ("train", "test"):
        laid(tmp_path / "no_val", *(f"{split}/a/{number}.png" for number in range(9)))
        laid(tmp_path / "no_test", *(f"{'val' if split == 'test' else split}/a/{number}.png" for number in range(9)))
    assert resolve_source(recipe_for(tmp_path / "no_val")[0]).splits() == ["train", "val", "test"]
    assert resolve_source(recipe_for(tmp_path / "no_test")[0]).splits() == ["train", "val"]
    assert "# test = 0.15" in write_starter(str(tmp_path / "no_test")).text


def test_a_table_by_the_names_of_its_columns(tmp_path):
    """The columns are recognised under the names that they usually have; a subject is not divided."""
    flat(tmp_path)
    rows = [f"{name}/{n}.png,{name},p{n}" for name in ("ants", "bees") for n in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["Image Path,species,patient_id", *rows]))
    recipe, understood = recipe_for(tmp_path / "labels.csv")
    assert "path in 'Image Path', label in 'species', subject in 'patient_id'" in understood
    assert isinstance(recipe.data, TableData)
    assert recipe.data.split is not None
    assert recipe.data.split.by == "subject"
    assert sum(len(resolve_source(recipe).listing(split)) for split in ("train", "val", "test")) == 16


@pytest.mark.parametrize(
    ("cells", "kind", "words"),
    [
        (("ant|bee", "ant"), "labels", "several labels in 'it'"),
        (("1.5", "2", ""), "value", "numbers in 'it'"),
        (("1", "2"), "label", "label in 'it'"),
        (("1.5", "ant"), "label", "label in 'it'"),
        (("ant;bee", "ant"), "labels", "several labels in 'it'"),
        (("ant, bee", "ant", "bee, wasp", "wasp"), "labels", "several labels in 'it'"),
        (("tench, Tinca tinca", "goldfish, Carassius auratus"), "label", "label in 'it'"),
    ],
)
def test_what_a_table_has_to_be_predicted_is_read_from_its_cells(tmp_path, cells, kind, words):
    """Several labels, numbers or one class: by the only column that is left, whatever it is called."""
    (tmp_path / "t.csv").write_text("\n".join(["path,it", *(f'{n}.png,"{cell}"' for n, cell in enumerate(cells))]))
    recipe, understood = recipe_for(tmp_path / "t.csv")
    assert words in understood
    assert isinstance(recipe.data, TableData)
    assert (recipe.data.target_kind, recipe.data.columns_of_targets) == (kind, ("it",))


def test_a_sign_between_labels_is_written_into_the_recipe(tmp_path):
    """The recipe takes the cells apart, and its comment says what to do where they are names of classes."""
    flat(tmp_path)
    cells = [f"ants/{number}.png;{'red, round' if number % 2 else 'red'}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["photo;tags", *cells]))
    recipe, _ = recipe_for(tmp_path / "t.csv")
    assert isinstance(recipe.data, TableData)
    assert recipe.data.label_separator == ", "
    assert resolve_source(recipe).listing("train").classes == ("red", "round")
    assert "take these two lines away" in write_starter(str(tmp_path / "t.csv")).text


def test_columns_of_labels_or_numbers_are_recognised_together(tmp_path):
    """Columns of 0 and 1 are labels, the others are left alone; numbers are taken where no column holds labels."""
    flat(tmp_path)
    rows = [f"ants/{number}.png,{number},{number % 2},{number // 4},{number / 3:.3f}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,id,red,round,size", *rows]))
    recipe, understood = recipe_for(tmp_path / "t.csv")
    assert "several labels in 'red', 'round'" in understood
    assert resolve_source(recipe).listing("train").classes == ("red", "round")
    (tmp_path / "t.csv").write_text("\n".join(["file,id,size", *(",".join(row.split(",")[::2]) for row in rows)]))
    assert "numbers in 'size'" in recipe_for(tmp_path / "t.csv")[1]


def test_a_column_of_images_is_recognised_whatever_it_is_called(tmp_path):
    """Every cell ends as an image's name does; a column "name" of them is none of labels."""
    (tmp_path / "t.csv").write_text("name,kind\na.JPG,ant\nb.png,bee\n")
    assert "path in 'name', label in 'kind'" in recipe_for(tmp_path / "t.csv")[1]


def test_a_table_that_says_nothing_is_refused_with_lines_to_paste(tmp_path):
    """Where no column is called like labels, the message has a recipe, in which the column is to be named."""
    (tmp_path / "t.csv").write_text("file,a,b\nx.png,1,2\n")
    with pytest.raises(
        DataError, match=r"holds the labels\? None of file, a, b .* right label_column; .*:\n"
    ) as caught:
        write_starter(str(tmp_path / "t.csv"))
    pasted = str(caught.value).partition("\n")[2].replace('"…"', '"a"')
    recipe = check_recipe(tomllib.loads(pasted), where="test")
    assert isinstance(recipe.data, TableData)
    assert (recipe.data.path_column, recipe.data.label_column) == ("file", "a")


def test_a_split_that_a_table_lacks_is_taken_from_train(tmp_path):
    """A column with train and test has no val to choose heads by."""
    flat(tmp_path)
    rows = [f"ants/{number}.png,{'test' if number > 5 else 'train'},{'ab'[number % 2]}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,set,label", *rows]))
    assert resolve_source(recipe_for(tmp_path / "t.csv")[0]).splits() == ["train", "val", "test"]


def test_an_empty_table_is_refused(tmp_path):
    """It has no columns to be named."""
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match="this table is empty"):
        write_starter(str(tmp_path / "t.csv"))


def test_a_table_beside_a_data_set_is_no_other_one(tmp_path):
    """A folder of results, whose table has no images, does not keep the data set from being recognised."""
    flat(tmp_path / "pets")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "scores.csv").write_text("epoch,loss,rate\n1,0.5,3\n")
    assert recipe_for(tmp_path)[0].name == "pets"


def test_drive_act_by_its_annotations(tmp_path):
    """The views that are there are named; the recipe has the published baseline's settings."""
    laid(tmp_path, "iccv_activities_3s/activities_3s/inner_mirror/midlevel.chunks_90.split_0.train.csv")
    recipe, understood = recipe_for(tmp_path)
    assert "Drive&Act, with the annotations of inner_mirror" in understood
    assert recipe.model_dump(include={"data": {"layout", "view", "fold", "frames_per_chunk"}}) == {
        "data": {"layout": "drive-act", "view": "inner_mirror", "fold": 0, "frames_per_chunk": 49}
    }


def test_the_levels_of_drive_act_are_named(tmp_path):
    """Midlevel is the default and a comment; where it is not there, the recipe names the level that is."""
    folder = "iccv_activities_3s/activities_3s/inner_mirror"
    laid(tmp_path, *(f"{folder}/{level}.chunks_90.split_0.train.csv" for level in ("objectlevel", "midlevel")))
    recipe, understood = recipe_for(tmp_path)
    assert "inner_mirror (midlevel, objectlevel)" in understood
    assert '# level = "midlevel"   # here: midlevel, objectlevel; --level' in write_starter(str(tmp_path)).text
    (tmp_path / folder / "midlevel.chunks_90.split_0.train.csv").unlink()
    recipe, _ = recipe_for(tmp_path)
    assert recipe.model_dump(include={"data": {"level"}}) == {"data": {"level": "objectlevel"}}
    assert "# target = " in write_starter(str(tmp_path)).text


def test_videos_get_the_command_that_writes_their_frames(tmp_path):
    """The next command makes frames of them, and the recipe is of the folder where these will lie."""
    laid(tmp_path / "clips", "ants/run1.mp4", "bees/run2.mov")
    starter = write_starter(str(tmp_path / "clips"))
    assert "ffmpeg" in starter.command
    recipe = check_recipe(tomllib.loads(starter.text), where="test")
    assert (recipe.data.root, recipe.data.split and recipe.data.split.by) == ("frames", "clip")


def test_videos_that_can_be_decoded_become_a_table_of_frames(tmp_path, monkeypatch):
    """Every clip gives two frames of a second, under its class; what gives none is named, with the reason."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        write_video(Path("clips") / ("ants", "bees")[number % 2] / f"run{number}.mp4", pictures(2 * RATE, first=number))
    laid(Path("clips"), "loose.mp4", "bees/old.avi", "bees/broken.mp4")
    starter = write_starter("clips")
    assert starter.table is not None
    Path(starter.table[0]).write_text(starter.table[1])
    recipe = check_recipe(tomllib.loads(starter.text), where="test")
    listings = [resolve_source(recipe).listing(split) for split in ("train", "val", "test")]
    assert [(len(listing), listing.videos) for listing in listings] == [(16, True), (4, True), (4, True)]
    assert {path[-7:] for listing in listings for path in listing.paths} == {"#000000", "#000008", "#000015", "#000023"}
    classes = [[listing.classes[label] for label in listing.labels] for listing in listings]
    assert [[clip.split("/")[0] for clip in listing.clips] for listing in listings] == classes
    assert [note.split(":")[1].strip() for note in starter.notes] == ["bees/broken.mp4", "bees/old.avi", "loose.mp4"]


def test_splits_of_videos_stay_what_they_are(tmp_path, monkeypatch):
    """The folders at the top are the splits of the table, and it is divided no further."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_video(Path("clips") / split / "ants" / f"{split}.mp4", pictures(3))
    starter = write_starter("clips")
    assert starter.table is not None
    Path(starter.table[0]).write_text(starter.table[1])
    assert resolve_source(check_recipe(tomllib.loads(starter.text), where="test")).splits() == ["train", "val"]


def test_the_only_data_set_below_a_folder(tmp_path):
    """A folder with one data set in it stands for that; of several, each is named."""
    flat(tmp_path / "pets")
    assert recipe_for(tmp_path)[0].name == "pets"
    photos(tmp_path / "more")
    with pytest.raises(DataError, match=r"several data sets .*more.*pets"):
        write_starter(str(tmp_path))


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["a/b/c.txt"]])
def test_nothing_that_is_known_is_refused(tmp_path, files):
    """The message says what is expected."""
    laid(tmp_path, *files)
    with pytest.raises(DataError, match=r"no data set is in it; expected images"):
        write_starter(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,red,red\na.png,1,0\n", "there are two columns 'red'"),
        ("path;Gr\u00f6\u00dfe\na.png;1\n".encode("cp1252"), "is not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_told_apart_is_refused(tmp_path, text, message):
    """Two columns of one name, and a name in another encoding."""
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        write_starter(str(tmp_path / "t.csv"))


def test_decimal_commas_are_no_signs_between_labels(tmp_path):
    """Numbers as a spreadsheet of another language writes them are one cell each."""
    flat(tmp_path)
    rows = [f"ants/{number}.png;{number % 3},5" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file;weight", *rows]))
    assert 'targets = "labels"' not in write_starter(str(tmp_path / "t.csv")).text


def test_a_column_of_folds_is_nothing_to_predict(tmp_path):
    """Columns of 0 and 1 are labels, but not the one that says which rows are test."""
    flat(tmp_path)
    rows = [f"ants/{number}.png,{number % 2},{number // 4},{number % 2}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,red,round,fold", *rows]))
    assert resolve_source(recipe_for(tmp_path / "t.csv")[0]).listing("train").classes == ("red", "round")
