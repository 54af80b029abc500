"""Which data set the options of a command mean, and how it is divided."""

from pathlib import Path

import pytest

import featcache
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError, name_fold_in_errors
from featcache.listing import resolve_source
from featcache.recipe import DriveActData, SplitSection, TableData
from tests.dataset.conftest import photos, record
from tests.listing.test_flat_folder import flat, laid


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without splits, in the folder where commands are typed."""
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "pets")
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(bytes([number]))
    return root


def request(cache: Path, **options: object) -> DatasetRequest:
    return DatasetRequest(**{"data": "pets", "cache": cache, **options})


def division(request: DatasetRequest) -> dict[str, object]:
    section = request.recipe.data.split
    assert isinstance(section, SplitSection)
    return section.model_dump(include={"val", "test", "by"}, exclude_none=True)


def test_shares_on_the_command_line_divide(pets, cache):
    """Without a unit it is the largest that the images have, and a note says so where it is not the image."""
    asked = request(cache, val=0.25)
    assert (division(asked), asked.notes) == ({"val": 0.25, "by": "image"}, ())
    laid(pets, "ants/run1/1.png")
    asked = request(cache, val=0.25)
    assert division(asked)["by"] == "clip"
    assert "no clip is divided" in asked.notes[0]


def test_a_folder_stays_divided_as_it_was_extracted(pets, cache):
    """Later commands need no flags; with the same shares the unit is that of the cache, and others divide anew."""
    record(cache, request(cache, val=0.25, test=0.125, split_by="image").recipe)
    whole = {"val": 0.25, "test": 0.125, "by": "image"}
    laid(pets, "ants/run1/1.png")  # a new extract would divide by clip
    again = request(cache)
    assert division(again) == whole
    assert "divided as it was extracted: --val 0.25 --test 0.125 --split-by image" in again.notes[0]
    assert division(request(cache, val=0.25, test=0.125)) == whole
    other = request(cache, val=0.5)
    assert division(other) == {"val": 0.5, "by": "clip"}
    assert other.advise_extract("train").endswith(
        "(the cache has pets divided by --val 0.25 --test 0.125 --split-by image)"
    )
    assert len(featcache.load("val", data="pets", cache=cache).y) == 4


def test_of_two_divisions_one_must_be_named(pets, cache):
    """Both are shown as flags."""
    for val in (0.25, 0.5):
        record(cache, request(cache, val=val, split_by="image").recipe)
    with pytest.raises(UsageError, match=r"divided in 2 ways; .*--val 0.25 --split-by image; or --val 0.5"):
        _ = request(cache).recipe


def test_a_seed_that_was_extracted_needs_no_flag_later(pets, cache):
    """Without flags, and with the shares alone, the seed is that of the cache; the note shows it."""
    record(cache, request(cache, val=0.25, split_by="image", split_seed=3).recipe)
    again = request(cache)
    assert "divided as it was extracted: --val 0.25 --split-by image --split-seed 3" in again.notes[0]
    assert again.variant == request(cache, val=0.25).variant == "all-val0.25-image-seed3"


def test_of_two_seeds_one_must_be_named(pets, cache):
    """Each is shown as the flags that choose it; the seed alone chooses, too."""
    for seed in (0, 1):
        record(cache, request(cache, val=0.25, split_by="image", split_seed=seed).recipe)
    with pytest.raises(UsageError, match=r"one of them: --val 0.25 --split-by image; or .*image --split-seed 1$"):
        _ = request(cache).recipe
    assert request(cache, split_seed=1).variant == "all-val0.25-image-seed1"
    assert request(cache, val=0.25, split_by="image").variant == "all-val0.25-image-seed0"


def test_another_seed_is_another_division(pets, cache):
    """Seed 0 is what is divided without a seed; the seed is part of the command that is advised."""
    rows = {
        seed: resolve_source(request(cache, val=0.5, split_by="image", split_seed=seed).recipe).listing("val").paths
        for seed in (None, *range(5))
    }
    assert rows[None] == rows[0]
    assert len(set(rows.values())) > 1
    assert "--split-seed 4" in request(cache, val=0.5, split_seed=4).command_line("extract")


def test_a_new_seed_keeps_the_unit_and_needs_the_shares(pets, cache):
    """The unit is that of the division which the cache has; the seed alone is refused with what there is."""
    record(cache, request(cache, val=0.25, split_by="image").recipe)
    laid(pets, "ants/run1/1.png")  # a new division would be by clip
    assert division(request(cache, val=0.25, split_seed=1)) == {"val": 0.25, "by": "image"}
    with pytest.raises(UsageError, match=r"by --val 0.25 --split-by image, and not by --split-seed 1\. Type one"):
        _ = request(cache, split_seed=1).recipe


def test_images_that_are_elsewhere_stay_divided(pets, cache):
    """Stage two needs no images: the division is that of the cache."""
    record(cache, request(cache, val=0.25, split_by="image").recipe)
    pets.rename(pets.with_name("gone"))
    assert division(request(cache)) == {"val": 0.25, "by": "image"}


def test_a_unit_without_a_share_is_refused(pets, cache):
    """--split-by and --split-seed alone divide nothing."""
    with pytest.raises(UsageError, match="--split-by has no effect without --val or --test"):
        _ = request(cache, split_by="clip").recipe
    with pytest.raises(UsageError, match="--split-seed has no effect without --val or --test"):
        _ = request(cache, split_seed=1).recipe


def test_shares_complete_what_the_recipe_says(pets, cache):
    """A flag takes the place of one setting of [data.split]; the others stay."""
    Path("r.toml").write_text('name = "pets"\n[data]\nroot = "pets"\nsplit = {val = 0.125, by = "image", seed = 4}\n')
    recipe = DatasetRequest(pipeline="r.toml", val=0.25, cache=cache).recipe
    assert recipe.data.split == SplitSection(val=0.25, by="image", seed=4)


def test_drive_act_is_recognised_by_its_folder(tmp_path, cache):
    """Its annotations make it Drive&Act; the view is the recipe's, or the one that is there; flags win."""
    laid(tmp_path, "iccv_activities_3s/activities_3s/inner_mirror/midlevel.chunks_90.split_0.train.csv")
    plain = DatasetRequest(data=str(tmp_path), cache=cache).recipe
    assert isinstance(plain.data, DriveActData)
    assert (plain.data.view, plain.data.fold, plain.data.frames_per_chunk) == ("inner_mirror", 0, 49)
    flags = DatasetRequest(data=str(tmp_path), cache=cache, view="a_column", fold=2, stride=15)
    assert flags.variant == "fold2-a_column-49-stride15"
    assert list(flags.data_flags()) == [("--fold", 2), ("--view", "a_column"), ("--stride", 15)]
    with pytest.raises(UsageError, match="--fold: found 3, expected 0, 1 or 2"):
        _ = DatasetRequest(data=str(tmp_path), cache=cache, fold=3).recipe


