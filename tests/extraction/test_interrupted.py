"""Whatever interrupts an extract, or changes how it runs, the cache ends with the same bytes."""

import contextlib
import random
import shutil
import time
from collections.abc import Callable

import pytest

import featcache
from featcache import CacheError, MachineError, Settings, Summary
from featcache.extraction import Progress
from tests.conftest import ARCH, single_thread
from tests.extraction.runs import counts, draw, scaled, spoil

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.mark.parametrize("lost", [False, True])
def test_an_extract_writes_a_damaged_listing_again(small, extract, load, tmp_path, lost):
    """What the error advises works: `featcache extract` mends a damaged or lost listing, and embeds nothing."""
    spoil(small, 1)
    extract(small, max_bad=0.5)
    expected = load(small)
    file = next((tmp_path / "cache" / "listings").rglob("*.h5"))
    file.unlink()
    if not lost:
        file.write_bytes(b"\0" * 100)
    with pytest.raises(CacheError, match="featcache extract --split train"):
        load(small)
    assert counts(extract(small, max_bad=0.5)) == (0, 14, 1)
    assert load(small).x.tobytes() == expected.x.tobytes()
    assert load(small).paths == expected.paths


class Interrupter:
    """Ctrl-C at the n-th word of progress; so slow that every image gets a word."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, _: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        time.sleep(0.101)


def test_an_interrupted_extract_ends_with_the_same_embeddings(small, extract, load, tmp_path):
    """Ctrl-C at random images, again and again, then to the end: what load returns is byte for byte the same."""
    draw(small / "train" / "1" / "zz.png", 1)
    shutil.copy(small / "train" / "0" / "0000.png", small / "train" / "2" / "a copy.png")
    extract(small, cache=tmp_path / "undisturbed")
    moments, interrupted = random.Random(4), 0
    for calls in (1, 2, 7, moments.randint(3, 8), moments.randint(3, 8)):  # the seventh word comes after a batch
        with contextlib.suppress(KeyboardInterrupt):
            extract(small, shard_rows=5, progress=Interrupter(calls))
            break
        interrupted += 1
    assert interrupted >= 3
    assert extract(small).reused > 1
    expected, found = load(small, cache=tmp_path / "undisturbed"), load(small)
    assert found.x.tobytes() == expected.x.tobytes()
    assert found.y.tobytes() == expected.y.tobytes()
    assert (found.paths, found.source["listing"]) == (expected.paths, expected.source["listing"])
    assert not list((tmp_path / "cache").rglob("*.partial"))
    assert featcache.verify(cache=tmp_path / "cache") == []


def test_batches_workers_and_shards_do_not_show_in_an_embedding(small, nano, extract, load, tmp_path):
    """Two workers and shards of one row give the bytes that one worker and one shard give."""
    extract(small, cache=tmp_path / "one")
    settings = Settings(device="cpu", workers=2, batch_size=4, shard_rows=1)
    featcache.extract(
        "train", data=str(small), cache=tmp_path / "two", arch=ARCH, weights=str(nano.weights), precision="fp32",
        settings=settings,
    )  # fmt: skip
    one, two = load(small, cache=tmp_path / "one"), load(small, cache=tmp_path / "two")
    assert one.x.tobytes() == two.x.tobytes()
    assert one.source["listing"] == two.source["listing"]


def test_weights_that_are_replaced_while_a_run_is_under_way_are_refused(small, nano, extract, tmp_path):
    """No embedding of the new file gets into the store of the old one; the next run makes the new one's store."""
    weights = tmp_path / "mine.pth"
    shutil.copy(nano.weights, weights)
    time.sleep(0.03)  # a file younger than the clock's grain is not trusted
    first = extract(small, weights=str(weights))
    draw(small / "train" / "0" / "new.png", 1)

    def replace(progress: Progress) -> None:
        if progress.stage == "reading" and not progress.done:
            scaled(nano, 2.0, tmp_path / "scratch.pth").rename(weights)

    with pytest.raises(MachineError, match="replaced while"):
        extract(small, weights=str(weights), progress=replace)
    second = extract(small, weights=str(weights))
    assert second.store != first.store
    assert counts(second) == (15, 0, 0)
