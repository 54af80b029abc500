"""Views beside the plain images: each is a store of its own, written in lockstep, whatever happens on the way."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import Settings, UsageError
from featcache.extraction import Progress
from tests.conftest import ARCH, single_thread
from tests.extraction.runs import KILLED, counts, draw

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def extract_views(nano, tmp_path):
    """Extract one split and views of it into a cache, and return a summary of each, by layer and number of the view."""

    def call(root: Path, views: int, augment: str = "flip,crop", cache: str = "cache", **options):
        layers = options.pop("layer", ["cls"])
        progress = options.pop("progress", lambda _: None)
        settings = Settings(**{"device": "cpu", "workers": 1, "batch_size": 4, **options})
        summaries = featcache.extract(
            "train", data=str(root), cache=tmp_path / cache, arch=ARCH, weights=str(nano.weights), precision="fp32",
            layer=layers, views=views, augment=augment if views else None, settings=settings, progress=progress,
        )  # fmt: skip
        return {(summary.layer, summary.view.number if summary.view else 0): summary for summary in summaries}

    return call


@pytest.fixture
def rows(load, tmp_path):
    """Return the embeddings of one store."""

    def call(root: Path, summary, cache: str = "cache") -> np.ndarray:
        return load(root, store=summary.store, cache=tmp_path / cache).x

    return call


def test_a_view_that_does_nothing_is_the_plain_image(small, extract_views, rows):
    """With `--augment none` every view has the plain image's embeddings, bit by bit, in a store of its own."""
    summaries = extract_views(small, 2, "none")
    assert {counts(summary) for summary in summaries.values()} == {(14, 0, 0)}
    plain, *views = (rows(small, summary) for summary in summaries.values())
    assert [view.tobytes() for view in views] == [plain.tobytes()] * 2
    assert len({summary.store for summary in summaries.values()}) == 3


def test_a_view_is_what_it_is_alone_and_among_others(small, extract_views, rows):
    """Plain images keep their bytes beside views; more views later leave those that are there as they were."""
    alone = rows(small, extract_views(small, 0, cache="plain")["cls", 0], "plain")
    first = extract_views(small, 2, layer=["cls", "mean"])
    assert list(first) == [("cls", 0), ("mean", 0), ("cls", 1), ("mean", 1), ("cls", 2), ("mean", 2)]
    before = {key: rows(small, summary).tobytes() for key, summary in first.items()}
    assert before["cls", 0] == alone.tobytes()
    assert len(set(before.values())) == 6
    more = extract_views(small, 3, layer=["cls", "mean"], batch_size=5)
    assert {key: summary.embedded for key, summary in more.items() if summary.embedded} == {
        ("cls", 3): 14, ("mean", 3): 14,
    }  # fmt: skip
    assert {key: rows(small, more[key]).tobytes() for key in first} == before


def test_what_a_view_shows_of_an_image_follows_from_the_image(small, extract_views, rows):
    """In another folder, under another name and beside other images, an image's views have the same bytes."""
    expected = rows(small, extract_views(small, 2)["cls", 2])
    other = small.parent / "other"
    for number, file in enumerate(sorted((small / "train").rglob("*.png"))[4:9]):
        copy = other / "train" / "all" / f"{9 - number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    draw(other / "train" / "else" / "new.png", 1)
    again = rows(other, extract_views(other, 2, cache="other")["cls", 2], "other")
    assert again[:5][::-1].tobytes() == expected[4:9].tobytes()


def test_progress_counts_views(small, extract_views):
    """Of 14 images and three views of each, 56 are to be done; of a new image, its own four."""
    told: list[Progress] = []
    extract_views(small, 3, progress=told.append)
    assert (told[-1].done, told[-1].total) == (56, 56)
    draw(small / "train" / "0" / "new.png", 1)
    summaries = extract_views(small, 3, progress=told.append)
    assert {counts(summary) for summary in summaries.values()} == {(1, 14, 0)}
    assert (told[-1].done, told[-1].total) == (4, 4)


