"""Lightning's Trainer as the loop, without its own output: featcache says how far it is."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from featcache.errors import MachineError, UsageError
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.plan import StoppedError
from featcache.finetuning.training import Training
from featcache.machine import core_quota
from featcache.trunks import is_out_of_memory

_PRECISIONS = {"none": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def run_training(
    training: Training, *, device: str, mixed: str, interruption: Interruption, accumulate: int, logger: Any = None,
    together: Sequence[str] = (),
) -> None:  # fmt: skip
    """Train from where a training stands to its end.

    Args:
        training: At its beginning, or resumed.
        device: As torch calls it: "cpu", "cuda:0" or "mps".
        mixed: As the setting has it.
        interruption: What puts off signals; where one comes, the training is written down and ends.
        accumulate: Batches of a step.
        logger: Lightning's, which gets the scores of every epoch; None: none does.
        together: All devices that train together, this one among them; () is this one alone.

    Raises:
        UsageError: arithmetic that the device does not have.
        MachineError: the device's memory does not suffice, or the disk refuses a checkpoint.
    """
    if is_over(training):
        return
    require_arithmetic(mixed, device)
    with _quietly(), _threads_of_quota(), torch.random.fork_rng(), interruption.deferred():
        trainer = Trainer(
            max_epochs=training.plan.config.epochs - training.state.epoch, precision=_PRECISIONS[mixed],  # type: ignore[arg-type]
            gradient_clip_val=training.plan.config.clip_norm, accumulate_grad_batches=accumulate,
            reload_dataloaders_every_n_epochs=1, logger=logger or False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            num_sanity_val_steps=0, **_devices(device, together),
        )  # fmt: skip
        training.on_ready = interruption.listen  # Lightning has handlers of its own, once it has begun
        try:
            trainer.fit(training)
        except StoppedError:
            return
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MachineError(
                    f"{device}: out of memory for a batch of {training.plan.config.batch_size} images; take a smaller "
                    f"--batch-size, with --accumulate for as many images a step"
                ) from None
            raise


def is_over(training: Training) -> bool:
    """Return whether every epoch is trained, or patience has run out.

    Args:
        training: Where it stands.
    """
    return training.state.epoch >= training.plan.config.epochs or training.progress_of_head.stopped


def require_arithmetic(mixed: str, device: str) -> None:
    """Refuse arithmetic that a device does not have.

    Args:
        mixed: As the setting has it.
        device: As torch calls it.

    Raises:
        UsageError: it does not have it.
    """
    if mixed == "fp16" and not device.startswith("cuda"):
        raise UsageError(f"--mixed fp16 needs a CUDA device: found {device}; take bf16, or leave it out").correct(
            "--mixed", "bf16"
        )


def _devices(device: str, together: Sequence[str]) -> dict[str, Any]:
    """Return what Lightning's Trainer is told of the devices."""
    kind, _, number = device.partition(":")
    accelerator = "gpu" if kind == "cuda" else kind
    if not together:
        return {"accelerator": accelerator, "devices": [int(number)] if number else 1}
    numbers = [int(name.partition(":")[2] or 0) for name in together]
    # A layer before the last block leaves what stands behind it without gradients.
    return {
        "accelerator": accelerator, "devices": numbers if kind == "cuda" else len(together),
        "strategy": DDPStrategy(find_unused_parameters=True), "plugins": [LightningEnvironment()],
    }  # fmt: skip


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Lightning's own output off."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning(_fabric|\.).*")
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\..*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _threads_of_quota() -> Iterator[None]:
    """Have no more threads than the control groups pay for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, core_quota() or threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
