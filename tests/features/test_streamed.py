"""Rows from disk: every one once, each its own; the training that they feed learns what memory teaches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featcache
from featcache.errors import CacheError, UsageError
from featcache.features.in_memory import read_features
from featcache.features.streamed import Streamed, open_streamed, spread_evenly
from featcache.heads.config import HeadConfig
from featcache.heads.training.cuda_graph import RECORDERS
from featcache.heads.training.train import train_heads
from tests.builders import extracted, listing, new_store, record_clusters, reopen
from tests.conftest import single_thread

KEY = ("toy", "all", "train")


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of 700 rows in shards of 128 whose listing is in another order, names a row twice and skips some."""
    store = new_store(tmp_path_factory.mktemp("cache"))
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 3, 700))  # as folders lie: a class after the other
    x = (rng.standard_normal((3, 6))[labels] * 1.5 + rng.standard_normal((700, 6))).astype(np.float32)
    digests = rng.integers(0, 256, (700, 32), dtype=np.uint8)
    listed = np.concatenate([rng.permutation(700)[:600], [5, 5]])
    with store.writer(shard_rows=128) as writer:
        for start in range(0, 700, 64):
            writer.append(digests[start : start + 64], x[start : start + 64])
        rows = listing(labels[listed], paths=tuple(map(str, listed)))
        writer.commit(extracted(rows, digests[listed], failed=1))
    return reopen(store)


@settings(max_examples=40, deadline=None)
@given(
    piece=st.integers(1, 4_000),
    window=st.integers(1, 20_000),
    batch=st.integers(1, 700),
    seed=st.integers(0, 5),
    free=st.sampled_from([None, 0, 2**40]),
)
def test_an_epoch_is_every_row_once(many, piece, window, batch, seed, free):
    """Whatever piece, window and batch are, and through the page cache or past it: each listed row once, its own
    embedding; every window but the last is whole batches.
    """
    whole = read_features(many, KEY)
    streamed = open_streamed(many, KEY, window_bytes=window, piece_bytes=piece)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featcache.features.streamed.available_memory", lambda: free)
        for x, drawn, rows in streamed.epoch(batch, np.random.default_rng(seed)):
            assert np.array_equal(x[drawn], whole.x[rows])
            seen.append(rows)
    assert np.sort(np.concatenate(seen)).tolist() == list(range(601))
    assert {len(rows) % batch for rows in seen[:-1]} <= {0}
    blocks = [(np.array(x), rows) for x, rows in streamed.blocks()]
    assert np.sort(np.concatenate([rows for _, rows in blocks])).tolist() == list(range(601))
    assert all(np.array_equal(x, whole.x[rows]) for x, rows in blocks)


def test_all_but_the_embeddings_is_as_in_memory(many):
    """Labels, classes, paths, source: the same columns as `load` has, without the failed row."""
    whole, streamed = read_features(many, KEY), open_streamed(many, KEY)
    for name in ("classes", "paths", "clips", "subjects", "split", "failed", "part", "source"):
        assert getattr(streamed, name) == getattr(whole, name), name
    assert streamed.y.tolist() == whole.y.tolist()
    assert (streamed.dim, streamed.failed) == (6, 1)


def test_epochs_differ_and_a_seed_repeats_them(many):
    """Two epochs have two orders; the same seed has the same ones."""
    streamed = open_streamed(many, KEY, window_bytes=3_000, piece_bytes=200)

    def orders(seed: int) -> list[list[int]]:
        generator = np.random.default_rng(seed)
        walks = [streamed.epoch(32, generator) for _ in range(2)]
        return [np.concatenate([rows for *_, rows in walk]).tolist() for walk in walks]

    first, again, other = orders(0), orders(0), orders(1)
    assert first == again
    assert len({tuple(order) for order in (*first, *other)}) == 4


