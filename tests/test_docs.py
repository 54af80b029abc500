"""The documentation is true and whole: what it shows exists, and what exists is documented."""

import contextlib
import functools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

import featcache.cli
from featcache.cli.app import app
from featcache.recipe import Recipe
from tests.conftest import Nano

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]
RIGHT_PAGES = [page for page in PAGES if page.name != "first-commands.md"]  # that page shows wrong commands too
REFERENCE = ROOT / "docs/reference"
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
TABLES = (
    "data",
    "trunk",
    "head",
    "augmentation",
    "finetune",
    "fit",
    "split",
    "cnn",
)  # keys of a recipe that hold others
NO_COMMAND = "featcache video frame 1"  # of docs/format.md: what a frame's digest begins with


def options_of(command: str) -> set[str]:
    """Every spelling of every option of a command."""
    return {flag for option in COMMANDS[command].params for flag in (*option.opts, *option.secondary_opts)}


def code(text: str) -> Iterator[str]:
    """The lines of fenced blocks, and the spans of code in running text."""
    fence = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for block in fence.findall(text):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", fence.sub("", text))


def shown_commands(*pages: Path) -> list[list[str]]:
    """The words of every featcache command that the pages show."""
    lines = [line for page in pages for line in code(page.read_text()) if NO_COMMAND not in line]
    found = [match for line in lines for match in re.findall(r"(?:^|[$&] ?)featcache ([a-z][^\n#&|>;]*)", line)]
    return [line.split() for line in dict.fromkeys(found)]


