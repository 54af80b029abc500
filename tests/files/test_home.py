"""A tilde at the start of a path is a home folder, wherever the path comes from."""

import os
import pwd
from pathlib import Path

import pytest

from featcache.dataset.request import DatasetRequest
from featcache.errors import FeatcacheError, UsageError
from featcache.files.home import contract_home, expand_home
from featcache.listing.sources import locate_root
from featcache.prediction.images import find_images
from featcache.recipe import check_recipe, resolve_recipe
from featcache.store.catalog import cache_folder
from featcache.trunks import weights
from featcache.trunks.architectures import architecture
from tests.builders import list_split


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HOME, beside the folder that commands are typed in; that one must stay empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "typed").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "typed")
    return tmp_path / "home"


def test_a_tilde_is_the_home_and_a_name_is_that_users(home):
    """`~`, `~/…` and `~user/…` are expanded; any other path, ./~ too, is as it was."""
    user = pwd.getpwuid(os.getuid())
    assert (expand_home("~"), expand_home("~/c"), expand_home(Path("~/c/d"))) == (str(home), f"{home}/c", f"{home}/c/d")
    assert expand_home(f"~{user.pw_name}/c") == os.path.join(user.pw_dir, "c")
    for path in ("c", "/c", "./~", "./~/c", "a/~/b", "", "a~"):
        assert expand_home(path) == path


def test_a_home_that_there_is_not_is_refused(home, monkeypatch):
    """An unknown user, an empty or a relative HOME: one error of exit code 2; a file of that very name is meant."""
    with pytest.raises(UsageError, match=r"there is no user 'nobody-here' here; write the whole path, or \./~"):
        expand_home("~nobody-here/c")
    Path("~nobody-here.png").touch()
    assert expand_home("~nobody-here.png") == "~nobody-here.png"
    for value in ("", "relative"):
        monkeypatch.setenv("HOME", value)
        with pytest.raises(UsageError, match="HOME is not the absolute path of a folder"):
            expand_home("~/c")


def test_every_path_of_a_recipe_is_expanded(home):
    """Root, table, annotations and weights; a pattern of paths below the root may not begin with a home."""
    data = {"layout": "table", "root": "~/d", "table": "~/t.csv"}
    recipe = check_recipe({"name": "t", "data": data, "trunk": {"weights": "~/w.pth"}}, where="test")
    assert (recipe.data.root, recipe.data.table, recipe.trunk.weights) == (
        f"{home}/d", f"{home}/t.csv", f"{home}/w.pth"
    )  # fmt: skip
    assert locate_root(recipe) == str(home)
    act = {"layout": "drive-act", "root": "~", "annotations": "~/a", "view": "v", "fold": 0}
    assert check_recipe({"name": "t", "data": act}, where="test").data.annotations == f"{home}/a"
    with pytest.raises(UsageError, match=r"data\.frames: .*no leading '/' or '~/'"):
        check_recipe({"name": "t", "data": {**act, "frames": "~/{file_id}/{frame}.png"}}, where="test")
    with pytest.raises(UsageError, match=r"data\.root: found '~nobody-here/d'; .*there is no user 'nobody-here'"):
        check_recipe({"name": "t", "data": {"root": "~nobody-here/d"}}, where="test")


def test_flags_and_variables_are_expanded(home, monkeypatch):
    """--pipeline, --data, --cache, FEATCACHE_CACHE, --weights: in the library as at the command line."""
    (home / "r.toml").write_text('name = "r"\n[data]\nroot = "~/d"\n')
    assert resolve_recipe("~/r.toml").data.root == f"{home}/d"
    assert (resolve_recipe(data="~/d").data.root, resolve_recipe(data="~/d").name) == (f"{home}/d", "d")
    assert resolve_recipe(data="~").name == "home"
    assert resolve_recipe("~/r.toml", data="~/e").data.root == f"{home}/e"
    assert (cache_folder("~/c"), cache_folder(Path("~/c")), DatasetRequest(cache="~/c").folder) == (home / "c",) * 3
    monkeypatch.setenv("FEATCACHE_CACHE", "~/e")
    assert cache_folder(None) == home / "e"
    assert weights.weights_path(architecture("vit_b_16"), "~/w.pth") == home / "w.pth"
    monkeypatch.setenv("TORCH_HOME", "~/torch")
    assert weights.weights_path(architecture("vit_b_16"), "IMAGENET1K_V1").is_relative_to(home / "torch")  # type: ignore[union-attr]
    monkeypatch.setenv("TORCH_HOME", "~nobody-here/torch")
    with pytest.raises(UsageError):
        weights.weights_path(architecture("vit_b_16"), "IMAGENET1K_V1")


def test_a_folder_of_images_is_found_through_its_tilde(home):
    """--data and the names given to predict."""
    (home / "d/train/cat").mkdir(parents=True)
    (home / "d/train/cat/1.png").touch()
    assert list_split(resolve_recipe(data="~/d"), "train").root == f"{home}/d"
    assert find_images("~/d") == [f"{home}/d/train/cat/1.png"]
    assert find_images("~/d/train/cat/1.png") == [f"{home}/d/train/cat/1.png"]


@pytest.mark.parametrize(
    "words",
    [
        ("data", "--csv=~/x.csv"),
        ("report", "--html=~/x.html"),
        ("predict", "~/head", "~/a.png", "--csv=~/x.csv"),
        ("extract", "--weights=~/w.pth"),
        ("verify",),
    ],
    ids=lambda words: words[0],
)
def test_no_command_makes_a_folder_named_tilde(home, tmp_path, run, words):
    """Whatever a command ends with, no file or folder whose name begins with a tilde is made where it was typed."""
    (home / "d/train/cat").mkdir(parents=True)
    (home / "d/train/cat/1.png").touch()
    ran = run(*words, "--cache=~/c", *(() if words[0] == "verify" else ("--data=~/d",)))
    assert not list((tmp_path / "here").iterdir())
    assert "~" not in ran.out + ran.err
    assert (home / "x.csv").exists() == (words[0] == "data")


@pytest.mark.parametrize(
    ("text", "contracted"),
    [
        ("in {}/a b and {}", "in ~/a b and ~"), ("{}x/y", "{}x/y"), ("/mnt{}/y", "/mnt{}/y"), ('"{}/x"', '"~/x"'),
        ("AB+{}/CD", "AB+{}/CD"),
    ],
)  # fmt: skip
def test_paths_below_the_home_folder_begin_with_a_tilde(home, text, contracted):
    """In a text that is shared; a path that only resembles one stays as it is, and so does what is no path."""
    assert contract_home(text.format(home, home)) == contracted.format(home, home)


def test_files_that_the_library_writes_are_expanded(home, tmp_path):
    """save_report, save_predictions and export name the home in what they refuse."""
    import featcache

    for write in (
        lambda: featcache.save_report("~/no/x.html", cache=tmp_path),
        lambda: featcache.export("train", "~/no/x.npz", cache=tmp_path),
        lambda: featcache.export_model(None, "~/no/x.pt", cache=tmp_path),
    ):
        with pytest.raises(FeatcacheError, match=f"{home}/no"):
            write()
