"""What `train_heads` takes, refuses and reports."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from featcache.errors import UsageError
from featcache.heads.training.module_stack import ModuleStack
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import choose_stack, train_heads
from tests.builders import uneven_clusters
from tests.heads.conftest import steps_by
from tests.heads.training.problems import BASE, CONFIGS, TRAIN, VAL, apart, plain_macro_recall
from tests.heads.training.ways import WAYS, by, clusters, make_config


@pytest.mark.usefixtures("either")
def test_heads_of_other_batches_train_in_passes_of_their_own():
    """Seeds, samplers, batch sizes and epochs may differ; progress counts the epochs of all passes."""
    changes = ({}, {"seed": 1}, {"sampler": "balanced"}, {"batch_size": 32}, {"epochs": 3})
    configs = [replace(BASE, **change) for change in changes]
    told = []
    heads = train_heads(TRAIN, None, configs, progress=lambda *at: told.append(at))
    assert [head.config for head in heads] == configs
    for head, config in zip(heads, configs, strict=True):
        (alone,) = train_heads(TRAIN, None, [config])
        np.testing.assert_array_equal(head.weight, alone.weight)
    assert told == [(done, 27) for done in range(1, 28)]


@pytest.mark.usefixtures("either")
def test_a_watch_stops_heads():
    """A watch sees every head's val scores after each epoch; a head that it names keeps what it has."""
    seen = []

    def watch(epoch, found):
        seen.append(len([score for score in found if score is not None]))
        return [1] if epoch == 2 else []

    configs = [BASE, replace(BASE, lr=0.1, schedule="constant")]
    heads = train_heads(TRAIN, VAL, configs, watch=watch)
    assert [len(head.history) for head in heads] == [6, 2]
    (short,) = train_heads(TRAIN, VAL, [replace(configs[1], epochs=2)])
    assert apart(heads[1], short.weight, short.bias) < 1e-6
    assert seen == [2] * 6


@pytest.mark.parametrize("way", WAYS)
def test_a_watch_over_heads_of_which_some_standardise(way):
    """Heads that standardise and heads that do not are watched side by side, and each is what it is alone.

    By our loops, to the bit.
    """
    train, val = clusters(), clusters(seed=1)
    configs = [make_config(standardize=index % 2 == 0, lr=lr) for index, lr in enumerate((0.01, 0.02, 0.05, 0.1))]
    seen = []

    def watch(epoch, on_val):
        seen.append((epoch, [score.loss for score in on_val]))
        return [1, 2] if epoch == 2 else []

    with by(way):
        heads = train_heads(train, val, configs, watch=watch)
        alone = [train_heads(train, val, [one])[0] for one in configs]
    assert [len(head.history) for head in heads] == [4, 2, 2, 4]
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    for place, (head, other) in enumerate(zip(heads, alone, strict=True)):
        assert seen[0][1][place] == pytest.approx(other.history[0].val.loss, rel=1e-5)
        assert head.history[1].val.loss == pytest.approx(other.history[1].val.loss, rel=1e-5)
        if way[0] is NumbaStack:
            assert seen[0][1][place] == other.history[0].val.loss
            assert head.history[0] == other.history[0]


@pytest.mark.usefixtures("either")
def test_progress():
    """Progress is told after every epoch, as epochs done and all epochs."""
    told = []
    train_heads(uneven_clusters(), None, CONFIGS[:2], progress=lambda *at: told.append(at))
    assert told == [(epoch, 8) for epoch in range(1, 9)]


@pytest.mark.usefixtures("either")
def test_val_changes_no_weight():
    """A head trained with a val split has the bits of one trained without."""
    train = uneven_clusters()
    (blind,), (seeing,) = (train_heads(train, val, CONFIGS[:1]) for val in (None, uneven_clusters(seed=1)))
    np.testing.assert_array_equal(blind.weight, seeing.weight)


@pytest.mark.usefixtures("either")
def test_class_without_rows_keeps_its_index():
    """A class that the training split lacks keeps its row of weights, and the classes behind it theirs."""
    train = uneven_clusters(present=[0, 1, 3, 4])
    (head,) = train_heads(train, None, [CONFIGS[1]])
    assert head.weight.shape == (5, 12)
    assert head.train.accuracy > 0.5
    assert not (head.logits(train.x).argmax(1) == 2).any()
    assert head.train.macro_recall == pytest.approx(plain_macro_recall(train.y, head.logits(train.x).argmax(1)))


@pytest.mark.usefixtures("either")
def test_memory_mapped_features_are_read_only_and_train():
    """Read-only arrays, as a store gives them, train without a warning and without being written to."""
    train = uneven_clusters()
    frozen = replace(train, x=train.x.copy(), y=train.y.copy())
    frozen.x.flags.writeable = frozen.y.flags.writeable = False
    (one,), (other,) = (train_heads(t, None, CONFIGS[:1]) for t in (train, frozen))
    np.testing.assert_array_equal(one.weight, other.weight)


@pytest.mark.usefixtures("either")
def test_splits_that_do_not_fit():
    """No heads, no rows, a val of other classes or of another trunk: each is refused."""
    train = uneven_clusters()
    nothing = uneven_clusters(rows=1)
    nothing = replace(nothing, x=nothing.x[:0], y=nothing.y[:0], paths=(), clips=(), subjects=())
    with pytest.raises(UsageError, match="no heads"):
        train_heads(train, None, [])
    with pytest.raises(UsageError, match="training split has 0 rows"):
        train_heads(nothing, None, CONFIGS[:1])
    with pytest.raises(UsageError, match="val split has 0 rows"):
        train_heads(train, nothing, CONFIGS[:1])
    with pytest.raises(UsageError, match="6 classes, train 5"):
        train_heads(train, uneven_clusters(classes=6), CONFIGS[:1])
    with pytest.raises(UsageError, match="embeddings of 13, train of 12"):
        train_heads(train, uneven_clusters(dim=13), CONFIGS[:1])


def test_the_cpu_takes_the_loops():
    """On the CPU linear heads are trained by the compiled loops, else by torch's operations; modules by neither."""
    assert choose_stack("cpu") is NumbaStack
    assert {choose_stack(device) for device in ("cuda", "cuda:1", "mps")} == {TorchStack}
    assert {choose_stack(device, is_linear=False) for device in ("cpu", "cuda")} == {ModuleStack}


def test_a_training_that_is_broken_off():
    """A Ctrl-C between two epochs is raised, and no thread of the team is left."""

    def broken(*at):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), steps_by(NumbaStack):
        train_heads(TRAIN, None, [BASE], progress=broken)
    assert not any(thread.name.startswith("thread team") for thread in threading.enumerate())
