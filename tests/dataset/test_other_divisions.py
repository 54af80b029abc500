"""Heads of a data set in another division into splits than the one that is meant: the error leads to them."""

import shutil
from pathlib import Path

import pytest

import featcache
from featcache.cli.corrections import correct_words
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from tests.dataset.conftest import photos, record
from tests.listing.test_flat_folder import laid

SHARES = {"val": 0.34, "split_by": "image"}
FLAGS = "--val 0.34 --split-by image"


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with train and test, and without val, in the folder where commands are typed."""
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(photos(Path("pets")) / "val")
    return Path("pets")


def train(cache: Path, **options: object) -> dict[str, object]:
    """Extract and train one head; the options of the data set."""
    where = {"data": "pets", "cache": str(cache), **options}
    record(cache, DatasetRequest(**where).recipe)
    featcache.fit_head(0.1, epochs=1, check_seconds=None, **where)
    return where


def refused(command: str, **where: object) -> CacheError:
    with pytest.raises(CacheError) as caught:
        {"report": featcache.evaluate, "compare": featcache.compare, "fit-head": featcache.fit_head}[command](**where)
    return caught.value


@pytest.mark.parametrize("command", ["report", "compare"])
def test_heads_of_shares_are_led_to_by_their_flags(pets, cache, command):
    """Without the flags that divided the data set, the error shows them, and the command that it advises works."""
    where = train(cache, **SHARES)
    error = refused(command, data="pets", cache=str(cache))
    assert f"there is no head for pets with its own splits, but there is for {FLAGS}: type {FLAGS}" in str(error)
    assert " ".join(correct_words([command, "pets"], error.corrections)) == f"{command} pets {FLAGS}"
    assert featcache.evaluate(**where).split == "test"


def test_heads_of_the_own_splits_are_led_to_by_leaving_flags_out(pets, cache):
    """Shares that nobody has trained on are left out again; a seed becomes that of the heads."""
    train(cache)
    error = refused("report", data="pets", cache=str(cache), val=0.5, split_by="image")
    assert "is no head for pets divided by --val 0.5 --split-by image, but there is for its own splits: lea" in str(
        error
    )
    assert correct_words(["report", "pets", "--val", "0.5", "--split-by", "image"], error.corrections) == [
        "report", "pets",
    ]  # fmt: skip
    train(cache, split_seed=3, **SHARES)
    shutil.rmtree(next((cache / "stores").glob("*/heads/pets/all")))
    error = refused("report", data="pets", cache=str(cache), **SHARES)
    assert correct_words(["report", "pets", *FLAGS.split()], error.corrections)[-2:] == ["--split-seed", "3"]


def test_a_recipe_that_divides_says_what_to_take_out_of_it(pets, cache):
    """Heads of before [data.split] was written are not lost: the error says what brings them back."""
    train(cache)
    Path("featcache.toml").write_text('name = "pets"\n[data]\nroot = "pets"\nsplit = {val = 0.34, by = "image"}\n')
    error = refused("compare", cache=str(cache))
    assert "but there is for its own splits: leave [data.split] out of the recipe" in str(error)
    assert not error.corrections


def test_embeddings_of_shares_are_led_to_by_their_flags(pets, cache):
    """Where nothing else was extracted, fit-head without flags is advised with them, and never instead of others."""
    record(cache, DatasetRequest(data="pets", cache=str(cache), **SHARES).recipe)
    error = refused("fit-head", lr=0.1, data="pets", cache=str(cache))
    assert " ".join(correct_words(["fit-head", "pets"], error.corrections)) == f"fit-head pets {FLAGS}"
    assert not refused("fit-head", lr=0.1, data="pets", cache=str(cache), val=0.5, split_by="image").corrections


def test_the_recipe_of_another_data_set_leads_to_no_circle(pets, cache):
    """The name that is advised, and then the flags, lead to the heads; --head-name is not advised for a data set."""
    where = train(cache, **SHARES)
    laid(Path("others"), *(f"{split}/a/1.png" for split in ("train", "test")))
    Path("featcache.toml").write_text('name = "others"\n[data]\nroot = "others"\n')
    words = ["report", "pets"]
    for typed in ({}, {"name": "pets"}):
        words = correct_words(words, refused("report", data="pets", cache=str(cache), **typed).corrections)
    assert " ".join(words) == f"report pets --name pets {FLAGS}"
    assert featcache.evaluate(name="pets", **where).split == "test"
    error = refused("report", data="pets", cache=str(cache), name="mine")
    assert "--name mine: pets is in this cache as pets, and not under that name" in str(error)


def test_a_folder_is_led_to_its_own_name_in_the_cache(pets, cache):
    """Under whatever name it was extracted, and the recipe's data set beside it."""
    record(cache, DatasetRequest(data="pets", name="mine", cache=str(cache)).recipe)
    laid(Path("others"), *(f"{split}/{name}/1.png" for split in ("train", "test") for name in "ab"))
    Path("featcache.toml").write_text('name = "others"\n[data]\nroot = "others"\n')
    for _ in range(2):
        error = refused("fit-head", lr=0.1, data="pets", cache=str(cache))
        assert correct_words(["fit-head", "pets"], error.corrections) == ["fit-head", "pets", "--name", "mine"]
        record(cache, DatasetRequest(cache=str(cache)).recipe)
