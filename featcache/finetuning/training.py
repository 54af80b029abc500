"""The training as Lightning runs it: what a step computes, and what is written down between steps."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from featcache.finetuning.averages import WeightAverage
from featcache.finetuning.batches import EpochBatches
from featcache.finetuning.images import SplitImages
from featcache.finetuning.loggers import figures_of
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.objectives import make_objective
from featcache.finetuning.plan import FinetunePlan, StoppedError
from featcache.finetuning.schedule import derive_seed
from featcache.finetuning.state import RunningScores, TrainingState
from featcache.heads import EpochRow, Scores
from featcache.heads.training import HeadProgress

_DROPOUT = 3  # a purpose of random numbers
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
}  # fmt: skip


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
        self.batches: EpochBatches  # of the epoch that is being trained
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
        self.batches = EpochBatches(
            plan.train, plan.schedule, plan.augmentation, epoch=self.state.epoch, first=self.state.batch,
            ranks=plan.ranks,
        )  # fmt: skip
        return self.batches

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

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch; on several devices, of this one's rows, so that the mean over devices is it."""
        (pixels, labels, target), ranks = batch, self.plan.ranks
        own = [ranks.rank] if ranks.rank else []  # which alone draws what it would draw on one device
        torch.manual_seed(derive_seed(self.plan.config.seed, _DROPOUT, self.state.epoch, self.state.batch, *own))
        outputs = self.network(pixels)
        loss = self.objective.loss(outputs, target)
        rows = self.batches.order[index]
        if ranks.counts(rows):
            self.objective.record(self.state.running, outputs.detach().float(), labels)
        return loss if ranks.size == 1 else loss * self._share(rows, target)

    def _share(self, rows: Tensor, target: Tensor) -> float:
        """Return what this device's mean loss counts in the mean over devices.

        With w the weights of the images (`TrainingObjective.weigh`), R the devices and r this one, the batch's loss is
        sum_r w_r loss_r / sum_r w_r, and DistributedDataParallel takes sum_r / R: the share is R w_r / sum_r w_r.
        """
        ranks = self.plan.ranks
        if len(rows) < ranks.size:
            return 1.0
        whole = rows if target.is_floating_point() else self.batches.labels[rows]
        return ranks.size * self.objective.weigh(ranks.part(whole)) / self.objective.weigh(whole)

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
        is_due = seconds is not None and time.monotonic() - self.saved >= seconds
        is_stopping, is_due = self.plan.ranks.agree(self.plan.is_stopping(), is_due)
        if is_stopping or is_due:
            self.save()
        if is_stopping:
            raise StoppedError

    def on_train_epoch_end(self) -> None:
        """Score val, write the epoch down, and stop where patience has run out."""
        state, plan = self.state, self.plan
        on_val = None if plan.val is None else self.score(plan.val)
        state.history.append(EpochRow(state.epoch + 1, state.running.over(plan.ranks).scores(), on_val))
        self._log_epoch(state.history[-1])
        state.epoch, state.batch, state.running = state.epoch + 1, 0, self._no_scores()
        progress = self.progress_of_head
        if progress.best_epoch == state.epoch:
            with self.average.in_place():
                self.best = _copies(self.network.learning_tensors())
        self.save()
        is_done, is_stopping = plan.ranks.agree(progress.stopped or plan.gives_up(state.history), plan.is_stopping())
        if is_stopping and state.epoch < plan.config.epochs and not is_done:
            raise StoppedError
        if is_done:
            self.trainer.should_stop = True

    def _log_epoch(self, row: EpochRow) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(figures_of(row), step=row.epoch)

    # Scores, and what is kept

    def score(self, images: SplitImages) -> Scores:
        """Return the scores of the network as it would be kept, on these images."""
        batches = list(torch.split(torch.arange(len(images)), self.plan.config.batch_size))
        with self.average.in_place():
            self.plan.ranks.share_buffers(self.network)
            head = self.objective.finished(self.network.linear_head(self.plan.config))
            return self.objective.score(head, self._embed(images, batches))[1]

    def _embed(self, images: SplitImages, batches: Sequence[Tensor]) -> "Any":
        """Return what the head reads of images, and their labels, in blocks; each device embeds some of the batches."""
        ranks = self.plan.ranks
        if ranks.size == 1:
            return embed_images(self.network, images, batches)
        x = torch.zeros(len(images), self.network.head.in_features)
        own = batches[ranks.rank :: ranks.size]
        for rows, (block, _) in zip(own, embed_images(self.network, images, own), strict=True):
            x[rows] = torch.from_numpy(block)
        return [(ranks.add_up(x).numpy(), images.labels.numpy())]

    def save(self) -> None:
        """Replace the checkpoint by one of this moment."""
        self.saved, ranks = time.monotonic(), self.plan.ranks
        if self.plan.checkpoint is None:
            return
        self.state.scaler = self.trainer.precision_plugin.state_dict()
        state = replace(self.state, running=self.state.running.over(ranks))
        if ranks.is_first:
            optimizer = self.trainer.optimizers[0].state_dict()["state"]
            self.plan.checkpoint.save(self.checkpoint_tensors(optimizer), state.to_json())

    def checkpoint_tensors(self, optimizer: Mapping[int, Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return every tensor of a checkpoint, by name.

        Args:
            optimizer: The state of each parameter; {} before the first step.
        """
        return {
            **{f"network.{name}": value for name, value in self.network.learning_tensors().items()},
            **{f"average.{name}": value for name, value in self.average.tensors.items()},
            **{f"best.{name}": value for name, value in self.best.items()},
            **{
                f"optimizer.{number}.{key}": value
                for number, entries in optimizer.items()
                for key, value in entries.items()
                if isinstance(value, Tensor)
            },
        }

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
        if not self.plan.ranks.is_first:
            self.state.running = self._no_scores()  # the first device has those of all
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


def embed_images(network: TrainableNetwork, images: SplitImages, batches: Sequence[Tensor]) -> "Any":
    """Yield what the head reads of images, (n, width) float32, and their labels as `SplitImages` has them.

    The network computes in evaluation mode.

    Args:
        network: It stays in evaluation mode.
        images: A split.
        batches: Of each forward, which images, (n,) int64.
    """
    network.eval()
    device, labels = network.head.weight.device, images.labels
    with torch.no_grad():
        for rows, pixels in zip(batches, images.batches(batches), strict=True):
            yield network.embed(pixels.to(device)).float().cpu().numpy(), labels[rows].numpy()


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
