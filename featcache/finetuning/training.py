"""The training as Lightning runs it: what a step computes, and what is written down between steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.averages import WeightAverage
from featcache.finetuning.batches import EpochBatches
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.images import SplitImages
from featcache.finetuning.loggers import figures_of
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.objectives import make_objective
from featcache.finetuning.schedule import Schedule, derive_seed
from featcache.finetuning.state import RunningScores, TrainingState
from featcache.heads import EpochRow, HeadConfig, Scores
from featcache.heads.training import HeadProgress

_DROPOUT = 3  # a purpose of random numbers
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
}  # fmt: skip


class StoppedError(Exception):
    """A person, or a batch system, has asked for the end; the checkpoint is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunePlan:
    """What is trained, on what, and how; nothing in it changes."""

    config: HeadConfig  # the settings that a linear head has, too
    schedule: Schedule
    train: SplitImages
    val: SplitImages | None
    select: str  # the metric on val that patience goes by
    layer_decay: float = 1.0
    ema: float = 0.0
    augmentation: TrainingAugmentation | None = None
    class_weights: tuple[float, ...] = ()  # (classes,) in the loss; () is the same for all
    checkpoint: Checkpoint | None = None
    checkpoint_seconds: float | None = None  # between checkpoints within an epoch; None: one after each epoch
    is_stopping: Callable[[], bool] = lambda: False  # asked after every step
    progress: Callable[[str, int, int], None] = lambda *_: None  # stage, images done, images to do
    gives_up: Callable[[Sequence[EpochRow]], bool] = lambda _: False  # asked after every epoch, with those so far


