"""The network `cnn`: its shape follows from its settings, and it is a trunk like any other."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import MachineError, UsageError
from featcache.recipe import CnnSection, CnnSettings, TrunkSection, declared_settings
from featcache.trunks import WeightsMemo, find_weights, load_trunk, name_trunk
from featcache.trunks.libraries.convolutional import (
    build_cnn,
    count_cnn_parameters,
    count_filters,
    filter_edges,
)

SMALL = {"filters": 4, "dense": 8, "activation": "gelu", "dropout": 0.5}
sizes = st.one_of(
    st.sampled_from(["1", "3", "11"]), st.lists(st.sampled_from("13579"), min_size=5, max_size=5).map(",".join)
)
shapes = st.builds(
    CnnSection,
    filters=st.integers(1, 64),
    progression=st.sampled_from(declared_settings(CnnSettings)["progression"].choices),
    filter_size=sizes,
    batch_norm=st.booleans(),
    dense=st.integers(1, 300),
)


def source(tmp_path, **section):
    """Return the trunk that a recipe names, with its memory in a folder."""
    return name_trunk(TrunkSection(**{"arch": "cnn", "image_size": 32, **section}), WeightsMemo(tmp_path / "cache"))


@settings(max_examples=30)
@given(shapes, st.integers(32, 300), st.integers(1, 40))
def test_the_parameters_are_those_of_the_formula(shape, edge, classes):
    """The formula counts what torch counts, for every choice of the settings, with and without a classifier."""
    with torch.device("meta"):
        network = build_cnn(shape, edge)
        classifier = torch.nn.Linear(shape.dense, classes)
    own = sum(value.numel() for value in network.parameters())
    assert count_cnn_parameters(shape, edge) == own
    assert count_cnn_parameters(shape, edge, classes) == own + sum(value.numel() for value in classifier.parameters())


@pytest.mark.parametrize(
    ("first", "progression", "filters"),
    [
        (16, "doubling", (16, 32, 64, 128, 256)),
        (64, "halving", (64, 32, 16, 8, 4)),
        (32, "constant", (32, 32, 32, 32, 32)),
        (2, "halving", (2, 1, 1, 1, 1)),
    ],
)
def test_filters_double_halve_or_stay(first, progression, filters):
    """From the first block on the number of filters doubles, halves (never below one) or stays as it is."""
    assert count_filters(CnnSection(filters=first, progression=progression)) == filters


def test_one_filter_size_is_that_of_all_blocks():
    """One number stands for five, written as a number or as text; five are those of the blocks in order."""
    assert filter_edges(CnnSection(filter_size=5)) == filter_edges(CnnSection(filter_size="5")) == (5,) * 5
    assert filter_edges(CnnSection(filter_size="7,5,5,3,3")) == (7, 5, 5, 3, 3)


@pytest.mark.parametrize("activation", declared_settings(CnnSettings)["activation"].choices)
def test_every_activation_is_one_of_torchs(activation):
    """A network is built with each activation that a recipe can name, and gives numbers."""
    network = build_cnn(CnnSection(filters=2, dense=4, activation=activation), 32)
    assert network(torch.rand(2, 3, 32, 32)).isfinite().all()
    assert type(network.dense[2]).__name__.lower() == activation.replace("_", "")


def test_it_is_a_trunk_with_weights_from_a_file(tmp_path):
    """Weights that were trained are loaded, and its embeddings are what its dense layer gives in evaluation mode."""
    torch.manual_seed(1)
    network = build_cnn(CnnSection(**SMALL), 32).eval()
    torch.save(network.state_dict(), tmp_path / "cnn.pth")
    named = source(tmp_path, weights=str(tmp_path / "cnn.pth"), cnn=SMALL)
    (spec,) = named.specs("float32")
    assert (spec.arch, spec.layer, named.width) == ("cnn", "pooled", 8)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    rows = load_trunk(named, spec, device="cpu").embed(pixels.numpy())
    with torch.no_grad():
        expected = network((pixels / 255 - 0.5) / 0.5)
    torch.testing.assert_close(torch.from_numpy(rows), expected, rtol=1e-5, atol=1e-6)


def test_its_settings_are_part_of_its_identity(tmp_path):
    """Two networks whose tensors are equal and whose activation is not have stores of their own."""
    first, second = (source(tmp_path, weights="random", cnn=shape) for shape in (SMALL, SMALL | {"activation": "relu"}))
    assert first.sha256 == second.sha256
    assert first.spec("float32").fingerprint() != second.spec("float32").fingerprint()


def test_the_settings_at_their_defaults_leave_no_trace(tmp_path):
    """A default that is stated is the same network as one that is left out, to the store and to another process."""
    plain, stated = source(tmp_path, weights="random"), source(tmp_path, weights="random", cnn={"filters": 32})
    assert plain.spec("float32") == stated.spec("float32")
    assert "cnn" not in plain.portable_settings()
    assert TrunkSection(**json.loads(json.dumps(source(tmp_path, cnn=SMALL).portable_settings()))).cnn.filters == 4


def test_a_cache_finds_its_weights_again(tmp_path):
    """The memory of weights has the settings too: of a spec alone, the network is named as it was."""
    named = source(tmp_path, weights="random", cnn=SMALL)
    spec = named.spec("float32")
    again = find_weights(spec, "random", WeightsMemo(tmp_path / "cache"), None)
    assert again is not None
    assert again.section.cnn == CnnSection(**SMALL)


def test_weights_of_another_shape_are_refused(tmp_path):
    """A file of other filters is no file of this network; the message says where the shape is stated."""
    torch.save(build_cnn(CnnSection(filters=8), 32).state_dict(), tmp_path / "cnn.pth")
    with pytest.raises(MachineError, match=r"cnn with the settings of \[trunk.cnn\]"):
        source(tmp_path, weights=str(tmp_path / "cnn.pth")).spec("float32")


def test_it_has_no_published_weights(tmp_path):
    """Without weights it is refused with the way out: a file, or random ones."""
    with pytest.raises(UsageError, match="--weights FILE, or type --weights random"):
        source(tmp_path).spec("float32")


def test_an_image_that_five_poolings_leave_nothing_of_is_refused(tmp_path):
    """Under 32 pixels nothing is left for the dense layer."""
    with pytest.raises(UsageError, match="--image-size 31: cnn halves its input 5 times; expected at least 32 pixels"):
        source(tmp_path, weights="random", image_size=31).spec("float32")


def test_its_maps_are_layers_too(tmp_path):
    """The last map's mean and places can be kept, as those of any convolutional network."""
    named = source(tmp_path, weights="random", image_size=96, layer=("pooled", "mean", "tokens"), cnn=SMALL)
    assert [named.layer_width(layer) for layer in named.layers] == [8, 64, 9 * 64]
