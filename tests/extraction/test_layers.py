"""Several layers from one forward: each is a store of its own, written in lockstep."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import CacheError, Settings, Summary, UsageError
from featcache.extraction import Progress
from tests.conftest import ARCH, single_thread
from tests.extraction.runs import KILLED, counts, draw

Extract = Callable[..., Summary]
LAYERS = ["cls", "mean", "grid2", "mean@-2"]

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def extract_layers(nano, tmp_path):
    """Extract layers of one split into a cache, and return a summary of each, by layer."""

    def call(root: Path, layers: list[str], cache: str = "cache", progress=lambda _: None, **running):
        settings = Settings(**{"device": "cpu", "workers": 1, "batch_size": 4, **running})
        summaries = featcache.extract(
            "train", data=str(root), cache=tmp_path / cache, arch=ARCH, weights=str(nano.weights), precision="fp32",
            layer=layers, settings=settings, progress=progress,
        )  # fmt: skip
        return {summary.layer: summary for summary in summaries}

    return call


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_each_layer_is_the_store_that_it_is_alone(small, extract_layers, load, tmp_path):
    """Of several layers at once every store has, byte for byte, the rows that a run for its layer alone gives."""
    summaries = extract_layers(small, LAYERS)
    assert list(summaries) == LAYERS
    assert {counts(summary) for summary in summaries.values()} == {(14, 0, 0)}
    assert len({summary.store for summary in summaries.values()}) == len(LAYERS)
    for layer in LAYERS:
        extract_layers(small, [layer], "alone")
        alone, together = (load(small, layer=layer, cache=tmp_path / cache) for cache in ("alone", "cache"))
        assert together.x.tobytes() == alone.x.tobytes()
        assert together.source["listing"] == alone.source["listing"]
    assert load(small, layer="grid2").x.shape == (14, 4 * 64)
    np.testing.assert_allclose(
        load(small, layer="grid2").x.reshape(14, 4, 64).mean(axis=1), load(small, layer="mean").x, rtol=1e-2, atol=1e-3
    )


def test_a_layer_that_is_complete_is_not_written_again(small, extract_layers, tmp_path):
    """A layer that is added later is embedded alone; a run for all of them then embeds nothing."""
    first = extract_layers(small, ["cls"])["cls"].store
    before = contents(tmp_path / "cache" / "stores" / first)
    summaries = extract_layers(small, ["cls", "mean"])
    assert (counts(summaries["cls"]), counts(summaries["mean"])) == ((0, 14, 0), (14, 0, 0))
    assert contents(tmp_path / "cache" / "stores" / first) == before
    assert {counts(summary) for summary in extract_layers(small, ["mean", "cls"]).values()} == {(0, 14, 0)}


def test_layers_that_lack_different_rows_are_completed_together(small, extract_layers, load, tmp_path):
    """Each store gets what it lacks and nothing twice, and ends as an undisturbed run's."""
    extract_layers(small, ["cls"])
    draw(small / "train" / "0" / "new.png", 1)
    extract_layers(small, ["mean"])
    draw(small / "train" / "0" / "newer.png", 2)
    summaries = extract_layers(small, ["cls", "mean", "tokens"])
    assert [summary.embedded for summary in summaries.values()] == [2, 1, 16]
    extract_layers(small, ["cls", "mean", "tokens"], "undisturbed")
    for layer in summaries:
        expected = load(small, layer=layer, cache=tmp_path / "undisturbed")
        assert load(small, layer=layer).x.tobytes() == expected.x.tobytes()
    rows = {
        store["layer"]: store["rows"] for store in featcache.info(data=str(small), cache=tmp_path / "cache")["stores"]
    }
    assert rows == {"cls": 16, "mean": 16, "tokens": 16}


@pytest.mark.parametrize(
    ("commits", "kind", "left"), [(1, "add", [6, 14]), (3, "add", [0, 6]), (1, "name_listing", [0, 0])]
)
def test_a_kill_between_two_layers_commits_costs_nothing(
    small, nano, extract_layers, load, tmp_path, commits, kind, left
):
    """SIGKILL when one layer's shard, or listing, is committed and the other's is not; then one run to the end."""
    words = [sys.executable, "-c", KILLED, small, tmp_path / "cache", ARCH, nano.weights, commits, kind, "cls,mean"]
    assert subprocess.run(list(map(str, words)), check=False).returncode == -signal.SIGKILL
    summaries = extract_layers(small, ["cls", "mean"])
    assert [summary.embedded for summary in summaries.values()] == left
    extract_layers(small, ["cls", "mean"], "undisturbed")
    for layer in ("cls", "mean"):
        expected = load(small, layer=layer, cache=tmp_path / "undisturbed")
        features = load(small, layer=layer)
        assert features.x.tobytes() == expected.x.tobytes()
        assert features.source["listing"] == expected.source["listing"]
    assert featcache.verify(cache=tmp_path / "cache") == []