@functools.cache
def help_of(command: str) -> str:
    """What `featcache COMMAND --help` prints."""
    words = [sys.executable, "-m", "featcache", command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestWhatIsShownExists:
    """From the pages to the code."""

    @pytest.mark.parametrize("words", shown_commands(*RIGHT_PAGES), ids=" ".join)
    def test_every_command_in_the_docs_exists(self, words: list[str]) -> None:
        """A command that README or docs show is one that featcache has, with the flags that are shown."""
        told = help_of(words[0])
        for flag in (word.partition("=")[0] for word in words[1:] if word.startswith("-") and word != "-"):
            assert re.search(rf"(^|[\s,/]){re.escape(flag)}\b", told, re.MULTILINE), flag

    def test_every_flag_in_the_running_text_exists(self) -> None:
        """A flag that README or a guide names on its own is one of some command's."""
        every = {flag for command in COMMANDS for flag in options_of(command)} | {"--help", "--version"}
        for page in (README, ROOT / "docs/getting-started.md", *sorted(ROOT.glob("docs/guides/*.md"))):
            flags = re.findall(r"`(--[a-z-]+)[^`]*`", page.read_text())
            assert not set(flags) - every, page.name

    def test_every_file_that_is_named_exists(self) -> None:
        """A path of the repository that README or docs name is there; docs/faults.md is as old as its last long run."""
        gone = {"featcache/extract.py"}  # decision 001 says why
        pattern = r"\b(?:featcache|tests|bench|docs|pipelines)/[\w./-]+\.(?:py|md|toml)\b"
        for page in (page for page in PAGES if page.name != "faults.md"):
            paths = set(re.findall(pattern, page.read_text())) - gone
            assert not [path for path in paths if not (ROOT / path).is_file()], page.name

    def test_every_module_that_is_named_exists(self) -> None:
        """A module that README or docs name from its package on, such as `store/shard.py`, is there."""
        packages = "|".join(path.parent.name for path in ROOT.glob("featcache/*/__init__.py"))
        pattern = rf"(?<![\w./-])(?:{packages})/[\w./-]+\.pyi?\b"
        for page in (page for page in PAGES if page.name != "faults.md"):
            paths = set(re.findall(pattern, page.read_text()))
            assert not [path for path in paths if not (ROOT / "featcache" / path).is_file()], page.name

    def test_every_module_that_a_decision_names_exists(self) -> None:
        """A bare name of a file in a decision, such as `own_models.py`, is that of a file in the repository."""
        names = {
            path.name for folder in ("featcache", "tests", "bench", "docs") for path in (ROOT / folder).rglob("*.py*")
        }
        gone = {"extract.py", "checkpoints.py"}  # decisions 001 and 096 say what became of them
        for page in ROOT.glob("docs/decisions/[0-9]*.md"):
            named = set(re.findall(r"`(\w+\.pyi?)`", page.read_text())) - gone
            assert not named - names, page.name

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_every_recipe_is_one(self, page: Path) -> None:
        """A TOML block is a recipe, or a part of one, that the checks accept."""
        for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
            recipe = {"name": "part", **tomllib.loads(block)}
            recipe["data"] = {"root": "part", **recipe.get("data", {})}
            Recipe.model_validate(recipe)

    def test_every_output_is_real(self) -> None:
        """Output stands below a comment by which `docs/refresh.py` runs its commands; that script knows the page."""
        script = (ROOT / "docs/refresh.py").read_text()
        for page in PAGES:
            text = page.read_text()
            marked = re.findall(r"^<!-- run: .* -->\n```console$", text, re.MULTILINE)
            assert len(marked) == len(re.findall(r"^ *```console$", text, re.MULTILINE)), page.name
            assert not marked or f'"{page.relative_to(ROOT)}"' in script, page.name

    def test_every_shown_json_key_is_printed(self, documents: dict[str, Any]) -> None:
        """A key at the top of a command's table is in the document that the command prints; but for those that need
        another option or a video.
        """
        elsewhere = {"near", "against", "folds"}
        for command, document in documents.items():
            rows = re.findall(r"^\| (`[^|]*`) \|", json_section(command), re.MULTILINE)
            keys = {key for cell in rows for key in re.findall(r"`(\w+)`", cell)}
            assert not keys - set(document) - elsewhere, command


class TestWhatExistsIsDocumented:
    """From the code to the pages."""

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_and_option(self, command: str) -> None:
        """The reference has a section for each command, with each of its options, and a meaning for each."""
        section = section_of(REFERENCE / "command-line.md", f"`featcache {command}`")
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `-")]
        assert {flag for row in rows for flag in re.findall(r"`(-[^`]+)`", row[0])} == {
            flag for flag in options_of(command) if flag.startswith("-")
        }
        for argument in (one for one in COMMANDS[command].params if one.param_type_name == "argument"):
            assert f"`{argument.metavar or argument.name.upper()}`" in section

    @pytest.mark.parametrize("name", ["command-line.md", "recipe.md"])
    def test_every_option_and_setting_has_a_meaning(self, name: str) -> None:
        """No row of the generated tables ends in an empty cell: what an option or a setting does is said."""
        text = (REFERENCE / name).read_text()
        assert not re.findall(r"^\| .* \|  \|$", text, re.MULTILINE)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_is_shown_in_use(self, command: str) -> None:
        """README, the first steps or a guide show each command as one types it."""
        pages = (README, ROOT / "docs/getting-started.md", *ROOT.glob("docs/guides/*.md"))
        assert command in {words[0] for words in shown_commands(*pages)}

    def test_every_setting_of_a_recipe(self) -> None:
        """The reference has every key of every table of a recipe."""
        rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "recipe.md").read_text(), re.MULTILINE)
        assert {name for _, name in settings_of(Recipe)} <= {*rows, *TABLES}

    def test_every_public_name(self) -> None:
        """The reference has every name that `featcache` offers."""
        page = (REFERENCE / "python.md").read_text()
        names = set(re.findall(r"^\.\. auto\w+:: (\w+)", page, re.MULTILINE))
        assert names == {name for name in featcache.__all__ if not name.startswith("_")}

    def test_every_json_key(self, documents: dict[str, Any]) -> None:
        """Each key that a command prints, at the top or in the objects there, is in its section of the reference."""
        missing = [
            f"{command}: {key}"
            for command, document in documents.items()
            for key in sorted(keys_of(document))
            if not re.search(rf"`{key}(\[\])?`", json_section(command))
        ]
        assert not missing

    def test_every_exit_code(self) -> None:
        """The table of exit codes has that of each error."""
        page = (REFERENCE / "exit-codes.md").read_text()
        for name in ("UsageError", "CacheError", "DataError", "MachineError"):
            number = getattr(featcache, name).exit_code
            assert re.search(rf"^\| {number} \|.*`featcache\.{name}` \|$", page, re.MULTILINE)

    def test_every_decision_is_in_the_index(self) -> None:
        """The index of decisions links each of them, in order."""
        linked = re.findall(r"\]\((\d{3}-[^)]+)\)", (ROOT / "docs/decisions/index.md").read_text())
        assert linked == sorted(path.name for path in ROOT.glob("docs/decisions/[0-9]*.md"))

    def test_every_decision_has_a_title_of_one_form(self) -> None:
        """The first line of a decision is its number, a colon and its title: `# 096: Stage one in pieces`."""
        for path in ROOT.glob("docs/decisions/[0-9]*.md"):
            first = path.read_text().split("\n", 1)[0]
            assert re.fullmatch(rf"# {path.name[:3]}: \S.*", first), path.name

    def test_the_generated_parts_are_up_to_date(self) -> None:
        """What `docs/generate.py` would write now is what stands there."""
        done = subprocess.run(
            [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def section_of(page: Path, heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert match, heading
    return match[1]


def json_section(command: str) -> str:
    """What the reference says of a command's document; that of `search` includes that of `fit-head`."""
    own = section_of(REFERENCE / "json.md", f"`featcache {command}`")
    return own + section_of(REFERENCE / "json.md", "`featcache fit-head`") if command == "search" else own


def settings_of(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field of a model and of the models below it."""
    for name, field in model.model_fields.items():
        yield model, name
        for inner in models_in(field.annotation):
            yield from settings_of(inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


FREE = ("classes", "settings", "versions", "shares", "splits", "notes", "confusion", "damaged")  # their keys are data


def keys_of(document: Any) -> set[str]:
    """The keys of a document and of the objects and lists right below it, but for those that are names of data."""
    found = set(document)
    for name, value in document.items():
        inner = value[0] if isinstance(value, list) and value else value
        if name not in FREE and isinstance(inner, dict):
            found |= set(inner)
    return found


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory, nano: Nano) -> dict[str, Any]:
    """What each command prints with --json, on a small data set; of a list, its first entry."""
    from tests.conftest import write_images

    here = tmp_path_factory.mktemp("json")
    data = ("--data", "digits")
    write_images(here / "digits", {"train": {"0": 8, "1": 8}, "val": {"0": 4, "1": 4}, "test": {"0": 4, "1": 4}})

    def typed(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.stderr
        document = json.loads(done.stdout)
        return document[0] if isinstance(document, list) else document

    with contextlib.chdir(here):
        return {
            "extract": typed("extract", *data, *nano.flags),
            "data": typed("data", *data),
            "fit-head": typed("fit-head", *data, "--epochs", "3", "--lr", "0.01", "--lr", "0.1"),
            "search": typed("search", *data, "--epochs", "2", "--trials", "2", "--no-check"),
            "fit": typed("fit", "knn", "k=1,3", *data),
            "compare": typed("compare", *data),
            "report": typed("report", *data),
            "predict": typed("predict", "best", "digits/test/0", *data),
            "export-model": typed("export-model", "best", "--to", "model.pt", *data),
            "export": typed("export", "test", "--to", "test.npz", *data),
            "info": typed("info", *data),
            "verify": typed("verify"),
            "repair": typed("repair"),
            "gc": typed("gc"),
        }
