"""A training in several processes: it ends with the weights of one, and stops as one does."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import featcache
from featcache.errors import UsageError
from featcache.finetuning import FinetuneProgress
from featcache.finetuning.ranks import Ranks
from featcache.finetuning.several_devices import choose_training_devices
from tests.conftest import write_images
from tests.finetuning.small import augmentation, training

COUNTS = {"train": {"0": 17, "1": 11, "2": 9}, "val": {"0": 6, "1": 6, "2": 5}}
SHAPE = {"filters": 8, "filter_size": "3", "dense": 16, "progression": "constant", "batch_norm": False}
PLANS = {
    "plain": {},
    "weighted": {"class_weights": (0.2, 1.0, 3.0)},
    "mixed": {"augmentation": augmentation("flip,mixup")},
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("size", [2, 3, 5])  # the last batch has 4 rows
def test_the_mean_over_devices_is_the_loss_of_the_batch(name, size):
    """Each device's loss of its rows, weighted by its share, has the mean over devices that one device computes."""

    def losses(ranks: Ranks) -> list[torch.Tensor]:
        of = training(plan=PLANS[name])
        of.plan = replace(of.plan, ranks=ranks)
        return [of.training_step(batch, index).detach() for index, batch in enumerate(of.train_dataloader())]

    parts = [losses(Ranks(rank, size)) for rank in range(size)]
    means = [torch.stack(each).mean() for each in zip(*parts, strict=True)]
    torch.testing.assert_close(means, losses(Ranks()), atol=1e-6, rtol=1e-6)


def test_every_row_is_counted_once():
    """The scores on train count each image of a batch on one device, also where each device has the batch whole."""
    rows = 0
    for rank in range(5):
        of = training()
        of.plan = replace(of.plan, ranks=Ranks(rank, 5))
        for index, batch in enumerate(of.train_dataloader()):
            of.training_step(batch, index)
        rows += int(of.state.running.confusion.sum())
    assert rows == len(training().plan.train)


def test_devices_of_two_kinds_are_refused():
    """Devices that train together are of one kind; the CPU may be named several times."""
    assert [each.device for each in choose_training_devices("cpu,cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match=r"no such device|names the same device twice|expected"):
        choose_training_devices("cpu,tpu")


@pytest.fixture
def finetune(tmp_path):
    """Train a tiny cnn of 32 pixels on digits from scratch, in a cache of this name."""
    data = str(write_images(tmp_path / "digits", COUNTS))

    def call(cache: str, device: str, **settings) -> featcache.Finetuned:
        return featcache.finetune(
            data=data, cache=str(tmp_path / cache), arch="cnn", image_size=32, cnn=SHAPE, start="scratch", epochs=3,
            batch_size=15, lr=1e-2, class_weights="balanced", precision="fp32", workers=1, device=device, **settings,
        )  # fmt: skip

    return call


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(finetune, tmp_path):
    """Stopped by Ctrl-C and started again, two processes end with the weights and scores of one, to 1e-5."""
    alone, written = finetune("alone", "cpu"), []

    def stop(now: FinetuneProgress) -> None:
        if now.stage == "epoch 2 of 3" and not written:
            written.append(now.done)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        finetune("together", "cpu,cpu", progress=stop)
    (document,) = (tmp_path / "together").glob("finetuned/unfinished/*/checkpoint.json")
    assert json.loads(document.read_text())["state"]["epoch"] in (1, 2)
    together = finetune("together", "cpu,cpu")

    assert together.resumed_from in (1, 2)
    torch.testing.assert_close(load_file(together.weights), load_file(alone.weights), atol=1e-5, rtol=0)
    ours, one = together.fit.heads[0].head, alone.fit.heads[0].head
    torch.testing.assert_close(torch.from_numpy(ours.weight), torch.from_numpy(one.weight), atol=1e-5, rtol=0)
    for row, other in zip(ours.history, one.history, strict=True):
        assert (row.train.accuracy, row.val.accuracy) == (other.train.accuracy, other.val.accuracy)
        assert row.train.loss == pytest.approx(other.train.loss, abs=1e-5)
