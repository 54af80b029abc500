"""Several layers of a library's network: killed between two commits, and one that is added later."""

import os
import signal
import subprocess
import sys

import pytest
import torch

import featcache
from featcache import Settings
from tests.conftest import single_thread
from tests.extraction.runs import KILLED, counts

timm = pytest.importorskip("timm")
one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
TRUNKS = {"timm:test_vit": ("cls", "mean", "cls@-2"), "timm:test_resnet": ("pooled", "mean", "name:layer3")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict of each network."""
    folder = tmp_path_factory.mktemp("weights")
    for arch in TRUNKS:
        torch.manual_seed(3)
        path = folder / f"{arch.partition(':')[2]}.pth"
        torch.save(timm.create_model(arch.partition(":")[2]).state_dict(), path)
        os.utime(path, ns=(10**18, 10**18))  # an old file: its stat is trusted at once
    return folder


@pytest.fixture
def extract_layers(small, weights, tmp_path):
    """Extract layers of one split into a cache, and return a summary of each, by layer."""

    def call(arch, layers, cache="cache"):
        summaries = featcache.extract(
            "train", data=str(small), cache=tmp_path / cache, arch=arch, precision="fp32", layer=list(layers),
            weights=str(weights / f"{arch.partition(':')[2]}.pth"),
            settings=Settings(device="cpu", workers=1, batch_size=4),
        )  # fmt: skip
        return {summary.layer: summary for summary in summaries}

    return call


@pytest.mark.parametrize("arch", TRUNKS)
def test_a_layer_that_is_added_later_is_embedded_alone(extract_layers, load, small, tmp_path, arch):
    """Only the new layer's rows are computed, and each layer has the bytes that it has beside others."""
    first = TRUNKS[arch][:-1]
    assert {counts(summary) for summary in extract_layers(arch, first).values()} == {(14, 0, 0)}
    added = extract_layers(arch, TRUNKS[arch])
    assert [counts(added[layer]) for layer in TRUNKS[arch]] == [(0, 14, 0), (0, 14, 0), (14, 0, 0)]
    extract_layers(arch, TRUNKS[arch], "together")
    for layer in TRUNKS[arch]:
        expected = load(small, layer=layer, cache=tmp_path / "together")
        assert load(small, layer=layer).x.tobytes() == expected.x.tobytes()


@pytest.mark.parametrize("arch", TRUNKS)
def test_a_kill_between_two_layers_commits_costs_nothing(extract_layers, load, small, weights, tmp_path, arch):
    """SIGKILL when one layer's shard is committed and the other's is not; the next run embeds what each lacks."""
    layers = TRUNKS[arch][:2]
    file = weights / f"{arch.partition(':')[2]}.pth"
    words = [sys.executable, "-c", KILLED, small, tmp_path / "cache", arch, file, 1, "add", ",".join(layers)]
    assert subprocess.run(list(map(str, words)), check=False).returncode == -signal.SIGKILL
    summaries = extract_layers(arch, layers)
    assert [summary.embedded for summary in summaries.values()] == [6, 14]
    extract_layers(arch, layers, "undisturbed")
    for layer in layers:
        expected = load(small, layer=layer, cache=tmp_path / "undisturbed")
        assert load(small, layer=layer).x.tobytes() == expected.x.tobytes()
    assert featcache.verify(cache=tmp_path / "cache") == []
