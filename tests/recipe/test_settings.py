"""A setting is declared once: everything else that knows of it follows from its declaration."""

import re
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

import featcache
from featcache.arguments import keyword_types
from featcache.cli.app import app
from featcache.cli.options import declared_option, help_of
from featcache.errors import UsageError
from featcache.heads.config import HeadConfig
from featcache.heads.grid import GRID_KEYS
from featcache.recipe import (
    AugmentationSection,
    AugmentationSettings,
    CnnSection,
    CnnSettings,
    DeviceSettings,
    FinetuneSection,
    FinetuneSettings,
    HeadSection,
    HeadSettings,
    SelectionSettings,
    TrunkSection,
    TrunkSettings,
    ViewSettings,
    check_recipe,
    declared_settings,
    resolve_recipe,
)
from featcache.recipe.sections import Section
from featcache.recipe.settings import Setting
from tests.recipe.write_keywords import KEYWORDS, source, typed_dict

HEAD = declared_settings(HeadSettings)
TRAINING = declared_settings(DeviceSettings, ViewSettings, SelectionSettings)
TRUNK = declared_settings(TrunkSettings)
FINETUNE = declared_settings(FinetuneSettings)


@dataclass(frozen=True, kw_only=True)
class MoreSettings(HeadSettings):
    """The settings of a head, and one more: what adding a setting takes."""

    mixup: Annotated[float, Setting("The share of rows that are mixed.", ge=0, lt=1, several=True)] = 0.0


def options_of(command: str) -> dict[str, str]:
    """Return the options of a command by their parameter's name, with their help."""
    parameters = typer.main.get_command(app).commands[command].params
    return {parameter.name: parameter.help for parameter in parameters if parameter.param_type_name == "option"}


def option_of(annotation: object) -> typing.Any:
    """Return the option that typer makes of a parameter's type."""
    small = typer.Typer(add_completion=False)

    @small.command()
    def run(value: annotation = None) -> None: ...

    return typer.main.get_command(small).params[0]


def test_one_declaration_is_all_that_a_new_setting_takes():
    """From one line follow the recipe's key, its checks, its lists, the grid's key, the option and the keyword."""
    settings = declared_settings(MoreSettings)
    mixup = settings["mixup"]

    class MoreSection(Section, declares=(MoreSettings,)):
        """A recipe's section of these settings."""

    assert MoreSection(mixup=[0.0, 0.5]).mixup == (0.0, 0.5)
    assert MoreSection.model_json_schema()["properties"]["mixup"]["description"] == mixup.declaration.help
    with pytest.raises(ValidationError, match="less than 1"):
        MoreSection(mixup=1.0)
    assert [setting for setting in settings if settings[setting].declaration.several] == [*GRID_KEYS, "mixup"]
    option = option_of(declared_option(mixup))
    assert (option.opts, option.help, option.default) == (["--mixup"], help_of(mixup), None)
    assert help_of(mixup) == "The share of rows that are mixed.  [from 0 to below 1; default: 0.0]"
    assert "    mixup: float | Sequence[float] | None\n" in typed_dict("MoreKeywords", "head", settings)


def test_the_head_is_trained_with_every_declared_setting():
    """HeadConfig has the declared settings and no others, each with the declared default."""
    assert {field.name: field.default for field in fields(HeadConfig)} == {n: s.default for n, s in HEAD.items()}
    assert HeadConfig()


@pytest.mark.parametrize("name", HEAD | TRAINING)
def test_a_setting_of_a_head_is_everywhere(name):
    """Each is a key of [head], an option of fit-head, a keyword of fit_head; those with lists are the grid's keys."""
    setting = (HEAD | TRAINING)[name]
    field = HeadSection.model_fields[name]
    assert field.description == setting.declaration.help
    assert field.default == ((setting.default,) if setting.declaration.several else setting.default)
    assert options_of("fit-head")[name] == help_of(setting)
    assert name in keyword_types(featcache.fit_head)
    assert (name in GRID_KEYS) == setting.declaration.several


@pytest.mark.parametrize("name", TRUNK)
def test_a_setting_of_the_trunk_is_everywhere(name):
    """Each is a key of [trunk]; those with an option are one of extract, and a keyword of extract."""
    setting = TRUNK[name]
    field = TrunkSection.model_fields[name]
    default = (setting.default,) if setting.declaration.several else setting.default
    assert (field.description, field.default) == (setting.declaration.help, default)
    assert options_of("extract").get(name) == (help_of(setting) if setting.declaration.option else None)
    assert (name in keyword_types(featcache.extract)) == setting.declaration.option


@pytest.mark.parametrize("name", FINETUNE)
def test_a_setting_of_finetuning_is_everywhere(name):
    """Each is a key of [finetune], an option of finetune, and a keyword of finetune."""
    setting = FINETUNE[name]
    field = FinetuneSection.model_fields[name]
    assert (field.description, field.default) == (setting.declaration.help, setting.default)
    assert options_of("finetune")[name] == help_of(setting)
    assert name in keyword_types(featcache.finetune)


