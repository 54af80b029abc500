"""Features of every layer are those that a library's own plain loop gave: tests/golden/make_networks.py."""

import numpy as np
import pytest
from safetensors.torch import save_file

from featcache.trunks.libraries.registry import library_of
from tests.golden.features import embed, real_weights
from tests.golden.networks import GOLDEN, LITE0, NETWORKS, pictures, set_weights, sketch

SOME = slice(None, None, 3)  # of the twelve pictures


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def marked(network):
    """The network as a parameter; two of the slowest, of families that others stand for, are for `make slow-test`."""
    is_slow = network.arch in ("inception_v3", "timm:swin_tiny_patch4_window7_224")
    return pytest.param(network, marks=pytest.mark.slow if is_slow else (), id=network.arch)


@pytest.mark.parametrize("network", [marked(network) for network in NETWORKS if not network.is_large])
def test_every_layer_equals_the_librarys_own_loop(network, golden, tmp_path):
    """In float32 no layer of one forward differs from the library's own by more than 1e-5 of its length."""
    file = tmp_path / "weights.safetensors"
    if network.arch == LITE0:
        tensors = real_weights()
    else:
        library, name = library_of(network.arch)
        module = library.load(name, "random", network.image_size).module
        set_weights(module, "visual." if network.arch.startswith("open_clip:") else "")
        tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, file)

    layers = embed(network, file, pictures()[SOME])

    assert set(layers) == set(network.layers)
    for layer, rows in layers.items():
        expected = golden[f"{network.arch}/{layer}"][SOME]
        assert np.abs(sketch(rows) - expected).max() <= 1e-5 * expected[:, -1].min(), layer
