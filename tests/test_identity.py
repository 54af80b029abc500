"""Which data set and which store is meant: held against what was extracted, never taken from a name or a sample."""

import hashlib
import os
import shutil
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import featcache
from featcache import CacheError
from featcache.extraction.moved_root import refuse_another_root
from featcache.files.stat_log import StatLog
from featcache.listing.sources import data_source, settings_of
from featcache.recipe import Recipe, check_recipe
from featcache.store import FeatureStore
from featcache.store.index import digest_column
from featcache.store.listings import ExtractedListing
from featcache.store.store import as_recorded
from featcache.trunks import weights as trunk_weights
from featcache.trunks.architectures import architecture
from featcache.trunks.weights_memo import WeightsMemo
from tests.builders import new_store

NANO = architecture("vit_nano_16")
STAGE_TWO: dict[str, Callable[..., object]] = {
    "load": lambda **where: featcache.load("train", **where),
    "stream": lambda **where: featcache.stream("train", **where),
    "fit_head": lambda **where: featcache.fit_head(0.1, epochs=1, check_seconds=None, **where),
    "fit": lambda **where: featcache.fit("ridge", {"alpha": 1.0}, **where),
    "evaluate": lambda **where: featcache.evaluate(**where),
    "evaluate_pair": lambda **where: featcache.evaluate_pair(None, "lr", **where),
    "compare": lambda **where: featcache.compare(**where),
    "predict": lambda **where: featcache.predict("best", ["/nowhere/x.png"], **where),
    "near_duplicates": lambda **where: featcache.near_duplicates(0.9, **where),
}


def photos(root: Path, content: str = "", classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Files that stand for images: `content` makes them others; their names are the same everywhere."""
    for split in ("train", "val", "test"):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.png").write_bytes(f"{content} {split} {name} {number}".encode())
                os.utime(folder / f"{number}.png", ns=(10**18, 10**18))
    return root


def recipe_of(root: Path, **sections: object) -> Recipe:
    return check_recipe({"name": "photos", "data": {"root": str(root)}, **sections}, where="a test")


def record(cache: Path, recipe: Recipe, *, sha256: str = "ab" * 32, asked: str = "nano.pth", **spec) -> FeatureStore:
    """Extract a recipe's data set as `featcache extract` does, but for the trunk."""
    store = new_store(cache, asked=asked, weights_sha256=sha256, **spec)
    laid = data_source(recipe)
    for split in laid.splits():
        listing = laid.listing(split)
        listing = replace(listing, settings=settings_of(recipe, videos=listing.videos))
        digests = digest_column([hashlib.sha256(Path(file).read_bytes()).digest() for file in listing.files()])
        with store.writer() as writer:
            x = np.array([np.frombuffer(digest.tobytes()[:16], np.uint8) for digest in digests], np.float32)
            writer.append(digests, x)
            writer.commit(ExtractedListing(listing, digests, ("",) * len(listing)))
    return FeatureStore.open(store.root, StatLog(cache))


def listen(path: str) -> None:
    """A socket that stands at a path."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


def write_recipe(path: Path, root: Path, trunk: str = "", data: str = "") -> str:
    path.write_text(f'name = "photos"\n[data]\nroot = "{root}"\n{data}\n[trunk]\n{trunk}\n')
    return str(path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# --- settings of the trunk ------------------------------------------------------------------------------------------

STATED = {
    "arch": 'arch = "vit_b_16"',
    "precision": 'precision = "bf16"',
    "decode": 'decode = "fast"',
    "stored": 'stored = "float16"',
    "exif": 'exif = "apply"',
    "weights": 'weights = "random"',
}


@pytest.mark.parametrize("setting", STATED)
@pytest.mark.parametrize("function", ["load", "fit_head", "compare"])
def test_what_the_recipe_states_is_held(tmp_path, cache, setting, function):
    """A store that differs in a setting that the recipe states is refused, with the setting and both values; the
    recipe that leaves it out, and a store that is named outright, are answered.
    """
    root = photos(tmp_path / "photos")
    store = record(cache, recipe_of(root))
    silent = write_recipe(tmp_path / "silent.toml", root)
    featcache.fit_head(0.1, epochs=1, check_seconds=None, pipeline=silent, cache=cache)
    stated = write_recipe(tmp_path / "stated.toml", root, STATED[setting])
    with pytest.raises(CacheError, match=f"the recipe says {setting} = .* has {setting} .*--store"):
        STAGE_TWO[function](pipeline=stated, cache=cache)
    assert STAGE_TWO[function](pipeline=stated, cache=cache, store=store.name) is not None


@pytest.mark.parametrize("function", STAGE_TWO)
def test_every_function_holds_it(tmp_path, cache, function):
    """Nothing in stage two answers from a store that the recipe does not mean."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    stated = write_recipe(tmp_path / "stated.toml", root, 'stored = "float16"')
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(root), cache=cache)
    with pytest.raises(CacheError, match="the recipe says stored = 'float16'"):
        STAGE_TWO[function](pipeline=stated, cache=cache)


