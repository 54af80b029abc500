"""Where a training starts: at the trunk's weights, at random ones, or at a head that was trained before."""

import numpy as np
import pytest

import featcache
from featcache.heads.saved.linear import read_history


def test_a_start_from_a_head_begins_at_its_own_score(trained_head, finetune):
    """LP-FT's epoch 0 is the head's score on val, to the last bit, and the network's own forward gives it, too."""
    result = finetune(start=f"head {trained_head.best.name}", lr=1e-12, weight_decay=0.0, epochs=1)

    assert result.at_start.val == trained_head.best.head.val
    assert result.at_start.train == trained_head.best.head.train
    columns = read_history(result.fit.heads[0].folder)
    assert columns["epoch"] == (0.0, 1.0)
    assert columns["val_accuracy"][0] == trained_head.best.head.val.accuracy
    moved = result.fit.heads[0].head.val
    assert moved.accuracy == trained_head.best.head.val.accuracy
    assert moved.loss == pytest.approx(trained_head.best.head.val.loss, rel=1e-5)


def test_a_head_alone_learns_what_fit_head_learns(trained_head, finetune, places):
    """With all but the head frozen, fine-tuning on the same batches gives fit-head's weights to 1e-5."""
    settings = {
        "lr": 0.1,
        "epochs": 3,
        "batch_size": 8,
        "optimizer": "sgd",
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
    }
    frozen = featcache.fit_head(check_seconds=None, **settings, **places).best.head
    tuned = finetune(unfreeze=0, **settings).fit.heads[0].head

    scale = float(np.abs(frozen.weight).max())
    assert np.abs(tuned.weight - frozen.weight).max() < 1e-5 * scale
    assert np.abs(tuned.bias - frozen.bias).max() < 1e-5 * scale


@pytest.mark.parametrize("start", ["weights", "scratch"])
def test_the_trunk_learns_with_its_head(start, finetune):
    """The whole network learns: its trunk has other weights afterwards, in a store of its own."""
    result = finetune(start=start, lr=1e-3, epochs=2)

    assert result.learning_parameters == result.parameters
    head = result.fit.heads[0]
    assert head.head.finetuned["start"] == start
    assert head.folder.is_relative_to(result.weights.parents[1] / "stores")
    assert head.head.train.loss < np.log(3)


def test_random_weights_follow_from_the_seed(finetune):
    """From scratch, another seed begins with other weights, and the same seed ends with the same ones."""
    first, again, other = (finetune(start="scratch", seed=seed, epochs=1).weights for seed in (1, 1, 2))

    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_only_the_last_blocks_learn(finetune, nano):
    """With --unfreeze 1 the tensors of all other blocks are those of the trunk's weights."""
    import torch
    from safetensors.torch import load_file

    before = torch.load(nano.weights, weights_only=True)
    after = load_file(finetune(unfreeze=1, lr=1e-2, epochs=1).weights)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    blocks = {name.split(".")[2] for name in changed if name.startswith("encoder.layers")}
    assert blocks == {max(name.split(".")[2] for name in before if name.startswith("encoder.layers"))}
    assert "encoder.ln.weight" in changed
    assert not {"class_token", "conv_proj.weight", "encoder.pos_embedding"} & changed


def test_a_head_of_other_classes_is_refused(trained_head, finetune, folder):
    """A class more than the head knows is an error in one sentence, and the head is still there."""
    (folder / "train" / "2").rename(folder / "train" / "7")

    with pytest.raises(featcache.CacheError, match=r"head #1 .* was trained on 3 classes, and .* has 4 \(new: 7\)"):
        finetune(start="head 1")
    assert trained_head.best.folder.is_dir()


def test_the_frozen_store_stays_as_it_is(trained_head, finetune, places):
    """Fine-tuning writes no byte into the store of the trunk that it starts from."""
    root = trained_head.best.folder.parents[3]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    finetune(start="head best")

    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_frozen_and_tuned_are_compared_on_the_same_rows(trained_head, finetune, places):
    """A report of the tuned head against the frozen one has the difference with its interval; predict takes it, too."""
    result = finetune(start="head 1", lr=1e-3)
    pair = featcache.evaluate_pair("2", "1", **places)

    assert pair.first.head == result.fit.heads[0].name
    assert pair.accuracy == pair.first.accuracy - pair.second.accuracy
    image = next(iter(sorted((result.weights.parents[2] / "digits" / "test").rglob("*.png"))))
    assert featcache.predict("2", [str(image)], **places).failed == ("",)
