"""What a recipe or a flag says of the trunk is held against the stores that there are."""

import os
import socket
from pathlib import Path

import pytest
import torch

import featcache
from featcache import CacheError
from featcache.trunks import weights as trunk_weights
from featcache.trunks.architectures import architecture
from featcache.trunks.weights_memo import WeightsMemo
from tests.dataset.conftest import STAGE_TWO, photos, recipe_of, record, write_recipe
from tests.trunks.saving import load_tensors

NANO = architecture("vit_nano_16")


def listen(path: str) -> None:
    """A socket that stands at a path."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


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
    sha256 = trunk_weights.hash_tensors(load_tensors(NANO, files["a"]))
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
