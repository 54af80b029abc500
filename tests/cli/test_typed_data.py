"""Commands in messages get the data set that was typed."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from featcache.cli.app import app
from featcache.cli.typed_data import add_data_set, remember_data_set
from featcache.cli.typed_folder import typed_root


@pytest.fixture(autouse=True)
def _typed() -> Iterator[None]:
    remember_data_set({"data": "my photos", "cache": "c", "name": None})
    yield
    remember_data_set({})


@pytest.mark.parametrize(
    ("message", "completed"),
    [
        ("run `featcache extract` again", "run `featcache extract 'my photos' --cache c` again"),
        ("`featcache extract --split val` does", "`featcache extract --split val 'my photos' --cache c` does"),
        ("`featcache verify` lists it", "`featcache verify --cache c` lists it"),
        ("`featcache repair` adopts the shards", "`featcache repair --cache c` adopts the shards"),
        ("run `featcache fit` and", "run `featcache fit --data 'my photos' --cache c` and"),
    ],
)
def test_an_advised_command_is_one_to_paste(message: str, completed: str) -> None:
    """The folder and the cache stand in it as they were typed, quoted."""
    assert add_data_set(message) == completed


@pytest.mark.parametrize(
    "message",
    [
        "run `featcache extract photos` first",
        "`featcache extract FOLDER` creates one",
        "a head of `featcache fit-head`",
        "`featcache gc --cache other` removes them",
    ],
)
def test_a_command_that_is_complete_or_only_mentioned_stays(message: str) -> None:
    """It names its data set already, needs none, or is not advised."""
    assert add_data_set(message) == message


@pytest.mark.parametrize("root", ["s3://bucket/photos", "hf://datasets/o/n", "hf://o/n"])
def test_a_url_is_advised_as_it_is(root: str) -> None:
    """It is no path below this folder, whose two slashes would become one."""
    assert typed_root(root) == root


@pytest.mark.parametrize("word", ["mix/a.tar", "a.parquet#000003", "s3://bucket/a.tar"])
def test_a_container_in_the_place_of_a_head_holds_images(word: str) -> None:
    """It is not taken for the data set that the head was trained on."""
    ran = CliRunner().invoke(app, ["predict", word, "b.jpg"])
    assert ran.exit_code == 2
    assert f"'{word}' holds images, expected a head before them" in ran.stderr
