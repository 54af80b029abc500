"""Training on views: one of an image's views a step, drawn by the seed, and every head as it is alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from featcache.errors import UsageError
from featcache.features import stack_views
from featcache.heads.config import HeadConfig
from featcache.heads.training.samplers import draw_views, sampled
from featcache.heads.training.standardization import compute_statistics
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.builders import scaled_clusters
from tests.heads.training.problems import BASE, CONFIGS, TRAIN, VAL

pytestmark = pytest.mark.usefixtures("either")
NOISE = np.random.default_rng(0).normal(size=(3, *TRAIN.x.shape)).astype(np.float32)
VIEWED = replace(TRAIN, views=TRAIN.x + NOISE)
ON_VIEWS = replace(BASE, views=True)


def weights(head) -> bytes:
    return head.weight.tobytes() + head.bias.tobytes()


@pytest.mark.parametrize("changes", [{}, {"standardize": True}, {"normalize": "l2"}, {"sampler": "balanced"}])
def test_a_single_view_that_is_the_plain_image_changes_nothing(changes):
    """With one view of the plain rows, weights, scores and history are those of a training without views."""
    plain, viewed = replace(BASE, **changes), replace(BASE, views=True, **changes)
    (expected,) = train_heads(TRAIN, VAL, [plain])
    (head,) = train_heads(replace(TRAIN, views=TRAIN.x[None].copy()), VAL, [viewed])
    assert weights(head) == weights(expected)
    assert (head.train, head.val, head.history) == (expected.train, expected.val, expected.history)


def test_dropout_is_the_same_on_a_single_view_that_is_the_plain_image():
    """An MLP's masks are drawn by its settings, and whether it draws views is none of these."""
    plain = replace(BASE, head="mlp", hidden="8", dropout=0.3, epochs=3)
    (expected,) = train_heads(TRAIN, VAL, [plain])
    (head,) = train_heads(replace(TRAIN, views=TRAIN.x[None].copy()), VAL, [replace(plain, views=True)])
    assert all(np.array_equal(value, head.tensors[name]) for name, value in expected.tensors.items())
    assert (head.train, head.val, head.history) == (expected.train, expected.val, expected.history)


def test_each_step_draws_one_view_of_each_image():
    """The images come in the order of a training without views; of each, every view is drawn as often."""
    y = torch.from_numpy(scaled_clusters(rows=6000).y)
    config = replace(BASE, epochs=2)
    drawn = list(draw_views(sampled(y, config), 3, config.seed))
    for epoch, order in zip(drawn, sampled(y, config), strict=True):
        assert torch.equal(epoch.images, order)
        assert torch.equal(epoch.rows % len(y), order)
        shares = torch.bincount(epoch.rows // len(y), minlength=3) / len(y)
        np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    assert not torch.equal(drawn[0].rows // len(y), drawn[1].rows // len(y))
    again, other = (list(draw_views(sampled(y, config), 3, seed)) for seed in (config.seed, config.seed + 1))
    assert all(torch.equal(one.rows, two.rows) for one, two in zip(drawn, again, strict=True))
    assert not torch.equal(drawn[0].rows, other[0].rows)


def test_a_head_is_trained_on_the_rows_that_were_drawn():
    """One step on all rows is the step of a training on exactly the views that its epoch drew."""
    config = HeadConfig(epochs=1, batch_size=len(TRAIN.y), lr=0.1, views=True)
    (drawn,) = draw_views(sampled(torch.from_numpy(TRAIN.y), config), 3, config.seed)
    rows = np.empty(len(TRAIN.y), np.int64)
    rows[drawn.images] = drawn.rows
    chosen = replace(TRAIN, x=stack_views(VIEWED).x[rows])
    (expected,) = train_heads(chosen, None, [replace(config, views=False)])
    (head,) = train_heads(VIEWED, None, [config])
    assert weights(head) == weights(expected)


def test_heads_on_views_equal_themselves_alone(either):
    """On the CPU, beside heads on plain images and on the same views, a head has the bits that it has by itself."""
    configs = [replace(config, epochs=4) for config in CONFIGS]
    configs = [*configs, *(replace(config, views=True) for config in configs)]
    together = train_heads(VIEWED, VAL, configs)
    for head, config in zip(together, configs, strict=True):
        (alone,) = train_heads(VIEWED if config.views else TRAIN, VAL, [config])
        assert np.allclose(head.weight, alone.weight, rtol=1e-3, atol=1e-5)
        assert either is TorchStack or weights(head) == weights(alone)
    assert weights(together[0]) != weights(together[len(CONFIGS)])


def test_heads_that_standardize_know_all_views():
    """Mean and deviation are those of the rows of all views."""
    config = replace(ON_VIEWS, standardize=True)
    of_views, of_rows = (compute_statistics(rows, [config]) for rows in (VIEWED, stack_views(VIEWED)))
    np.testing.assert_allclose(of_views.mean, of_rows.mean, rtol=1e-9)
    np.testing.assert_allclose(of_views.std, of_rows.std, rtol=1e-9)
    assert of_views.class_counts.tolist() == np.bincount(TRAIN.y, minlength=len(TRAIN.classes)).tolist()


def test_views_that_are_not_there_are_refused():
    """A head that is to learn from views is not trained on plain images instead."""
    with pytest.raises(UsageError, match="has none"):
        train_heads(TRAIN, None, [ON_VIEWS])
