"""A store that was written by docs/format.md alone is a store: every command works on it."""

import ast
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featcache
from tests import outside_writer
from tests.conftest import Nano, Ran

Run = Callable[..., Ran]


@pytest.fixture
def outside(run: Run, nano: Nano, folder: Path, tmp_path: Path) -> Path:
    """A cache with train and val of the folder, made from the embeddings of another one by the outside writer."""
    import torch

    assert run("extract", "--data", folder, *nano.flags, "--cache", tmp_path / "theirs").code == 0
    state = {name: value.numpy() for name, value in torch.load(nano.weights, weights_only=True).items()}
    tensors = {name: value for name, value in state.items() if not name.startswith("heads.")}
    spec = {
        "arch": "vit_nano_16", "weights_sha256": outside_writer.weights_sha256(tensors),
        "transform": {"resize": 72, "crop": 64, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    }  # fmt: skip
    cache = tmp_path / "outside"
    store = outside_writer.Store(cache, spec, nano.weights.name)
    for split in ("train", "val"):
        known = featcache.load(split, data=str(folder), cache=tmp_path / "theirs")
        rows = []
        for path, label in zip(known.paths, known.y.tolist(), strict=True):
            content = (folder / path).read_bytes()
            rows.append({"path": path.encode(), "label": label, "digest": hashlib.sha256(content).digest()})
        store.add([row["digest"] for row in rows], known.x)
        store.list(folder.name, split, str(folder), list(known.classes), rows)
    shutil.rmtree(tmp_path / "theirs")
    return cache


def test_the_outside_writer_knows_nothing_of_featcache():
    """It imports no module of ours."""
    tree = ast.parse(Path(outside_writer.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.startswith(("featcache", "tests"))]


@pytest.mark.slow
def test_every_command_works_on_a_store_of_an_outside_program(run: Run, nano: Nano, folder: Path, outside: Path):
    """Stage two, the upkeep, and extract, which embeds what is missing alone."""
    where = ("--cache", outside)
    data = ("--data", folder, *where)
    assert [store["rows"] for store in json.loads(run("info", *data, "--json").out)["stores"]] == [39]
    assert json.loads(run("verify", *where, "--json").out)["problems"] == []
    before = featcache.load("train", data=str(folder), cache=outside)
    assert before.x.shape == (28, 64)

    every = json.loads(run("extract", *data, *nano.flags, "--json").out)
    assert [(part["split"], part["embedded"], part["reused"]) for part in every] == [
        ("train", 0, 28), ("val", 0, 11), ("test", 12, 0),
    ]  # fmt: skip
    assert len(list((outside / "stores").iterdir())) == 1
    np.testing.assert_array_equal(featcache.load("train", data=str(folder), cache=outside).x, before.x)

    for command in (
        ("fit-head", *data, "--lr", 0.1, "--epochs", 5, "--no-check"), ("gc", *where), ("report", *data),
        ("compare", *data), ("export", "train", "--to", outside.parent / "train.npz", *data), ("verify", *where),
    ):  # fmt: skip
        ran = run(*command)
        assert ran.code == 0, (command, ran.err)
    assert (outside.parent / "train.npz").exists()
