"""Heads on disk: read back as they were, refused when they are not."""

import dataclasses
import hashlib
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.linear import Scores
from featcache.heads.saved import linear as saved
from featcache.heads.saved.linear import SavedHead
from featcache.store.store import FeatureStore
from tests.builders import ODD_CLASSES, new_store, one_row, random_head


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return new_store(tmp_path)


@pytest.fixture
def kept(store: FeatureStore) -> SavedHead:
    return saved.save_head(store, random_head(val=Scores(1.0, 1.0, 0.0)), one_row(), one_row("val"))


@settings(max_examples=25)
@given(seed=st.integers(0, 99), scores=st.none() | st.builds(Scores, *[st.floats(width=32)] * 3))
def test_a_head_comes_back_as_it_was_saved(tmp_path_factory, seed, scores):
    """Weights bit for bit, settings, scores (nan for what is not finite), class names of any bytes, sources."""
    made = saved.save_head(
        new_store(tmp_path_factory.getbasetemp() / "heads"), random_head(seed, scores, lr=0.01), one_row(), None
    )
    found = saved.load_head(made.folder)
    assert (found.name, found.classes, found.folder) == (made.name, ODD_CLASSES, made.folder)
    assert found.head.weight.tobytes() == made.head.weight.tobytes()
    assert found.head.bias.tobytes() == made.head.bias.tobytes()
    assert (found.head.config, found.head.steps, found.head.train) == (made.head.config, 7, made.head.train)
    assert found.sources == made.sources
    if scores is None:
        assert found.head.val is None
    else:
        for name, value in dataclasses.asdict(scores).items():
            back = getattr(found.head.val, name)
            assert back == value if math.isfinite(value) else math.isnan(back)


def test_the_name_says_the_settings_and_stands_for_everything_that_made_it(store):
    """Other settings, another trunk, other listings: another folder; the same again: the same one."""
    names = {
        saved.save_head(store, random_head(**config), one_row(**source), val).name
        for config, source, val in [
            ({}, {}, None),
            ({}, {}, None),
            ({"lr": 0.01}, {}, None),
            ({"epochs": 5}, {}, None),
            ({}, {"trunk": "ef"}, None),
            ({}, {"listing": "ef"}, None),
            ({}, {}, one_row("val")),
        ]
    }
    assert len(names) == 6
    assert sum(name.startswith("lr0.003-") for name in names) == 5
    assert all(name.replace(".", "").replace("-", "").isalnum() for name in names)


def test_a_folder_without_its_last_file_is_no_head(kept):
    """head.json is published last: a kill before it leaves nothing that counts."""
    (kept.folder / "head.json").unlink()
    with pytest.raises(CacheError, match="no head here"):
        saved.load_head(kept.folder)
    with pytest.raises(CacheError, match="no head here"):
        saved.load_head(kept.folder / "none")


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
def test_a_flipped_byte_is_refused(kept, name):
    """No byte of a head changes without an error that says to train it again, or a blank that says the same."""
    path = kept.folder / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CacheError, match="train the head again"):
            saved.load_head(kept.folder)
    for cut in (0, 1, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(CacheError, match="train the head again"):
            saved.load_head(kept.folder)


def rewrite(kept: SavedHead, tensors: bytes | None = None, **changes: object) -> None:
    """The same head with other content, its checksums put right: what a stranger could hand over."""
    document = unseal_document((kept.folder / "head.json").read_bytes())
    document.update(changes)
    document = {key: value for key, value in document.items() if value != "gone"}
    if tensors is not None:
        (kept.folder / "head.safetensors").write_bytes(tensors)
        document["sha256"] = hashlib.sha256(tensors).hexdigest()
    (kept.folder / "head.json").write_bytes(seal_document(document))


KEYS = ("name", "config", "classes", "steps", "train", "val", "sources", "sha256", "format")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["gone", 3, ["x"]])
def test_a_sealed_document_of_another_make_is_refused(kept, key, value):
    """A key that is missing or of another type is an error of the cache, never a crash."""
    if (key, value) == ("steps", 3):
        return
    rewrite(kept, **{key: value})
    with pytest.raises(CacheError):
        saved.load_head(kept.folder)


@pytest.mark.parametrize("changes", [{"steps": 1e999}, {"classes": [1, 2, 3]}, {"sources": {"train": {}}}])
def test_values_that_nothing_here_writes_are_refused(kept, changes):
    """Infinity as a count, classes that are no names, a head that does not say for which trunk: no crash later on."""
    rewrite(kept, **changes)
    with pytest.raises(CacheError, match="this head cannot be read by this version"):
        saved.load_head(kept.folder)


def test_a_newer_format_and_an_unknown_setting_are_refused(kept):
    """What a later version wrote is not read as if it were understood."""
    rewrite(kept, format=2)
    with pytest.raises(CacheError, match="format 2"):
        saved.load_head(kept.folder)
    rewrite(kept, format=1, config={"lr": 0.1, "depth": 5})
    with pytest.raises(CacheError, match="depth"):
        saved.load_head(kept.folder)


def test_a_head_of_the_time_when_exact_was_its_setting_is_read(kept):
    """A head.json with `exact`, which is no setting of a head today, gives the head with all its other settings."""
    config = unseal_document((kept.folder / "head.json").read_bytes())["config"]
    rewrite(kept, config={**config, "exact": True})
    assert saved.load_head(kept.folder).head.config == kept.head.config


class Canary:
    def __reduce__(self):
        return (Path("/tmp/canary-of-featcache").touch, ())


W, B = np.ones((3, 4), np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        b"",
        b"\xff" * 64,
        pickle.dumps(Canary()),
        save_tensors({"weight": W}),
        save_tensors({"weight": W, "bias": B[:2]}),
        save_tensors({"weight": W[0], "bias": B}),
        save_tensors({"weight": W[:2], "bias": B[:2]}),
        save_tensors({"weight": W.astype(np.int64), "bias": B.astype(np.int64)}),
        save_tensors({"weight": W.astype(np.float64), "bias": B.astype(np.float64)}),
    ],
    ids=["empty", "garbage", "pickle", "no bias", "short bias", "flat", "two classes", "integers", "doubles"],
)
def test_tensors_of_another_make_are_refused_and_nothing_is_executed(kept, tensors):
    """Pickle, garbage, other shapes and dtypes, with checksums put right: an error, and the canary lives."""
    canary = Path("/tmp/canary-of-featcache")
    canary.unlink(missing_ok=True)
    rewrite(kept, tensors)
    with pytest.raises(CacheError):
        saved.load_head(kept.folder)
    assert not canary.exists()


def test_head_json_is_strict_json(store):
    """A diverged head's scores are null: nan and inf are no JSON."""
    made = saved.save_head(store, random_head(val=Scores(0.0, math.nan, math.inf)), one_row(), None)

    def refuse(word: str) -> None:
        raise ValueError(word)

    document = json.loads((made.folder / "head.json").read_bytes(), parse_constant=refuse)
    assert document["val"] == {"accuracy": 0.0, "macro_recall": None, "loss": None}
