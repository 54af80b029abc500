"""A training with augmentation, and one of the network `cnn`: recipe and command, through to the head that is kept."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import featcache
from featcache.errors import UsageError
from featcache.finetuning.batches import EpochBatches
from featcache.finetuning.blocks import find_blocks
from featcache.recipe import CnnSection, TrunkSection
from featcache.trunks import WeightsMemo, name_trunk
from featcache.trunks.libraries import load_network
from featcache.trunks.libraries.convolutional import count_cnn_parameters
from tests.conftest import write_images
from tests.finetuning.small import augmentation, images, training

SHAPE = CnnSection(filters=4, dense=8)
CNN = """
[trunk]
arch = "cnn"
image_size = 32

[trunk.cnn]
filters = 4
dense = 8

[finetune]
start = "scratch"
"""


def batches(text, epoch=0, first=0):
    """Return the batches of an epoch of twenty images with this augmentation."""
    plan = training().plan
    return EpochBatches(plan.train, plan.schedule, augmentation(text), epoch=epoch, first=first)


def recipe(places, tmp_path, text):
    """Write a recipe of the small data set, and return where a command finds it."""
    file = tmp_path / "small.toml"
    file.write_text(f'name = "small"\n[data]\nroot = {json.dumps(places["data"])}\n{text}')
    return {"pipeline": str(file), "cache": places["cache"]}


def test_an_epoch_that_goes_on_has_the_batches_that_were_left():
    """From its third batch on, an epoch is what it was: pixels, labels and shares."""
    whole, rest = list(batches("flip,color,rotation,mixup", 2)), list(batches("flip,color,rotation,mixup", 2, 1))
    assert len(whole) == len(rest) + 1
    for before, after in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_an_image_is_augmented_wherever_it_stands():
    """Another order of the images, which another seed draws, shows each of them the same in the same epoch."""
    plan, flips = training().plan, augmentation("flip,color")
    schedule = replace(plan.schedule, config=replace(plan.schedule.config, seed=5))
    shown = []
    for made in (plan.schedule, schedule):
        order = torch.cat(made.order(1))
        pixels = torch.cat([batch[0] for batch in EpochBatches(plan.train, made, flips, epoch=1)])
        shown.append(pixels[order.argsort()])
    assert torch.equal(*shown)


def test_the_images_in_memory_stay_as_they_are():
    """What an epoch shows is a copy: the decoded images of the next epoch are the same."""
    plan = training().plan
    before = plan.train.pixels.clone()
    list(EpochBatches(plan.train, plan.schedule, augmentation("flip=1,color,erase=1"), epoch=0))
    assert torch.equal(plan.train.pixels, before)
    assert torch.equal(before, images("train", 20).pixels)


def test_mixed_images_have_shares_of_classes():
    """With mixup a batch is predicted as shares, and without as labels; the scores are of the labels."""
    for _, labels, shares in batches("mixup=1"):
        assert shares.shape == (len(labels), 3)
        torch.testing.assert_close(shares.sum(1), torch.ones(len(labels)))
    assert all(labels is target for _, labels, target in batches("flip"))


def test_the_flag_stands_for_the_recipes_section(finetune, places, tmp_path):
    """--augment replaces [augmentation]; what was done is written down with the head, nothing where it was nothing."""
    where = recipe(places, tmp_path, "[augmentation]\nflip = 0.5\n")
    made = {text: finetune(**{**where, "data": None}, augment=text, epochs=1).fit.heads[0] for text in (None, "none")}
    assert [head.head.finetuned.get("augment") for head in made.values()] == ["flip", None]
    assert made[None].name != made["none"].name
    for text, words, strength in ((None, "--augment flip", "0.5"), ("none", "--augment none", "0.0")):
        page = tmp_path / "page.html"
        featcache.save_report(page, made[text].name, **where)
        assert words in page.read_text()
        assert re.search(rf'(&#34;|&quot;|")flip(&#34;|&quot;|"): {strength}', page.read_text())


def test_a_wrong_word_is_refused_before_anything_is_read(finetune):
    """--augment is checked first."""
    with pytest.raises(UsageError, match="--augment flop: found 'flop'"):
        finetune(augment="flop")


def test_a_cnn_is_trained_from_scratch_and_kept(places, tmp_path):
    """A recipe's cnn is trained, and its head predicts like any other, with the settings of its shape."""
    where = recipe(places, tmp_path, CNN)
    result = featcache.finetune(epochs=2, batch_size=8, workers=1, device="cpu", **where)
    assert result.parameters == result.learning_parameters == count_cnn_parameters(SHAPE, 32, classes=3)
    assert featcache.evaluate(**where).rows == 12
    again = featcache.finetune(epochs=2, batch_size=8, workers=1, device="cpu", **where)
    assert again.fit.heads[0].name == result.fit.heads[0].name
    (image,) = sorted((Path(places["data"]) / "test/0").iterdir())[:1]
    predictions = featcache.predict(None, [image], **where)
    assert (predictions.failed, predictions.probabilities.shape) == (("",), (1, 3))


def test_a_cnn_learns_digits(tmp_path):
    """From random weights, 300 scans are enough for over 90 % of 100 others (one fixed seed)."""
    classes = [str(digit) for digit in range(10)]
    root = write_images(tmp_path / "digits", {"train": dict.fromkeys(classes, 30), "test": dict.fromkeys(classes, 10)})
    text = CNN.replace("filters = 4", "filters = 16").replace("dense = 8", "dense = 64")
    where = recipe({"data": str(root), "cache": str(tmp_path / "cache")}, tmp_path, text)
    featcache.finetune(epochs=15, batch_size=30, lr=2e-3, device="cpu", **where)
    assert featcache.evaluate(**where).accuracy > 0.9


def test_the_blocks_of_a_cnn_are_its_five_and_the_dense_layer(tmp_path):
    """`--unfreeze 2` trains the dense layer and the last block, normalisation included."""
    section = TrunkSection(arch="cnn", weights="random", image_size=32, cnn={"filters": 2, "dense": 4})
    blocks = find_blocks(load_network(name_trunk(section, WeightsMemo(tmp_path))))
    assert [type(block).__name__ for block in blocks.blocks] == ["ConvolutionalBlock"] * 5 + ["Linear"]