def test_a_stated_setting_chooses_among_stores(tmp_path, cache):
    """Of two stores the recipe's is taken; auto fits both; a flag wins over the recipe."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    record(cache, recipe_of(root), compute="bfloat16")
    full, half, any_ = (
        write_recipe(tmp_path / f"{name}.toml", root, f'precision = "{name}"') for name in ("fp32", "bf16", "auto")
    )
    one, other = (featcache.load("train", pipeline=pipeline, cache=cache).source["store"] for pipeline in (full, half))
    assert one != other
    assert featcache.load("train", pipeline=full, precision="bf16", cache=cache).source["store"] == other
    with pytest.raises(CacheError, match="2 stores"):
        featcache.load("train", pipeline=any_, cache=cache)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """a/model.pth and b/model.pth, which differ; and a's tensors under another name, in another container."""
    paths = {}
    for seed, name in ((1, "a"), (2, "b")):
        torch.manual_seed(seed)
        state = trunk_weights.build_network(NANO, NANO.transform.crop).state_dict()
        (tmp_path / name).mkdir()
        paths[name] = str(tmp_path / name / "model.pth")
        torch.save(state, paths[name])
        if name == "a":
            paths["copy"] = str(tmp_path / "another.pth")
            torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, paths["copy"])
    return paths


def test_weights_are_compared_by_their_tensors(tmp_path, cache, files):
    """Two files of one name are two trunks, the same tensors under two names are one, by recipe and by flag; where
    the file is gone, the cache's memory or the name alone decides, and that is said.
    """
    root = photos(tmp_path / "photos")
    sha256 = trunk_weights.hash_tensors(trunk_weights.load_tensors(NANO, files["a"]))
    record(cache, recipe_of(root), sha256=sha256, asked="model.pth")
    stated = {
        name: write_recipe(tmp_path / f"{name}.toml", root, f'weights = "{path}"') for name, path in files.items()
    }
    for name in ("a", "copy"):
        assert len(featcache.load("train", pipeline=stated[name], cache=cache).y) == 6
        assert len(featcache.load("train", data=str(root), weights=files[name], cache=cache).y) == 6
    with pytest.raises(CacheError, match=r"the recipe says weights = .*b/model.pth.* has weights model.pth \(other"):
        featcache.load("train", pipeline=stated["b"], cache=cache)
    with pytest.raises(CacheError, match=r"--weights .*b/model.pth was typed; .* has weights model.pth \(other"):
        featcache.load("train", data=str(root), weights=files["b"], cache=cache)
    os.remove(files["b"])
    os.remove(files["a"])
    with pytest.warns(UserWarning, match=r"no such file; taken for those of store"):
        featcache.load("train", pipeline=stated["a"], cache=cache)
    if any(name == files["b"] for _, name, _ in WeightsMemo(cache).entries()):  # it was old enough to be remembered
        with pytest.raises(CacheError, match="is not here"):
            featcache.load("train", pipeline=stated["b"], cache=cache)


@pytest.mark.parametrize(("stands", "kind"), [(os.mkfifo, "a pipe"), (os.mkdir, "a folder"), (listen, "a socket")])
@pytest.mark.parametrize("name", ["other.pth", "nano.pth"])
def test_what_stands_in_the_place_of_weights_is_said(tmp_path, cache, monkeypatch, stands, kind, name):
    """Weights that are named by a path where a pipe, a socket or a folder stands are refused with what stands there,
    whatever its name is.
    """
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    monkeypatch.chdir(tmp_path)  # the name of a socket has a limit
    stands(name)
    with pytest.raises(CacheError, match=rf"\({tmp_path}/{name} is {kind}, expected a file\)"):
        featcache.fit_head(0.1, epochs=1, data=str(root), cache=cache, weights=str(tmp_path / name))


