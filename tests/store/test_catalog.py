"""Which store of a cache a question is about."""

from pathlib import Path

import numpy as np
import pytest

from featcache.errors import CacheError
from featcache.files.stat_log import StatLog
from featcache.store.catalog import cache_folder, choose_store
from featcache.store.request import StoreRequest
from featcache.store.store import FeatureStore
from tests.builders import extracted, listing, new_store

KEY = ("digits", "all", "train")


def a_store(
    cache: Path, weights: str, asked: str, split: str | None = "train", compute: str = "float32"
) -> FeatureStore:
    """A store with one image, recorded as `split`; None: with rows, but no listing."""
    store = new_store(cache, asked=asked, weights_sha256=weights * 32, compute=compute)
    with store.writer() as writer:
        writer.append(np.zeros((1, 32), np.uint8), np.ones((1, 4), np.float32))
        writer.flush()
        if split is not None:
            row = listing([0], split=split, data_set="digits", root="/data")
            writer.commit(extracted(row, np.zeros((1, 32), np.uint8)))
    return store


def chosen(cache: Path, store: str | None = None, **typed: str) -> str:
    return choose_store(cache, StatLog(cache), KEY, StoreRequest(store=store, typed=typed)).name


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two stores that hold digits/train, made by the same weights at two precisions, and two that do not."""
    a_store(tmp_path, "ab", "nano.pth")
    a_store(tmp_path, "ab", "nano.pth", compute="bfloat16")
    a_store(tmp_path, "cd", "other.pth", split="val")
    a_store(tmp_path, "ef", "third.pth", split=None)
    return tmp_path


def test_the_cache_that_is_meant(tmp_path, monkeypatch):
    """As typed; else FEATCACHE_CACHE; else ./cache; absolute in any case."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCACHE_CACHE", raising=False)
    assert cache_folder(None) == tmp_path / "cache"
    monkeypatch.setenv("FEATCACHE_CACHE", "elsewhere")
    assert cache_folder(None) == tmp_path / "elsewhere"
    assert cache_folder("typed") == cache_folder(Path("typed")) == tmp_path / "typed"


def test_the_one_store_that_holds_the_listing_is_taken(tmp_path):
    """Stores without this split are not in the way."""
    a_store(tmp_path, "cd", "other.pth", split="val")
    only = a_store(tmp_path, "ab", "nano.pth")
    assert chosen(tmp_path) == only.name


def test_several_are_an_error_that_names_them(cache):
    """Exit class 3, with both names and the flags that tell them apart; never a silent choice."""
    with pytest.raises(CacheError) as told:
        chosen(cache)
    names = [path.name for path in (cache / "stores").glob("vit_nano_16-nano.pth-*")]
    assert len(names) == 2
    assert all(name in str(told.value) for name in names)
    assert "--store" in str(told.value)
    assert "other.pth" not in str(told.value)


def test_filters_choose(cache):
    """By precision, by a store's name, by the start of its fingerprint; each picks exactly the store that it says."""
    fp32, bf16 = chosen(cache, precision="fp32"), chosen(cache, precision="bf16")
    assert fp32 != bf16
    assert chosen(cache, store=fp32) == fp32
    assert chosen(cache, store=bf16.rsplit("-", 1)[1]) == bf16
    assert chosen(cache, store=bf16.rsplit("-", 1)[1], weights="nano.pth", precision="bf16") == bf16
    with pytest.warns(UserWarning, match=r"no such file; taken for those of store .* by their name alone"):
        assert chosen(cache, weights="/somewhere/else/nano.pth", precision="fp32") == fp32


def test_filters_that_nothing_passes_say_what_there_is(cache):
    """The stores that hold the split are named beside what was asked for."""
    said = r"--weights other.pth was typed; store vit_nano_16-nano.pth-\S+ has weights nano.pth"
    with pytest.raises(CacheError, match=said):
        chosen(cache, weights="other.pth")


def test_nothing_extracted_says_what_to_run(tmp_path):
    """An empty cache, or none at all: the command that is missing."""
    for cache in (tmp_path, tmp_path / "none"):
        with pytest.raises(CacheError, match="featcache extract --split train"):
            chosen(cache)
