"""Patience and plateaus: when a head stops, slows down, and which epoch it keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.heads.training.train import train_heads
from tests.heads.training import reference
from tests.heads.training.problems import BASE, TRAIN, VAL
from tests.heads.training.ways import a_way, an_optimizer, by, clusters, expected, few, make_config


@pytest.mark.usefixtures("either")
def test_patience_keeps_the_best_epoch():
    """A head that gets worse on val stops after its patience and keeps the weights of its best epoch."""
    config = replace(BASE, lr=3.0, schedule="constant", clip_norm=None, epochs=40, patience=3)
    (head,) = train_heads(TRAIN, VAL, [config])
    recalls = [(row.val.macro_recall, -row.val.loss) for row in head.history]
    assert head.best_epoch == 1 + max(range(len(recalls)), key=lambda epoch: recalls[epoch])
    assert len(head.history) == head.best_epoch + 3 < 40
    assert head.steps == len(head.history) * 5
    assert head.val.macro_recall == pytest.approx(recalls[head.best_epoch - 1][0])
    (whole,) = train_heads(TRAIN, VAL, [replace(config, patience=None, epochs=head.best_epoch)])
    np.testing.assert_array_equal(head.weight, whole.weight)
    with pytest.raises(UsageError, match="patience"):
        train_heads(TRAIN, None, [config])


@few
@given(an_optimizer, st.booleans(), st.sampled_from([1, 2]), a_way)
def test_patience_keeps_the_references_best_epoch(optimizer, standardize, patience, way):
    """The epoch that is kept is the best by the macro recall of float64 heads, and of equals the one of less loss."""
    train, val = clusters(), clusters(seed=1)
    of = make_config(
        **{**optimizer, "lr": 0.3}, standardize=standardize, patience=patience, schedule="constant", epochs=8
    )
    with by(way):
        (head,) = train_heads(train, val, [of])
    merits = []
    for epoch in expected(train, of).epochs[: len(head.history)]:
        z = val.x @ epoch.weight.T + epoch.bias
        right = z.argmax(axis=1) == val.y
        recall = np.mean([right[val.y == label].mean() for label in np.unique(val.y)])
        merits.append((recall, np.log(reference.softmax(z)[np.arange(len(z)), val.y]).mean()))
    best = max(merits)[0]
    # Where a row of val lies on the border, float32 and float64 may differ by it.
    assert merits[head.best_epoch - 1][0] >= best - 1.5 / np.bincount(val.y)[np.unique(val.y)].min()


@pytest.mark.usefixtures("either")
def test_plateau_is_torchs():
    """The pace of a head on a plateau is that of torch's ReduceLROnPlateau, epoch by epoch."""
    from featcache.heads.linear import Scores
    from featcache.heads.training.stopping import HeadProgress

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
    progress = HeadProgress(replace(BASE, schedule="plateau", plateau_epochs=2), "macro_recall")
    losses = [3, 2, 2, 2, 2, 1.99999, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.4]
    for epoch, loss in enumerate(losses, start=1):
        progress.record_epoch(epoch, Scores(0, 0, 9.0), Scores(0, 0, loss))
        torchs.step(loss)
        assert progress.lr_factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert progress.lr_factor < 0.1