class Training(LightningModule):
    """One training; `state` and the network's tensors are all that it needs to go on."""

    def __init__(self, network: TrainableNetwork, plan: FinetunePlan, at_start: EpochRow | None = None) -> None:
        """Prepare a training, at its beginning.

        Args:
            network: As it starts.
            plan: What is trained, on what, and how.
            at_start: Epoch 0, the scores before the first step, where the training starts from a head.
        """
        super().__init__()
        self.network, self.plan = network, plan
        self.classes = len(plan.train.listing.classes)
        self.state = TrainingState(self._no_scores())
        self.average = WeightAverage(network, plan.ema)
        self.best: dict[str, Tensor] = {}  # of the best epoch so far, where patience keeps it
        self.optimizer_tensors: dict[str, Tensor] = {}  # of a checkpoint, until there is an optimizer
        self.saved = time.monotonic()
        self.lr_factor = 1.0
        self.on_ready: Callable[[], None] = lambda: None  # called once Lightning is about to begin
        self.objective = make_objective(plan.config, plan.train.labels, self.classes, plan.class_weights)
        if at_start is not None:
            self.state.history.append(at_start)
            if plan.config.patience is not None:
                self.best = _copies(network.learning_tensors())

    @property
    def progress_of_head(self) -> HeadProgress:
        """What patience and a plateau make of the epochs so far."""
        progress = HeadProgress(self.plan.config, self.plan.select)
        for row in self.state.history:
            progress.record_epoch(row.epoch, row.train, row.val)
        return progress

    def _no_scores(self) -> RunningScores:
        return RunningScores(np.zeros((self.classes, self.classes), np.int64))

    # What Lightning asks for

    def train_dataloader(self) -> EpochBatches:
        """Return the batches of the next epoch; of one that was begun, the rest of it."""
        plan = self.plan
        return EpochBatches(
            plan.train, plan.schedule, plan.augmentation, epoch=self.state.epoch, first=self.state.batch
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, as a checkpoint left it."""
        config = self.plan.config
        groups = self.network.parameter_groups(self.plan.layer_decay, config.weight_decay)
        options = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
        optimizer = _OPTIMIZERS[config.optimizer](groups, lr=config.lr, **options)
        if self.optimizer_tensors:
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in self.optimizer_tensors.items():
                number, _, key = name.partition(".")
                state.setdefault(int(number), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            self.optimizer_tensors = {}
        return optimizer

    def on_train_start(self) -> None:
        """Go on with the scale of the loss that a checkpoint has, and tell whoever waits that Lightning has begun."""
        if self.state.scaler:
            self.trainer.precision_plugin.load_state_dict(self.state.scaler)
        begins_anew = self.state.step == 0 or any(isinstance(logger, CSVLogger) for logger in self.trainer.loggers)
        for row in self.state.history if begins_anew else ():  # epoch 0, and what a new table has to hold again
            self._log_epoch(row)
        self.on_ready()

    def on_train_epoch_start(self) -> None:
        """Put what learns in training mode: scoring leaves all of the network in evaluation mode."""
        self.network.train_learning_parts()
        self.lr_factor = self.progress_of_head.lr_factor

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _index: int) -> Tensor:
        """Return the loss of one batch."""
        pixels, labels, target = batch
        torch.manual_seed(derive_seed(self.plan.config.seed, _DROPOUT, self.state.epoch, self.state.batch))
        outputs = self.network(pixels)
        loss = self.objective.loss(outputs, target)
        self.objective.record(self.state.running, outputs.detach().float(), labels)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of each group for this step."""
        lr = self.plan.schedule.lr(self.state.step, self.lr_factor)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def on_train_batch_end(self, _outputs: Any, _batch: Any, _index: int) -> None:
        """Count what is done; between two steps, write a checkpoint where it is time, or an end was asked for."""
        plan, state, schedule = self.plan, self.state, self.plan.schedule
        is_step = schedule.ends_step(state.batch)
        state.batch += 1
        done = state.epoch * schedule.rows + min(state.batch * plan.config.batch_size, schedule.rows)
        plan.progress(f"epoch {state.epoch + 1} of {plan.config.epochs}", done, plan.config.epochs * schedule.rows)
        if not is_step:
            return
        state.step += 1
        self.average.update()
        if state.batch < schedule.batches:  # else the epoch's end does it
            self._save_between_steps()

    def _save_between_steps(self) -> None:
        """Write a checkpoint where it is time for one, or an end was asked for.

        Raises:
            StoppedError: an end was asked for.
        """
        seconds = self.plan.checkpoint_seconds
        is_stopping = self.plan.is_stopping()
        if is_stopping or (seconds is not None and time.monotonic() - self.saved >= seconds):
            self.save()
        if is_stopping:
            raise StoppedError

    def on_train_epoch_end(self) -> None:
        """Score val, write the epoch down, and stop where patience has run out."""
        state, plan = self.state, self.plan
        on_val = None if plan.val is None else self.score(plan.val)
        state.history.append(EpochRow(state.epoch + 1, state.running.scores(), on_val))
        self._log_epoch(state.history[-1])
        state.epoch, state.batch, state.running = state.epoch + 1, 0, self._no_scores()
        progress = self.progress_of_head
        if progress.best_epoch == state.epoch:
            with self.average.in_place():
                self.best = _copies(self.network.learning_tensors())
        self.save()
        is_done = progress.stopped or plan.gives_up(state.history)
        if plan.is_stopping() and state.epoch < plan.config.epochs and not is_done:
            raise StoppedError
        if is_done:
            self.trainer.should_stop = True

    def _log_epoch(self, row: EpochRow) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(figures_of(row), step=row.epoch)

    # Scores, and what is kept

    def score(self, images: SplitImages) -> Scores:
        """Return the scores of the network as it would be kept, on these images."""
        with self.average.in_place():
            head = self.objective.finished(self.network.linear_head(self.plan.config))
            return self.objective.score(head, embed_images(self.network, images, self.plan.config.batch_size))[1]

    def save(self) -> None:
        """Replace the checkpoint by one of this moment."""
        self.saved = time.monotonic()
        if self.plan.checkpoint is None:
            return
        optimizer = self.trainer.optimizers[0].state_dict()["state"]
        self.state.scaler = self.trainer.precision_plugin.state_dict()
        self.plan.checkpoint.save(
            {
                **{f"network.{name}": value for name, value in self.network.learning_tensors().items()},
                **{f"average.{name}": value for name, value in self.average.tensors.items()},
                **{f"best.{name}": value for name, value in self.best.items()},
                **{
                    f"optimizer.{number}.{key}": value
                    for number, entries in optimizer.items()
                    for key, value in entries.items()
                    if isinstance(value, Tensor)
                },
            },
            self.state.to_json(),
        )

    def resume(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            tensors: As `save` wrote them.
            state: Likewise.

        Raises:
            ValueError: it is of another training.
        """
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("network", "average", "best", "optimizer")}
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        self.state = TrainingState.from_json(state)
        self.network.load_learning_tensors(parts["network"])
        self.average.tensors, self.best = parts["average"], parts["best"]
        self.optimizer_tensors = parts["optimizer"]

    def keep(self) -> int | None:
        """Put the weights that are kept in place: those of the best epoch where patience chose one, else the last.

        Returns:
            The best epoch; None where every epoch was trained and the last is kept.
        """
        if self.best:
            self.network.load_learning_tensors(self.best)
        elif self.average.tensors:
            self.average.put_in_place()
        self.network.trunk.eval()
        return self.progress_of_head.best_epoch


def embed_images(network: TrainableNetwork, images: SplitImages, batch_size: int) -> "Any":
    """Yield what the head reads of images, (n, width) float32, and their labels as `SplitImages` has them.

    The network computes in evaluation mode.

    Args:
        network: It stays in evaluation mode.
        images: A split.
        batch_size: Images in one forward.
    """
    network.eval()
    device, labels = network.head.weight.device, images.labels
    order = list(torch.split(torch.arange(len(images)), batch_size))
    with torch.no_grad():
        for rows, pixels in zip(order, images.batches(order), strict=True):
            yield network.embed(pixels.to(device)).float().cpu().numpy(), labels[rows].numpy()


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