def test_a_kill_between_the_commits_of_two_views_costs_nothing(small, nano, extract_views, rows, load, tmp_path):
    """SIGKILL when some views' shards are committed; then one run to the end has the bytes of an undisturbed one."""
    words = [sys.executable, "-c", KILLED, small, tmp_path / "cache", ARCH, nano.weights, 4, "add", "cls", 2]
    assert subprocess.run(list(map(str, words)), check=False).returncode == -signal.SIGKILL
    summaries = extract_views(small, 2)
    assert 0 < min(summary.embedded for summary in summaries.values()) < 14
    undisturbed = extract_views(small, 2, cache="undisturbed")
    for key, summary in summaries.items():
        assert rows(small, summary).tobytes() == rows(small, undisturbed[key], "undisturbed").tobytes()
    assert featcache.verify(cache=tmp_path / "cache") == []


def test_an_interrupt_keeps_what_is_embedded_of_every_view(small, extract_views, rows):
    """Ctrl-C after a batch publishes it, and the next run does the rest."""

    def interrupt(progress: Progress) -> None:
        if progress.embedded:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        extract_views(small, 2, progress=interrupt)
    summaries = extract_views(small, 2)
    assert sum(summary.reused for summary in summaries.values()) > 0
    undisturbed = extract_views(small, 2, cache="undisturbed")
    for key, summary in summaries.items():
        assert rows(small, summary).tobytes() == rows(small, undisturbed[key], "undisturbed").tobytes()


def test_each_view_is_compared_with_its_own_rows(small, extract_views, run, nano, tmp_path):
    """In another environment views are embedded again and are within their bound; `verify --deep` does the same."""
    extract_views(small, 2, "flip,crop,color", batch_size=4)
    draw(small / "train" / "0" / "new.png", 1)
    for summary in extract_views(small, 2, "flip,crop,color", batch_size=8).values():
        assert (summary.embedded, summary.drift.compared) == (1, 8)
        assert summary.drift.is_within_bound("float32")
    deep = run("verify", "--deep", "--weights", nano.weights, "--cache", tmp_path / "cache")
    assert (deep.code, (deep.out + deep.err).count("15 images compared")) == (0, 3)


def test_devices_share_views(small, extract_views, rows, two_domains):
    """A process for each device: the same bytes as of one."""
    both, single = extract_views(small, 2, device="all"), extract_views(small, 2, cache="single")
    for key, summary in both.items():
        assert rows(small, summary).tobytes() == rows(small, single[key], "single").tobytes()


def test_the_store_says_which_view_it_holds(small, extract_views, tmp_path, run):
    """`info` and the folder name the view; later commands mean the plain images."""
    summaries = extract_views(small, 1, "flip,crop=0.3,seed=2")
    stores = {store["view"]: store["name"] for store in featcache.info(cache=tmp_path / "cache")["stores"]}
    assert stores == {None: summaries["cls", 0].store, "view 1 of flip,crop=0.3,seed=2": summaries["cls", 1].store}
    assert "-cls-view1-" in summaries["cls", 1].store
    assert "view 1 of flip,crop=0.3,seed=2" in run("info", "--cache", tmp_path / "cache").out
    assert featcache.load("train", data=str(small), cache=tmp_path / "cache").source["store"] == stores[None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 2, "augment": "flop"}, "found 'flop', expected none, or flip, crop and color"),
        ({"views": 100}, "views"),
        ({"views": 2, "decode": "fast"}, "views are cut from the whole image, and --decode fast does not decode"),
        ({"augment": "flip"}, "--augment has no effect without --views"),
    ],
)
def test_views_that_cannot_be_are_refused_before_there_is_a_store(small, extract, tmp_path, options, message):
    """The message says what is wrong, and the cache stays empty."""
    with pytest.raises(UsageError, match=message):
        extract(small, **options)
    assert not list((tmp_path / "cache").glob("stores/*"))
