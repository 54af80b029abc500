"""Saved heads have the bits that they have alone, without any flag, and `exact` keeps them off other devices."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import featcache
from featcache.errors import UsageError
from featcache.heads.training_device import choose_training_device
from tests.builders import cluster_rows, record
from tests.heads.conftest import share_every_step

RATES = [float(rate) for rate in np.geomspace(0.003, 3, 20)]
OPTIONS = {"data": "/data/toy", "check_seconds": None, "device": "cpu", "epochs": 12, "batch_size": 128}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A cache of 400 rows in three classes, whose steps are shared by all threads however small they are."""
    path = tmp_path_factory.mktemp("exact")
    record(path, {"train": cluster_rows(1, 400), "val": cluster_rows(2, 100)})
    with pytest.MonkeyPatch.context() as patch:
        share_every_step(patch)
        yield path


def files(lr, weight_decay, threads, store):
    """Return the bytes of each saved head, by its rate and weight decay."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        heads = featcache.fit_head(lr, cache=store, weight_decay=weight_decay, **OPTIONS).heads
    finally:
        torch.set_num_threads(before)
    return {
        (saved.head.config.lr, saved.head.config.weight_decay): tuple(
            (saved.folder / name).read_bytes() for name in ("head.safetensors", "history.csv", "head.json")
        )
        for saved in heads
    }


@cache
def alone(lr, weight_decay, store):
    """Return the files of one head, trained by one thread."""
    return files(lr, weight_decay, 1, store)[lr, weight_decay]


@settings(max_examples=8, deadline=None)
@given(
    rates=st.lists(st.sampled_from(RATES), min_size=1, max_size=20, unique=True),
    decays=st.sampled_from([(0.01,), (0.0, 0.01)]),
    threads=st.sampled_from([1, 2, 4]),
)
@example(rates=RATES, decays=(0.0, 0.01), threads=4)
def test_fit_head_saves_the_bytes_of_each_head_alone(store, rates, decays, threads):
    """The files of each of 1 to 40 heads, at rates to 3 and by 1, 2 or 4 threads, are those of the head alone."""
    for (lr, weight_decay), saved in files(rates, decays, threads, store).items():
        assert saved == alone(lr, weight_decay, store)


def test_exact_is_no_setting_of_a_head(store, tmp_path):
    """A recipe of an earlier version with `exact` is read; its head has the name and the bytes of any other."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text('name = "toy"\n[data]\nroot = "/data/toy"\n[head]\nexact = true\n')
    plain, stated, typed = (
        featcache.fit_head(0.1, cache=store, **OPTIONS, **more)
        for more in ({}, {"pipeline": str(recipe)}, {"exact": True})
    )
    assert plain.best.name == stated.best.name == typed.best.name
    assert "exact" not in json.loads((typed.best.folder / "head.json").read_text())["config"]


def test_exact_takes_the_cpu_where_there_is_a_gpu(monkeypatch):
    """With `exact`, --device auto is the CPU though a GPU is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_training_device("auto", exact=True) == "cpu"


def test_exact_is_refused_elsewhere_than_on_the_cpu():
    """No other device keeps it, and the message says what to do."""
    with pytest.raises(UsageError, match=r"found --device cuda:1, expected cpu\. Take --device cpu, or"):
        choose_training_device("cuda:1", exact=True)