def test_flags_of_drive_act_are_refused_elsewhere(pets, cache):
    """A folder of images has no folds."""
    with pytest.raises(UsageError, match=r"--fold and --stride: pets has no folds or strides; .*them out"):
        _ = request(cache, fold=1, stride=2).recipe


def test_a_table_needs_no_recipe(pets, cache):
    """A file behind --data is a table; its name in the cache is made of its folder's and its own."""
    (pets / "labels.csv").write_text("path,label\nants/1.png,a\n")
    recipe = request(cache, data="pets/labels.csv").recipe
    assert isinstance(recipe.data, TableData)
    assert (recipe.name, recipe.data.table) == ("pets-labels", "labels.csv")


def test_without_a_data_set_the_cache_says_which_it_has(pets, cache):
    """Nothing named and no featcache.toml: no other data set is meant, and the message has what to type."""
    with pytest.raises(UsageError, match=r"which data set\?.*as in --data photos.*featcache init FOLDER") as caught:
        _ = DatasetRequest(cache=cache).recipe
    assert "daa" not in str(caught.value)
    record(cache, request(cache, val=0.25, split_by="image").recipe)
    with pytest.raises(UsageError, match="type --data pets "):
        _ = DatasetRequest(cache=cache).recipe


def test_a_misspelt_split_is_never_advised(tmp_path, cache):
    """Stage two names the split that is meant, whether the images are here or not."""
    root = photos(tmp_path / "photos")
    asked = DatasetRequest(data=str(root), cache=cache)
    record(cache, asked.recipe)
    for _ in range(2):
        with pytest.raises(CacheError, match=r"photos has no split 'tets': did you mean test\?") as caught:
            featcache.load("tets", data=str(root), cache=cache)
        assert "--split tets" not in str(caught.value)
        if root.exists():
            root.rename(tmp_path / "gone")


