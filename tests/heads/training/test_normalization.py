"""Heads on rows of length 1: `--normalize l2`."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import normalize

import featcache
from featcache.features.streamed import open_streamed
from featcache.heads.config import HeadConfig
from featcache.heads.linear import unit_rows
from featcache.heads.saved.linear import load_head
from featcache.heads.training.train import train_heads
from tests.builders import cluster_rows, clusters, record

UNIT = HeadConfig(lr=0.3, normalize="l2", epochs=3, batch_size=16)


def test_rows_are_scikit_learns():
    """Each row is divided by its length, whatever its size; a row of zeros stays one."""
    x = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    x[3], x[4] = 0, x[4] * np.float32(1e25)
    np.testing.assert_allclose(unit_rows(x), normalize(x.astype(np.float64)), rtol=1e-6)
    np.testing.assert_array_equal(unit_rows(x)[7:8], unit_rows(x[7:8]))


@pytest.mark.parametrize("standardize", [False, True])
def test_a_head_learns_from_the_scaled_rows(standardize):
    """Its weights are those of a plain head on rows that were scaled before, and its logits on rows as they are too."""
    train, val = clusters(0), clusters(1)
    config = replace(UNIT, standardize=standardize)
    (head,) = train_heads(train, val, [config])
    scaled = [replace(split, x=unit_rows(split.x)) for split in (train, val)]
    (plain,) = train_heads(scaled[0], scaled[1], [replace(config, normalize="none")])
    np.testing.assert_array_equal(head.weight, plain.weight)
    np.testing.assert_array_equal(head.logits(val.x), plain.logits(scaled[1].x))
    assert (head.train, head.val, head.history[-1]) == (plain.train, plain.val, plain.history[-1])


def test_heads_with_and_without_stand_side_by_side():
    """In a grid of both, each is the head that it is alone."""
    train, val = clusters(0), clusters(1)
    configs = [UNIT, replace(UNIT, normalize="none")]
    for head, config in zip(train_heads(train, val, configs), configs, strict=True):
        (alone,) = train_heads(train, val, [config])
        np.testing.assert_array_equal(head.weight, alone.weight)


def test_rows_on_disk_are_scaled_as_they_are_read(tmp_path):
    """A head that is trained from disk scores its rows as the same head in memory would."""
    store = record(tmp_path, {"train": cluster_rows(1), "val": cluster_rows(2)})
    streamed = open_streamed(store, next(key for key in store.listings if "train" in key))
    (head,) = train_heads(streamed, None, [UNIT])
    scores = [(row.train.loss, row.train.accuracy) for row in head.history]
    assert scores[-1][0] < scores[0][0] < 1.2
    assert np.isfinite(head.train.loss)


def test_a_saved_head_scales_what_it_predicts_on(tmp_path):
    """Twice as long embeddings get the same probabilities, from a head that was loaded again; its name says l2."""
    record(tmp_path, {"train": cluster_rows(1), "val": cluster_rows(2)})
    made = featcache.fit_head(
        0.3, normalize="l2", epochs=3, check_seconds=5, data="/data/toy", cache=tmp_path, device="cpu"
    )
    assert made.best.name.startswith("lr0.3-l2-")
    assert made.check is not None
    assert made.check.gap_share >= -1e-6
    head = load_head(made.best.folder)
    x = cluster_rows(3)[0]
    np.testing.assert_allclose(head.predict_probabilities(2 * x), head.predict_probabilities(x), rtol=1e-5)
    np.testing.assert_array_equal(head.head.logits(x), made.best.head.logits(x))
