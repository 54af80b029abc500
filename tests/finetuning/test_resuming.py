"""A training that was stopped goes on from its checkpoint, and ends as if it had not been stopped."""

import errno
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

from featcache.errors import CacheError, MachineError
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.training import Training
from tests.finetuning.small import augmentation, resumed, run, training

PLANS = {
    "plain": {},
    "sgd": {"optimizer": "sgd", "schedule": "plateau", "plateau_epochs": 1},
    "averaged": {"plan": {"ema": 0.5, "layer_decay": 0.7}, "accumulate": 2, "warmup": 1.0},
    "augmented": {"plan": {"augmentation": augmentation("flip,crop=0.3,rotation,mixup,cutmix")}},
    "patient": {"patience": 1, "lr": 1.0, "epochs": 6, "unfreeze": None},
}


class _Killed(BaseException):
    """What a kill is to a process that is only looked at afterwards."""


class _DeadlyCheckpoint(Checkpoint):
    """A checkpoint whose process dies right after it was written so many times."""

    saves = 1

    def save(self, *what):
        super().save(*what)
        self.saves -= 1
        if not self.saves:
            raise _Killed


def _outcome(of: Training) -> tuple[list[torch.Tensor], list[object]]:
    of.keep()
    return list(of.network.state_dict().values()), of.state.history


@pytest.mark.parametrize("saves", [1, 2, 4])
@pytest.mark.parametrize("name", PLANS)
def test_a_training_that_died_ends_with_the_same_weights(name, saves, tmp_path):
    """Killed within an epoch or at its end, a training ends with the very bits of one that was not."""
    weights, history = _outcome(run(training(**PLANS[name])))
    deadly = _DeadlyCheckpoint(tmp_path, "name")
    deadly.saves = saves
    dying = training(**PLANS[name])
    dying.plan = replace(dying.plan, checkpoint=deadly, checkpoint_seconds=0.0)
    with pytest.raises(_Killed):
        run(dying)

    again, same_history = _outcome(run(resumed(training(**PLANS[name]), Checkpoint(tmp_path, "name"))))
    assert all(torch.equal(*pair) for pair in zip(weights, again, strict=True))
    assert same_history == history


def test_the_scale_of_the_loss_in_float16_goes_on_too(tmp_path, monkeypatch):
    """What float16 multiplies the loss by, which grows and shrinks from step to step, is kept with the tensors."""

    def half_precision(_):  # which Lightning does not offer on a CPU, where it runs slowly
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", growth_interval=2))

    monkeypatch.setattr(_AcceleratorConnector, "_check_and_init_precision", half_precision)
    whole = training()
    whole.plan = replace(whole.plan, checkpoint=Checkpoint(tmp_path, "whole"))
    weights, history = _outcome(run(whole))
    assert whole.state.scaler["scale"] > 2**16

    deadly = _DeadlyCheckpoint(tmp_path, "name")
    deadly.saves = 4
    dying = training()
    dying.plan = replace(dying.plan, checkpoint=deadly, checkpoint_seconds=0.0)
    with pytest.raises(_Killed):
        run(dying)
    going_on = resumed(training(), Checkpoint(tmp_path, "name"))
    going_on.plan = replace(going_on.plan, checkpoint=Checkpoint(tmp_path, "name"))
    again, same_history = _outcome(run(going_on))
    assert going_on.state.scaler == whole.state.scaler
    assert all(torch.equal(*pair) for pair in zip(weights, again, strict=True))
    assert same_history == history


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_that_is_asked_for_is_written_down_first(number, tmp_path):
    """A signal waits for the step that is being made and for its checkpoint; then its own handler is called."""
    weights, history = _outcome(run(training()))
    checkpoint, interruption, stopping = Checkpoint(tmp_path, "name"), Interruption(), training()

    def progress(stage, done, total):
        if done == 28:  # the first batch of the second epoch
            signal.raise_signal(number)

    stopping.plan = replace(
        stopping.plan, checkpoint=checkpoint, is_stopping=interruption.is_requested, progress=progress
    )
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(stopping, interruption)
    finally:
        signal.signal(number, before)

    going_on = resumed(training(), checkpoint)
    assert (going_on.state.epoch, going_on.state.batch) == (1, 1)
    again, same_history = _outcome(run(going_on))
    assert all(torch.equal(*pair) for pair in zip(weights, again, strict=True))
    assert same_history == history


@pytest.mark.parametrize("damaged", ["*.safetensors", "checkpoint.json"])
def test_a_checkpoint_cut_in_half_is_refused(damaged, tmp_path):
    """A checkpoint that is not whole is an error that names it and the way out, and nothing is removed."""
    checkpoint = Checkpoint(tmp_path, "name")
    checkpoint.save({"network.head": torch.arange(100.0)}, {"step": 3, "batch": 0})
    (path,) = checkpoint.folder.glob(damaged)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(CacheError, match=f"{path.name}: damaged.*remove its folder, and the training begins again"):
        checkpoint.load()
    assert path.exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    """Where the disk refuses a checkpoint, the one before it is whole, and the error says the way out."""
    checkpoint = Checkpoint(tmp_path, "name")
    checkpoint.save({"network.head": torch.zeros(9)}, {"step": 1, "batch": 0})

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(MachineError, match=r"No space left.*make room"):
        checkpoint.save({"network.head": torch.ones(9)}, {"step": 2, "batch": 0})
    tensors, state = checkpoint.load()
    assert (tensors["network.head"].sum(), state["step"]) == (0, 1)


def test_the_same_call_goes_on_and_other_images_do_not(finetune, places, monkeypatch, tmp_path):
    """Stopped after an epoch, the same call goes on to the same file of weights; with another image it begins anew."""
    data = shutil.copytree(places["data"], tmp_path / "digits")
    settings = {"unfreeze": 1, "lr": 1e-2, "epochs": 2, "data": str(data)}
    whole = finetune(**settings, cache=str(tmp_path / "whole"))
    save = Checkpoint.save

    def save_and_die(self, *what):
        save(self, *what)
        raise _Killed

    def finetune_and_die():
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "save", save_and_die)
            with pytest.raises(_Killed):
                finetune(**settings, cache=str(tmp_path / "cache"))

    finetune_and_die()
    again = finetune(**settings, cache=str(tmp_path / "cache"))
    assert again.resumed_from == 1
    assert again.weights.name == whole.weights.name
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    assert again.fit.heads[0].head.history == whole.fit.heads[0].head.history
    unfinished = tmp_path / "cache" / "finetuned" / "unfinished"
    assert not unfinished.exists()
    for _ in range(2):
        min((data / "train" / "0").iterdir()).unlink()
        finetune_and_die()
    assert len(list(unfinished.iterdir())) == 2