def test_the_sections_have_no_other_keys():
    """A key of a section that is not declared would be missing on the command line and in the documentation."""
    assert list(HeadSection.model_fields) == [*HEAD, *TRAINING]
    assert list(TrunkSection.model_fields) == [*TRUNK, "cnn"]  # a table within the table, of declared settings too
    assert list(CnnSection.model_fields) == list(declared_settings(CnnSettings))
    assert list(AugmentationSection.model_fields) == list(declared_settings(AugmentationSettings))
    assert list(FinetuneSection.model_fields) == list(FINETUNE)


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        ("trunk.cnn", {"filters": 0}, "trunk.cnn.filters: found 0, expected a whole number from 1 to 1,024"),
        ("trunk.cnn", {"filter_size": "2"}, "trunk.cnn.filter_size: found '2', expected one odd number from 1 to 11"),
        ("trunk.cnn", {"filter_size": "3,3"}, "or five of them separated by commas"),
        ("trunk.cnn", {"progression": "tripling"}, "found 'tripling', expected constant, doubling or halving"),
        ("trunk.cnn", {"filtres": 3}, "trunk.cnn.filtres: unknown key; did you mean filters?"),
        ("augmentation", {"flip": 2}, "augmentation.flip: found 2, expected a number from 0 to 1"),
        ("augmentation", {"randaugment": 1.5}, "augmentation.randaugment: found 1.5, expected a whole number"),
        ("augmentation", {"colour": 1}, "augmentation.colour: unknown key; did you mean color?"),
    ],
)
def test_a_table_without_options_is_checked_likewise(section, settings, said):
    """A wrong setting of [trunk.cnn] or [augmentation] is named by its place, with what is expected."""
    *tables, last = section.split(".")
    table = {tables[0]: {"arch": "cnn", last: settings}} if tables else {last: settings}
    with pytest.raises(UsageError, match=re.escape(said)):
        check_recipe({"name": "a", "data": {"root": "a"}, **table}, where="some.toml")


def test_the_shape_of_a_cnn_beside_another_network_is_refused():
    """[trunk.cnn] would be taken and not used where arch names another network; at its defaults it says nothing."""
    with pytest.raises(
        UsageError, match=r'\[trunk.cnn\] has the settings of arch = "cnn", and arch is "resnet50"; name'
    ):
        check_recipe(
            {"name": "a", "data": {"root": "a"}, "trunk": {"arch": "resnet50", "cnn": {"dense": 3}}}, where="a"
        )
    assert TrunkSection(arch="resnet50", cnn={"dense": 256}).cnn == CnnSection()


def test_the_keywords_are_those_of_the_declarations():
    """Editors and mypy read a module that is written from the declarations; after a change it is written anew."""
    assert KEYWORDS.read_text("utf-8") == source(), "run `python -m tests.recipe.write_keywords`"


def test_every_setting_is_explained():
    """A setting is explained in a sentence; so is each key of the other sections."""
    sections = [HeadSection, TrunkSection, FinetuneSection, *(type(resolve_recipe("daa", data="x").data),)]
    for section in sections:
        for name, field in section.model_fields.items():
            assert re.fullmatch(r"\S.*[.…]", field.description or ""), name


@pytest.mark.parametrize(
    ("kind", "limits", "words"),
    [
        (float, {"gt": 0}, "a number above 0"),
        (float, {"ge": 0}, "a number from 0 up"),
        (float, {"ge": 0, "lt": 1}, "a number from 0 to below 1"),
        (float, {"ge": 0, "le": 1}, "a number from 0 to 1"),
        (float, {"gt": 0, "le": 0.5}, "a number above 0 to 0.5"),
        (int, {"ge": 1, "le": 10_000}, "a whole number from 1 to 10,000"),
        (int, {"ge": 1, "le": 2**31}, "a whole number from 1 to 2^31"),
        (int, {"ge": 0, "lt": 2**63}, "a whole number from 0 to 2^63 - 1"),
        (int | None, {"ge": 1}, "a whole number from 1 up, or None"),
        (float, {}, "a number"),
        (str, {}, "text"),
        (bool, {}, "true or false"),
        (Literal["a"], {}, "a"),
        (Literal["a", "b", "c"], {}, "a, b or c"),
    ],
)
def test_a_range_in_words(kind, limits, words):
    """Errors and --help say what is permitted in the same words."""

    @dataclass
    class Some:
        value: Annotated[kind, Setting("What it does.", **limits)] = None

    assert declared_settings(Some)["value"].expected == words


@pytest.mark.parametrize("name", HEAD)
def test_recipe_and_training_agree_on_what_a_value_may_be(name):
    """What the recipe refuses, HeadConfig refuses, and the other way round."""
    numbers = (-1, 0, 0.5, 1, 1.5, 2, 10_001, 2**31 + 1, 2**63, float("nan"), float("inf"), 10**400, -(10**5000))
    for value in (None, True, "x", "none", "sgd", *numbers):
        try:
            HeadSection(**{name: value})
        except ValidationError:
            with pytest.raises(UsageError, match=name):
                HeadConfig(**{name: value})
        else:
            assert HeadConfig(**{name: value})


def test_help_of_a_command_states_range_and_default():
    """`fit-head --help` says what a setting may be and what it is where nobody says."""
    shown = " ".join(CliRunner().invoke(app, ["fit-head", "--help"], terminal_width=200).stdout.split())
    assert "The momentum of sgd. [from 0 to below 1; default: 0.9]" in shown
    assert "[sgd, adam or adamw; default: sgd]" in shown


def test_the_declaration_is_the_only_place():
    """Beside the declaration and what is written from it, no module of recipe/ or cli/ lists settings."""
    package = Path(featcache.__file__).parent
    texts = {path: path.read_text("utf-8") for folder in ("recipe", "cli") for path in (package / folder).glob("*.py")}
    places = {str(path.relative_to(package)) for path, text in texts.items() if "label_smoothing" in text}
    assert places == {"recipe/head.py", "recipe/finetune.py", "recipe/keywords.py"}