def test_a_window_is_mixed_from_all_over_the_store(many):
    """Rows lie sorted by class; every batch of a window of a tenth of the store still holds all three classes."""
    streamed = open_streamed(many, KEY, window_bytes=60 * 24, piece_bytes=4 * 24)
    y = streamed.y
    windows = [y[rows] for *_, rows in streamed.epoch(50, np.random.default_rng(0))]
    batches = [set(window[at : at + 50].tolist()) for window in windows for at in range(0, len(window), 50)]
    assert all(found == {0, 1, 2} for found in batches[:-1])


@given(st.lists(st.integers(1, 120), min_size=1, max_size=4), st.integers(0, 99))
def test_a_class_has_its_share_of_every_stretch(counts, seed):
    """Every piece once; however far one goes, each class had its share of the way to a few pieces."""
    kinds = np.repeat(np.arange(len(counts)), counts)
    order = spread_evenly(kinds.tolist(), np.random.default_rng(seed))
    assert np.sort(order).tolist() == list(range(len(kinds)))
    for kind, count in enumerate(counts):
        so_far = np.cumsum(kinds[order] == kind)
        share = count * np.arange(1, len(kinds) + 1) / len(kinds)
        assert np.abs(so_far - share).max() <= len(counts) + 1


def test_training_from_disk_ends_where_memory_ends(many):
    """The final loss is that of memory to the spread of its seeds, doubled; standardised heads too."""
    whole = read_features(many, KEY)
    streamed = open_streamed(many, KEY, window_bytes=120 * 24, piece_bytes=4 * 24)
    for extra in ({}, {"standardize": True}):
        configs = [HeadConfig(lr=0.1, epochs=12, batch_size=32, seed=seed, **extra) for seed in range(4)]
        memory = [head.train.loss for head in train_heads(whole, None, configs)]
        disk = [head.train.loss for head in train_heads(streamed, None, configs)]
        assert abs(np.mean(disk) - np.mean(memory)) < 2 * np.ptp(memory) + 1e-4


def test_one_window_and_one_batch_are_the_training_in_memory(many):
    """Where a batch is the whole split, order plays no part: disk and memory give one head, to rounding."""
    whole, config = read_features(many, KEY), HeadConfig(lr=0.1, epochs=3, batch_size=1_000)
    (memory,) = train_heads(whole, whole, [config])
    (disk,) = train_heads(open_streamed(many, KEY), whole, [config])
    np.testing.assert_allclose(disk.weight, memory.weight, atol=1e-5)
    assert disk.train.accuracy == memory.train.accuracy
    assert disk.val.accuracy == memory.val.accuracy


def test_rows_from_disk_are_never_replayed(many, monkeypatch):
    """Batches that come through the host are trained one by one, whatever the device could record."""

    def record(device, run):
        raise AssertionError("recorded")

    monkeypatch.setitem(RECORDERS, "cpu", record)
    (head,) = train_heads(open_streamed(many, KEY), None, [HeadConfig(epochs=3, batch_size=32)])
    assert len(head.history) == 3


def test_a_sampler_that_repeats_rows_needs_memory(many):
    """Balanced sampling from disk would read rows again and again: refused, with what does the same."""
    with pytest.raises(UsageError, match="class_weights"):
        train_heads(open_streamed(many, KEY), None, [HeadConfig(sampler="balanced", epochs=1)])


def test_a_damaged_shard_is_an_error(tmp_path):
    """A flipped byte is found when the split is opened; a shard that is gone, by name."""
    store = record_clusters(tmp_path, "train")
    path = next((store.root / "shards").iterdir())
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CacheError, match=path.name):
        featcache.stream("train", data="/data/toy", cache=tmp_path)
    path.write_bytes(whole)
    streamed: Streamed = featcache.stream("train", data="/data/toy", cache=tmp_path)
    path.unlink()
    with pytest.raises(CacheError, match=path.name):
        next(streamed.epoch(4, np.random.default_rng(0)))
