"""The recipes that ship: each can be read, and opens with a command that can be typed."""

import re
import shlex

import pytest
import typer

from featcache.cli.app import app
from featcache.recipe import AugmentationSection, CnnSection, read_recipe, shipped_recipes
from featcache.trunks.libraries.convolutional import count_cnn_parameters

RECIPES = sorted(shipped_recipes().glob("*.toml"))
COMMANDS = typer.main.get_command(app).commands
PUBLISHED = (
    "imagenette-alexnet", "imagenette-resnet34", "imagenette-vgg16", "imagenette-vit", "nature12k-cnn",
    "nature12k-resnet50", "pizza-steak-sushi", "vit-scratch",
)  # fmt: skip


def opening(path):
    """Return the words of each command that a recipe opens with, without `featcache`."""
    lines = re.match(r"(?:# featcache .*\n)+", path.read_text()).group().splitlines()
    commands = [command for line in lines for command in line.removeprefix("# ").split(" && ")]
    return [shlex.split(command)[1:] for command in commands]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_read(path):
    """Every recipe that ships passes the checks of the version that it ships with."""
    assert read_recipe(path).name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_command(path):
    """The first line is a command line that parses, naming this recipe where it names one."""
    commands = opening(path)
    assert commands
    for name, *words in commands:
        context = COMMANDS[name].make_context(name, list(words))
        assert context.params.get("pipeline") in (None, path.stem)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_system_has_its_result(name):
    """The recipe of a published system says what was published, and whether it was run here."""
    text = (shipped_recipes() / f"{name}.toml").read_text()
    assert re.search(r"^# Published: ", text, re.MULTILINE)
    assert re.search(r"Here: (not run|\d)", text)


def test_the_cnn_has_the_parameters_that_its_recipe_states():
    """The count in nature12k-cnn is that of its settings and ten classes."""
    path = shipped_recipes() / "nature12k-cnn.toml"
    trunk = read_recipe(path).trunk
    assert f"{count_cnn_parameters(trunk.cnn, trunk.image_size, classes=10):,} parameters" in path.read_text()
    assert trunk.cnn != CnnSection()
    assert read_recipe(path).augmentation != AugmentationSection()
