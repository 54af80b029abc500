"""Lightning's Trainer as the loop, without its own output: featcache says how far it is."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer

from featcache.errors import MachineError, UsageError
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.training import StoppedError, Training
from featcache.machine import core_quota
from featcache.trunks import is_out_of_memory

_PRECISIONS = {"none": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def run_training(
    training: Training, *, device: str, mixed: str, interruption: Interruption, accumulate: int, logger: Any = None
) -> None:  # fmt: skip
    """Train from where a training stands to its end.

    Args:
        training: At its beginning, or resumed.
        device: As torch calls it: "cpu", "cuda:0" or "mps".
        mixed: As the setting has it.
        interruption: What puts off signals; where one comes, the training is written down and ends.
        accumulate: Batches of a step.
        logger: Lightning's, which gets the scores of every epoch; None: none does.

    Raises:
        UsageError: arithmetic that the device does not have.
        MachineError: the device's memory does not suffice, or the disk refuses a checkpoint.
    """
    remaining = training.plan.config.epochs - training.state.epoch
    if remaining <= 0 or training.progress_of_head.stopped:
        return
    kind, _, number = device.partition(":")
    if mixed == "fp16" and kind != "cuda":
        raise UsageError(f"--mixed fp16 needs a CUDA device: found {device}; take bf16, or leave it out").correct(
            "--mixed", "bf16"
        )
    with _quietly(), _threads_of_quota(), torch.random.fork_rng(), interruption.deferred():
        options: dict[str, Any] = {"devices": [int(number)] if number else 1}
        trainer = Trainer(
            accelerator="gpu" if kind == "cuda" else kind, max_epochs=remaining, precision=_PRECISIONS[mixed],  # type: ignore[arg-type]
            gradient_clip_val=training.plan.config.clip_norm, accumulate_grad_batches=accumulate,
            reload_dataloaders_every_n_epochs=1, logger=logger or False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            num_sanity_val_steps=0, **options,
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
