"""Several layers side by side, joined by the images' digests when they are loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featcache
from featcache import CacheError, UsageError
from featcache.store.catalog import find_stores
from featcache.store.shard import gather_rows
from tests.builders import StatLog, record_layer

WIDTHS = {"cls": 6, "mean": 4, "pooled": 1, "cls@-2": 9}


def load(cache: Path, features: str, split: str = "train", **options) -> featcache.Features:
    return featcache.load(split, data="/data/toy", cache=cache, features=features, **options)


@pytest.fixture(scope="module")
def layers(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A cache with four layers of one trunk, and x of their train split."""
    cache = tmp_path_factory.mktemp("layers")
    return cache, {layer: record_layer(cache, layer, width)["train"] for layer, width in WIDTHS.items()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from(sorted(WIDTHS)), min_size=1, unique=True))
def test_the_matrix_is_numpys_concatenation_in_the_order_that_is_typed(layers, order):
    """Of any layers in any order, every bit is that of numpy.concatenate, and the labels are those of one layer."""
    cache, x = layers
    features = load(cache, "+".join(order))
    assert features.x.tobytes() == np.concatenate([x[layer] for layer in order], axis=1).tobytes()
    assert features.x.flags.c_contiguous
    assert features.y.tolist() == [row % 3 for row in range(30)]
    assert features.widths == (() if len(order) == 1 else tuple(WIDTHS[layer] for layer in order))


def test_each_store_is_read_once_into_one_array(layers, monkeypatch):
    """A load allocates the wide matrix once, and gathers each shard of each store once."""
    cache, _ = layers
    read, into = [], set()

    def watched(folder, part, rows, out, to):
        read.append((folder.parent.name, part.name))
        into.add(id(out.base) if out.base is not None else id(out))
        gather_rows(folder, part, rows, out, to)

    monkeypatch.setattr("featcache.store.shard.gather_rows", watched)
    features = load(cache, "cls+mean")
    assert len(read) == len(set(read)) == 2 * 5
    assert into == {id(features.x)}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), batch=st.integers(1, 12), window=st.sampled_from([1, 400, 10**6]))
def test_streamed_rows_are_the_rows_in_memory(layers, seed, batch, window):
    """From disk, a window at a time, every row comes once an epoch, with the bits that it has in memory."""
    cache, x = layers
    wide = np.concatenate([x["mean"], x["cls@-2"]], axis=1)
    stream = featcache.stream("train", data="/data/toy", cache=cache, features="mean+cls@-2", window_bytes=window)
    rows = []
    for window_x, drawn, of_window in stream.epoch(batch, np.random.default_rng(seed)):
        assert window_x[drawn].tobytes() == wide[of_window].tobytes()
        rows += of_window.tolist()
    assert sorted(rows) == list(range(30))
    for block, of_block in stream.blocks():
        assert block.tobytes() == wide[of_block].tobytes()


def test_an_image_that_one_trunk_refused_is_left_out_of_all_and_counted(tmp_path):
    """Its store knows it and why it has no embedding; the other rows stay in place."""
    wide = record_layer(tmp_path, "cls", 6), record_layer(tmp_path, "mean", 4, refused=(3, 8))
    features = load(tmp_path, "cls+mean")
    kept = [row for row in range(30) if row not in (3, 8)]
    assert features.x.tobytes() == np.concatenate([x["train"][kept] for x in wide], axis=1).tobytes()
    assert (features.failed, features.paths[3]) == (2, "train/4.png")
    assert load(tmp_path, "mean+cls").failed == 2


@pytest.mark.parametrize("features", ["cls+mean", "mean+cls"])
def test_rows_that_a_store_was_never_shown_are_named(tmp_path, features):
    """How many, which, in which store, and the extract to paste, whichever of the two comes first."""
    record_layer(tmp_path, "cls", 6)
    record_layer(tmp_path, "mean", 4, absent=range(20, 26))
    with pytest.raises(CacheError) as refused:
        load(tmp_path, features)
    message = str(refused.value)
    assert "nano.pth-mean-" in message.split(" lacks ")[0]
    assert "lacks 6 images of split 'train' of toy" in message
    assert "train/20.png, train/21.png, train/22.png, …" in message
    first, second = features.split("+")
    assert (
        f"`featcache extract --split train --arch vit_nano_16 --weights nano.pth --precision fp32 --layer {first} "
        f"--layer {second}`: what is there is not embedded again"
    ) in message


def test_a_split_that_one_store_lacks_is_one_sentence(tmp_path):
    """Val of one layer alone is neither dropped nor taken alone: the error has the extract that adds it."""
    record_layer(tmp_path, "cls", 6)
    record_layer(tmp_path, "mean", 4, splits=("train",))
    assert load(tmp_path, "cls+mean").x.shape == (30, 10)
    with pytest.raises(CacheError, match=r"split 'val' of toy is in .*cls-.* and not in .*mean-") as refused:
        featcache.fit_head([0.1], data="/data/toy", cache=tmp_path, features="cls+mean")
    assert "`featcache extract --split val --arch vit_nano_16" in str(refused.value)