# --- folders --------------------------------------------------------------------------------------------------------


def other_root(cache: Path, root: Path) -> str:
    """What extract says of this folder: where the data set stood before it moved; an error where it is another."""
    known = StatLog(cache)
    stores = [FeatureStore.open(path.parent, known) for path in (cache / "stores").glob("*/trunk.json")]
    return refuse_another_root(stores, cache=cache, data_set="photos", root=str(root), known=known)


@pytest.mark.parametrize("same", [False, True])
def test_two_folders_of_one_name_are_two_data_sets(tmp_path, cache, same):
    """While the first folder is there, the second is none of its: extract refuses with both, so does all of stage
    two, even where the second holds the very same files.
    """
    first = photos(tmp_path / "v1" / "photos")
    second = photos(tmp_path / "v2" / "photos", "" if same else "another")
    record(cache, recipe_of(first))
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(first), cache=cache)
    with pytest.raises(CacheError, match="--name") as told:
        other_root(cache, second)
    assert str(first) in str(told.value)
    assert str(second) in str(told.value)
    for ask in STAGE_TWO.values():
        with pytest.raises(CacheError, match=str(second)):
            ask(data=str(second), cache=cache)


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "one more image": lambda root: (root / "train" / "a" / "9.png").write_bytes(b"new"),
    "one image edited": lambda root: (root / "train" / "a" / "1.png").write_bytes(b"edited"),
    "one image gone": lambda root: (root / "test" / "b" / "2.png").unlink(),
    "one image under another label": lambda root: (root / "val/a/0.png").rename(root / "val/b/7.png"),
    "two images swapped": lambda root: [
        (root / "train/a/0.png").write_bytes((root / "train/a/1.png").read_bytes()),
    ],
}


@pytest.mark.parametrize("how", ["renamed", "copied"])
@pytest.mark.parametrize("change", CHANGES)
def test_moved_is_what_agrees_in_every_row(tmp_path, cache, how, change):
    """A folder that is gone has moved where every row of every split has its file and its content."""
    first, second = photos(tmp_path / "v1" / "photos"), tmp_path / "v2" / "photos"
    record(cache, recipe_of(first))
    if how == "renamed":
        second.parent.mkdir()
        first.rename(second)
    else:
        shutil.copytree(first, second)
        shutil.rmtree(first)
    CHANGES[change](second)
    moved = change in ("nothing", "one more image")
    if moved:
        assert other_root(cache, second) == str(first)
    else:
        with pytest.raises(CacheError, match="does not hold all of its images as they were"):
            other_root(cache, second)
    touched = change in ("one image gone", "one image under another label") or moved  # none of the train split
    if touched:
        with pytest.warns(UserWarning, match="has moved to"):
            assert len(featcache.load("train", data=str(second), cache=cache).y) == 6
    else:
        with pytest.raises(CacheError, match="does not hold all of its images as they were") as told:
            featcache.load("train", data=str(second), cache=cache)
        assert f"{first} is gone: put its images there again, or run" in str(told.value)
        first.mkdir(parents=True)
        with pytest.raises(CacheError, match=f"Name {first} with --data, or run"):
            featcache.load("train", data=str(second), cache=cache)


def test_one_folder_by_several_paths(tmp_path, cache, monkeypatch):
    """A link, a relative path and a trailing dot lead to the same data set."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "photos").symlink_to(root)
    monkeypatch.chdir(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (tmp_path / "links" / "photos", ".", "../photos", f"{root}/train/.."):
            assert other_root(cache, Path(os.path.abspath(path))) == ""
            assert len(featcache.load("train", data=str(path), name="photos", cache=cache).y) == 6


def test_another_cut_of_the_name_is_held_too(tmp_path, cache):
    """Another variant of a data set, from another folder, is refused like the same one."""
    first, second = photos(tmp_path / "v1" / "photos"), photos(tmp_path / "v2" / "photos", "another")
    record(cache, check_recipe({"name": "photos", "data": {"root": str(first)}}, where="a test"))
    for split in ("val", "test"):
        shutil.rmtree(second / split)
    with pytest.raises(CacheError, match="--name"):
        other_root(cache, second)


def test_where_neither_folder_is_here_the_name_decides_and_that_is_said(tmp_path, cache):
    """A cache that was taken to another machine without its images is answered from, with a warning."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    shutil.rmtree(root)
    with pytest.warns(UserWarning, match="taken for one data set by its name"):
        featcache.load("train", data=str(tmp_path / "elsewhere" / "photos"), cache=cache)


