"""Where a training starts: at the trunk's weights, at random ones, or at a head that was trained before."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.errors import DataError
from featcache.finetuning.settings import finetune_section
from featcache.finetuning.start import find_start
from featcache.heads.saved.linear import read_history
from tests.conftest import ARCH, write_images
from tests.finetuning.conftest import COUNTS, TRUNK_SETTINGS
from tests.finetuning.small import run, training


def test_a_start_from_a_head_begins_at_its_own_score(trained_head, finetune, places):
    """LP-FT's epoch 0 is the head's score to the last bit; the network's own forward gives it, and the store stays."""
    head = trained_head.best.head
    root = trained_head.best.folder.parents[3]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    result = finetune(start=f"head {trained_head.best.name}", lr=1e-12, weight_decay=0.0, epochs=1)

    assert (result.at_start.train, result.at_start.val) == (head.train, head.val)
    columns = read_history(result.fit.heads[0].folder)
    assert columns["epoch"] == (0.0, 1.0)
    assert columns["val_accuracy"][0] == head.val.accuracy
    unmoved = result.fit.heads[0].head.val
    assert (unmoved.accuracy, unmoved.macro_recall) == (head.val.accuracy, head.val.macro_recall)
    assert unmoved.loss == pytest.approx(head.val.loss, rel=1e-5)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_head_alone_learns_what_fit_head_learns(trained_head, finetune, places):
    """With all but the head frozen, fine-tuning on the same batches gives fit-head's weights to 1e-5."""
    settings = {
        "lr": 0.1, "epochs": 3, "batch_size": 8, "optimizer": "sgd", "weight_decay": 0.01, "label_smoothing": 0.1,
        "class_weights": "balanced", "warmup": 1.0,
    }  # fmt: skip
    trunk = {"store": trained_head.best.folder.parents[3].name}
    frozen = featcache.fit_head(check_seconds=None, **settings, **places, **trunk).best.head
    tuned = finetune(unfreeze=0, **settings).fit.heads[0].head

    scale = float(np.abs(frozen.weight).max())
    assert np.abs(tuned.weight - frozen.weight).max() < 1e-5 * scale
    assert np.abs(tuned.bias - frozen.bias).max() < 1e-5 * scale


def test_frozen_and_tuned_are_compared_on_the_same_rows(trained_head, finetune, places):
    """A tuned head is one like any other: a report against the frozen one, compare, predict and the page take it."""
    result = finetune(start=f"head {trained_head.best.name}", lr=1e-3, head_name="tuned")
    data = {name: places[name] for name in ("data", "cache")}
    pair = featcache.evaluate_pair("tuned", trained_head.best.name, **data)

    assert pair.first.head == result.fit.heads[0].name
    assert pair.accuracy == pair.first.accuracy - pair.second.accuracy
    assert result.fit.heads[0].name in [head.name for head in featcache.compare(**data).heads]
    image = min((Path(places["data"]) / "test").rglob("*.png"))
    assert featcache.predict("tuned", [str(image)], **data).failed == ("",)
    page = Path(places["cache"]) / "page.html"
    featcache.save_report(page, "tuned", **data)
    assert f"featcache finetune --data {places['data']}" in page.read_text()
    assert "Not available: the trunk was trained with this head" in page.read_text()


def test_without_a_name_it_is_the_network_that_embedded_the_images(trained_head, places):
    """As in stage two, where the store may be named; from scratch it is that network with random weights."""
    store = trained_head.best.folder.parents[3].name
    request = DatasetRequest(**places, store=store)
    for start in ("weights", "scratch"):
        source = find_start(request, finetune_section(request.recipe, {"start": start}), request.recipe.trunk).source
        assert source.arch_name == ARCH
        assert (source.section.weights == "random") == (start == "scratch")


def test_a_network_is_trained_from_scratch(finetune, other_cache):
    """From random weights the whole network learns, in a cache without a store of the data set."""
    result = finetune(start="scratch", lr=1e-3, epochs=2, cache=other_cache)

    head = result.fit.heads[0]
    assert result.learning_parameters == result.parameters
    assert head.head.finetuned == {"start": "scratch"}
    assert head.folder.is_relative_to(Path(other_cache) / "stores")
    assert head.head.train.loss < np.log(3)


def test_weights_beside_random_ones_are_refused(finetune):
    """--weights FILE has no effect with --from scratch, and is not passed over."""
    with pytest.raises(featcache.UsageError, match="--weights has no effect with --from scratch"):
        finetune(start="scratch", weights="other.pth")


def test_random_weights_follow_from_the_seed(places, other_cache):
    """From scratch another seed begins with other weights, and the same seed with the same ones."""
    request = DatasetRequest(data=places["data"], cache=other_cache)
    recipe = request.recipe.override("trunk", **TRUNK_SETTINGS)

    def first_weights(seed: int) -> torch.Tensor:
        section = finetune_section(recipe, {"start": "scratch", "seed": seed})
        return find_start(request, section, recipe.trunk).load().module.conv_proj.weight

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


def test_only_the_last_blocks_learn():
    """With unfreeze 1 the last block, what stands behind it and the head change, and no other tensor does."""
    small = training(unfreeze=1, epochs=1)
    before = {name: value.clone() for name, value in small.network.trunk.state_dict().items()}
    run(small)

    changed = {name for name, value in small.network.trunk.state_dict().items() if not torch.equal(value, before[name])}
    last = max(name.split(".")[2] for name in before if name.startswith("encoder.layers"))
    assert {name.split(".")[2] for name in changed if name.startswith("encoder.layers")} == {last}
    assert "encoder.ln.weight" in changed
    assert not {"class_token", "conv_proj.weight", "encoder.pos_embedding"} & changed


def test_more_blocks_than_there_are_is_refused():
    """A network of fewer blocks says how many it has."""
    with pytest.raises(featcache.UsageError, match=r"--unfreeze 99: this network has \d+ blocks; leave --unfreeze out"):
        training(unfreeze=99)


def test_the_learning_rate_falls_from_block_to_block():
    """Layer-wise decay: the head and what stands behind the last block at 1, each block at 0.5 of the next."""
    groups = training(unfreeze=None).network.parameter_groups(0.5, 0.1)
    scales = sorted({group["lr_scale"] for group in groups}, reverse=True)
    assert scales == [0.5**depth for depth in range(len(scales))]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert all(parameter.ndim > 1 for group in groups if group["weight_decay"] for parameter in group["params"])


def test_a_head_of_other_classes_is_refused(trained_head, finetune, places, tmp_path):
    """A class that the head does not know is an error in one sentence, and the head is still there."""
    counts = {**COUNTS, "train": {**COUNTS["train"], "7": 3}}
    other = write_images(tmp_path / "digits", counts)

    with pytest.raises(featcache.CacheError, match="7") as raised:
        finetune(start="head 1", data=str(other), name="digits")
    assert "\n" not in str(raised.value)
    assert trained_head.best.folder.is_dir()


def test_bad_images_are_named_and_no_option_that_is_not_there(finetune, places, tmp_path):
    """More than 1 % unreadable: each by its path, and the way out is one that finetune has."""
    shutil.copytree(places["data"], tmp_path / "broken")
    (tmp_path / "broken" / "train" / "0" / "0003.png").write_bytes(b"no image")
    with pytest.raises(DataError) as refused:
        finetune(data=str(tmp_path / "broken"), cache=str(tmp_path / "cache"))
    assert "more than the 1.00 % that may be left out.\n  train/0/0003.png: no image" in str(refused.value)
    assert "--max-bad" not in str(refused.value)