@pytest.mark.parametrize(
    ("features", "kind", "said"),
    [
        ("cls+cls", UsageError, "cls stands there twice; name each part once"),
        ("cls+vit_nano_16/cls", UsageError, "cls and vit_nano_16/cls are the same store"),
        ("cls+", UsageError, "a layer is missing, expected layers such as cls, mean"),
        ("cls+maen", UsageError, "found 'maen', expected layers such as cls, mean"),
        ("/cls", UsageError, "expected layers such as cls, mean"),
        ("cls+grid2", CacheError, "has layer grid2 of vit_nano_16; there is cls, cls@-2, mean, pooled; run `featcache"),
        (
            "cls+resnet34/pooled",
            CacheError,
            "is of trunk resnet34, of --features resnet34/pooled; there is vit_nano_16",
        ),
    ],
)
def test_what_is_no_set_of_features_is_refused_in_one_sentence(layers, features, kind, said):
    """A part twice, a part that is none, a layer or a trunk that no store has: what was found and the way out."""
    with pytest.raises(kind) as refused:
        load(layers[0], features)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_layer_has_the_extract_that_adds_it(layers):
    """The command names the trunk, its weights and the layer, and the data set."""
    with pytest.raises(CacheError) as refused:
        load(layers[0], "cls+grid2")
    command = str(refused.value).split("`")[1]
    assert command.startswith("featcache extract --arch vit_nano_16 --weights nano.pth --precision fp32 --layer grid2 ")
    assert "/data/toy" in command


def test_layers_are_of_one_trunk_unless_a_trunk_is_named(tmp_path):
    """Of two trunks that have a layer, the one with all layers is meant; where both have all, both are named."""
    cls, mean = record_layer(tmp_path, "cls", 6)["train"], record_layer(tmp_path, "mean", 4)["train"]
    record_layer(tmp_path, "cls", 5, weights_sha256="cd" * 32, asked="other.pth")
    assert load(tmp_path, "cls+mean").x.tobytes() == np.concatenate([cls, mean], axis=1).tobytes()
    with pytest.raises(CacheError) as refused:
        load(tmp_path, "vit_nano_16/cls+mean")
    stores = sorted(store.name for store in find_stores(tmp_path, StatLog(tmp_path)) if "-cls-" in store.name)
    assert f"2 stores hold vit_nano_16/cls of --features for toy/all: {stores[0]} and {stores[1]}" in str(refused.value)
    for store, width in zip(stores, (6, 5), strict=True):
        assert load(tmp_path, f"mean+{store}/cls").widths == (4, width)
    record_layer(tmp_path, "mean", 4, weights_sha256="cd" * 32, asked="other.pth")
    with pytest.raises(CacheError, match="2 stores hold cls of --features"):
        load(tmp_path, "cls+mean")
    assert load(tmp_path, "cls+mean", weights="other.pth").widths == (5, 4)


def test_a_name_with_slashes_ends_at_the_last_one(tmp_path):
    """A hub's name has a slash of its own: what stands behind the last one is the layer."""
    arch = "hf:google/vit-base"
    x = record_layer(tmp_path, "cls", 6)["train"], record_layer(tmp_path, "mean", 4, arch=arch)["train"]
    features = load(tmp_path, f"vit_nano_16/cls+{arch}/mean")
    assert features.x.tobytes() == np.concatenate(x, axis=1).tobytes()
    assert features.source["features"] == f"vit_nano_16/cls+{arch}/mean"


@pytest.mark.parametrize(("option", "value"), [("layer", "cls"), ("store", "vit_nano_16")])
def test_a_layer_or_a_store_beside_features_is_refused(layers, option, value):
    """Features name their layers themselves; nothing that is typed is left without effect."""
    with pytest.raises(UsageError, match=f"--{option} {value} and --features were both given; leave one out"):
        load(layers[0], "cls+mean", **{option: value})


def test_weights_that_no_part_has_are_refused(layers):
    """Where each part names its trunk, a trunk that is typed beside them must be one of these."""
    assert load(layers[0], "vit_nano_16/cls+vit_nano_16/mean", arch="vit_nano_16").widths == (6, 4)
    with pytest.raises(UsageError, match="--arch resnet50 has no effect: each part of --features names its trunk"):
        load(layers[0], "vit_nano_16/cls+vit_nano_16/mean", arch="resnet50")


def test_a_recipe_may_state_the_features_and_what_is_typed_replaces_them(layers, tmp_path, monkeypatch):
    """`features` at the top of a recipe is what is loaded; --features or --layer on the command line wins."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text('name = "toy"\nfeatures = "mean+cls"\n[data]\nroot = "/data/toy"\n')
    options = {"pipeline": str(recipe), "cache": layers[0]}
    assert featcache.load("train", **options).widths == (4, 6)
    assert featcache.load("train", features="cls+pooled", **options).widths == (6, 1)
    assert featcache.load("train", layer="pooled", **options).x.shape == (30, 1)


def test_an_export_says_what_its_columns_are(layers, tmp_path):
    """`export --features` writes the wide matrix, with the parts and their widths beside it."""
    featcache.export("train", tmp_path / "x.npz", data="/data/toy", cache=layers[0], features="cls+mean")
    with np.load(tmp_path / "x.npz") as file:
        about = json.loads(str(file["about"]))
        assert file["embeddings"].shape == (30, 10)
    assert (about["features"], about["widths"]) == ("cls+mean", "6+4")