def test_digests_of_another_folder_are_not_its_own(tmp_path, cache):
    """`featcache data` finds no duplicates of a folder in what another folder of its name was extracted with."""
    first, second = photos(tmp_path / "v1" / "photos"), photos(tmp_path / "v2" / "photos", "another")
    record(cache, recipe_of(first))
    assert featcache.describe(data=str(first), cache=cache).duplicates is not None
    assert featcache.describe(data=str(second), cache=cache).duplicates is None


# --- settings of the data -------------------------------------------------------------------------------------------


def table_of(root: Path, name: str, header: str = "path,label,fine,split") -> None:
    rows = [f"{split}/{c}/0.png,{c},{c}{split},{split}" for split in ("train", "val") for c in "ab"]
    (root / name).write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('layout = "table"\ntable = "other.csv"', "table = 'other.csv' where it had 'one.csv'"),
        ('layout = "table"\ntable = "one.csv"\nlabel_column = "fine"', "label_column = 'fine' where it had 'label'"),
        ("", "layout = 'folder' where it had 'table'"),
        ('layout = "table"\ntable = "one.csv"\nsplit_column = "split"', ""),  # what is meant without it
    ],
)
def test_data_settings_are_held(tmp_path, cache, data, said):
    """A listing that was laid out by other settings of the data is refused, whatever its name and root."""
    root = photos(tmp_path / "photos")
    table_of(root, "one.csv")
    table_of(root, "other.csv")
    layout = {"layout": "table", "table": "one.csv", "root": str(root)}
    record(cache, check_recipe({"name": "photos", "data": layout}, where="a test"))
    pipeline = write_recipe(tmp_path / "r.toml", root, data=data)
    if not said:
        assert len(featcache.load("train", pipeline=pipeline, cache=cache).y) == 2
        return
    with pytest.raises(CacheError, match=said):
        featcache.load("train", pipeline=pipeline, cache=cache)


def test_a_listing_of_an_earlier_version_stays_as_it_is(tmp_path, cache):
    """A listing without settings is read, holds against its root alone, and is not written anew for theirs."""
    root = photos(tmp_path / "photos")
    recipe = recipe_of(root)
    store = record(cache, recipe)
    settled = store.listing(("photos", "all", "train"))
    assert settled.listing.settings == {"layout": "folder"}
    bare = replace(settled, listing=replace(settled.listing, settings={}))
    with store.writer() as writer:
        writer.commit(bare)
    again = FeatureStore.open(store.root, StatLog(cache))
    assert as_recorded(again, settled).listing.settings == {}
    assert as_recorded(store, settled).listing.settings == settled.listing.settings
    assert len(featcache.load("train", data=str(root), cache=cache).y) == 6


# --- stores that cannot be opened -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["compare", "evaluate", "predict"])
def test_a_damaged_store_is_named_where_its_heads_are_missed(tmp_path, cache, function):
    """Where no head is there because its store cannot be opened, the message names that store and what is wrong."""
    root = photos(tmp_path / "photos")
    store = record(cache, recipe_of(root))
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(root), cache=cache)
    (store.root / "trunk.json").write_bytes((store.root / "trunk.json").read_bytes()[:-20])
    with pytest.raises(CacheError, match=r"no head of photos") as told:
        STAGE_TWO[function](data=str(root), cache=cache)
    assert f"A store that cannot be opened: {store.root}/trunk.json: damaged" in str(told.value)


def test_a_damaged_store_is_named_where_a_head_of_another_name_is_there(tmp_path, cache):
    """A head that is named and not there may be one of a store that cannot be opened: the message names it."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    other = record(cache, recipe_of(root), sha256="cd" * 32)
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(root), cache=cache, store=other.name)
    damaged = record(cache, recipe_of(root), sha256="ef" * 32)
    (damaged.root / "trunk.json").write_bytes(b"{")
    with pytest.raises(CacheError, match="no head is called 'mine'") as told:
        featcache.evaluate("mine", data=str(root), cache=cache)
    assert f"A store that cannot be opened: {damaged.root}/trunk.json" in str(told.value)