def test_an_interrupted_extract_of_layers_ends_with_the_same_embeddings(small, extract_layers, load, tmp_path):
    """Ctrl-C after a batch publishes it in every store."""

    def interrupt(progress: Progress) -> None:
        if progress.embedded:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        extract_layers(small, ["cls", "mean"], progress=interrupt)
    summaries = extract_layers(small, ["cls", "mean"])
    assert len({counts(summary) for summary in summaries.values()}) == 1
    extract_layers(small, ["cls", "mean"], "undisturbed")
    for layer in ("cls", "mean"):
        expected = load(small, layer=layer, cache=tmp_path / "undisturbed")
        assert load(small, layer=layer).x.tobytes() == expected.x.tobytes()


def test_each_layer_is_compared_with_its_own_store(small, extract_layers):
    """With another batch size, images that the stores hold are embedded again: every layer is within its bound."""
    extract_layers(small, LAYERS, batch_size=4)
    draw(small / "train" / "0" / "new.png", 1)
    for summary in extract_layers(small, LAYERS, batch_size=8).values():
        assert (summary.embedded, summary.drift.compared) == (1, 8)


def test_the_command_prints_a_split_once_for_layers_that_are_alike(folder, nano, run):
    """What differs is said of each; every store has its line, and the next command names a layer."""
    words = ("extract", folder, *nano.flags, "--workers", "1")
    run(*words, "--layer", "cls")
    out = run(*words, "--layer", "cls", "--layer", "mean").out
    assert "cls: digits/train: 28 images: 0 embedded, 28 reused" in out
    assert "mean: digits/train: 28 images: 28 embedded, 0 reused" in out
    out = run(*words, "--layer", "cls", "--layer", "mean").out
    assert out.count("digits/train: 28 images: 0 embedded, 28 reused, 0 failed") == 1
    assert out.count("layer cls: ") == out.count("layer mean: ") == 1
    assert out.splitlines()[-1] == f"next: featcache fit-head {folder} --layer cls"
    refused = run("fit-head", folder)
    assert (refused.code, "name one with --layer cls or --layer mean" in refused.err) == (3, True)


def test_several_devices_give_every_layer(small, extract_layers, load, tmp_path, two_domains):
    """A process for each device: the same bytes as of one, layer by layer."""
    extract_layers(small, LAYERS, device="all")
    extract_layers(small, LAYERS, "single")
    for layer in LAYERS:
        assert load(small, layer=layer).x.tobytes() == load(small, layer=layer, cache=tmp_path / "single").x.tobytes()


def test_tokens_are_stored_in_half_precision_unless_asked_otherwise(small, extract, tmp_path):
    """Tokens and grids as float16, all others as float32; and as it is typed where it is."""

    def stored(**options) -> dict[str, str]:
        extract(small, **options)
        stores = featcache.info(data=str(small), cache=tmp_path / options["cache"])["stores"]
        return {store["layer"]: store["stored"] for store in stores}

    layers = ["cls", "tokens", "grid2"]
    assert stored(layer=layers, cache="a") == {"cls": "float32", "tokens": "float16", "grid2": "float16"}
    assert set(stored(layer=layers, stored="float32", cache="b").values()) == {"float32"}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("cls@-3", "layer cls@-3: vit_nano_16 has 2 blocks; the output of the first is cls@-2"),
        ("grid5", "layer grid5: vit_nano_16 has 4 x 4 patches; grid4 is the finest"),
        ("clss", "layer 'clss': expected auto, cls"),
    ],
)
def test_a_layer_that_the_network_lacks_is_refused_before_there_is_a_store(small, extract, tmp_path, layer, message):
    """The message says what there is, and the cache stays empty."""
    with pytest.raises(UsageError, match=message):
        extract(small, layer=["cls", layer])
    assert not list((tmp_path / "cache").glob("stores/*"))


def test_later_functions_take_the_layer_that_is_named(small, extract_layers, load):
    """Silent where one store fits; one sentence that names the layers where several do, or none."""
    extract_layers(small, ["cls"])
    assert load(small).x.shape == (14, 64)
    extract_layers(small, ["mean", "pooled"])
    assert (load(small, layer="pooled").x == load(small, layer="cls").x).all()
    assert not (load(small, layer="mean").x == load(small, layer="cls").x).all()
    with pytest.raises(
        CacheError, match=r"3 stores hold .*; name one with --layer cls, --layer mean or --layer pooled"
    ) as caught:
        load(small)
    assert [(one.wrong, one.right) for one in caught.value.corrections] == [("--layer", "cls")]
    with pytest.raises(
        CacheError, match=r"has layer tokens; there is cls, mean, pooled: name one with --layer, or run"
    ):
        load(small, layer="tokens")
    with pytest.raises(CacheError, match=r"--arch vit_b_16 was typed; .* has arch vit_nano_16"):
        load(small, arch="vit_b_16")