def test_a_split_that_is_only_on_disk_is_advised_with_the_whole_command(tmp_path, cache):
    """The command has the options that were typed, so that it works when pasted."""
    root = photos(tmp_path / "photos")
    asked = DatasetRequest(data=str(root), cache=cache)
    with pytest.raises(CacheError, match=rf"run `featcache extract {root} --cache {cache}` first"):
        asked.store_of("train")
    laid(root, "extra/a/1.png")
    record(cache, asked.recipe)
    laid(root, "later/a/1.png")
    later = DatasetRequest(data=str(root), cache=cache)
    with pytest.raises(CacheError, match=rf"run `featcache extract --split later {root} --cache {cache}` first"):
        later.store_of("later")


def test_a_split_that_nobody_has_is_taken_from_train(tmp_path, cache):
    """Where there is no val at all, the advice is the share that makes one."""
    root = photos(tmp_path / "photos")
    (root / "val").rename(root / "other")
    asked = DatasetRequest(data=str(root), cache=cache)
    record(cache, asked.recipe)
    with pytest.raises(CacheError, match=r"no split 'val' .*featcache extract .* --val 0.15` takes it"):
        asked.store_of("val")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"val": 1.5}, "--val: found 1.5, expected a share"),
        ({"test": 0.0}, "--test: found 0.0, expected a share"),
        ({"val": 0.5, "test": 0.5}, "--val and --test leave nothing to train on"),
        ({"val": 0.5, "split_by": "person"}, "--split-by: found 'person', expected subject, clip or image"),
        ({"val": 0.5, "split_seed": -1}, "--split-seed: found -1, expected a whole number from 0 to 999,999,999"),
        ({"fold": 3}, "--fold: pets has no folds"),
    ],
)
def test_a_flag_out_of_its_range_is_refused_by_its_name(pets, cache, flags, said):
    """The message names the flag that was typed, not the recipe's setting."""
    with pytest.raises(UsageError, match=said):
        _ = request(cache, **flags).recipe


def test_folds_of_another_data_set_are_refused_as_they_were_typed(pets, cache):
    """--folds is refused once, for all of them, and not as the --fold of the first."""
    with pytest.raises(UsageError, match=r"^--folds: pets has no folds; "), name_fold_in_errors(0):
        _ = request(cache, fold=0).recipe


def test_an_advised_extract_takes_the_trunk_that_the_cache_has(pets, cache, tmp_path):
    """Of another division, fold or level, too: the default trunk would embed every image once more."""
    weights = tmp_path / "net.pth"
    weights.touch()
    record(cache, request(cache, val=0.25, split_by="image").recipe, asked=str(weights))
    other = request(cache, val=0.5)
    assert f"--weights {weights}" in other.command_line("extract")
    assert "--weights other.pth" in request(cache, val=0.5, weights="other.pth").command_line("fit-head")
    assert "--weights" not in request(cache, val=0.5, arch="vit_l_16").command_line("extract")
    weights.unlink()
    assert "--weights" not in other.command_line("extract")
