"""A training where it stands: at its beginning, or at the checkpoint of one that was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featcache.errors import CacheError
from featcache.extraction import Placement
from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.command import FinetuneJob
from featcache.finetuning.identity import identify_training
from featcache.finetuning.images import SplitImages
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.loggers import LoggerChoice
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.objectives import make_objective
from featcache.finetuning.plan import FinetunePlan
from featcache.finetuning.running import is_over, require_arithmetic, run_training
from featcache.finetuning.schedule import Schedule
from featcache.finetuning.settings import head_config, training_name
from featcache.finetuning.several_devices import train_on_devices
from featcache.finetuning.start import SAMPLE, require_same_network
from featcache.finetuning.training import Training
from featcache.finetuning.trunk_file import name_tensors
from featcache.heads import EpochRow, HeadConfig
from featcache.heads.training import balanced_label_weights, class_weights
from featcache.recipe import LABELS
from featcache.store import digest_column

if TYPE_CHECKING:
    from featcache.trunks.libraries import LoadedNetwork


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTraining:
    """A training where it stands: at its beginning, or at its checkpoint."""

    job: FinetuneJob
    training: Training
    network: "LoadedNetwork"
    names: dict[str, str]  # of the network's tensors, in a file of weights: their names in the module
    checkpoint: Checkpoint
    resumed_from: int | None  # the epoch, from 0; None where it begins

    @property
    def name(self) -> str:
        """What stands for the training, the same in every run of it."""
        return self.checkpoint.folder.name

    def run(
        self, *, devices: Sequence[Placement], checkpoint_minutes: float | None,
        progress: Callable[[str, int, int], None], gives_up: Callable[[Sequence[EpochRow]], bool] = lambda _: False,
        logger: LoggerChoice | None = None,
    ) -> None:  # fmt: skip
        """Train from where it stands to its end.

        Args:
            devices: Where; several train together, each in a process of its own.
            checkpoint_minutes: As for `finetune`.
            progress: Gets the stage, the images done, and those to do.
            gives_up: Asked after every epoch, with all so far, whether this training is not worth going on with; of
                several devices it is not asked.
            logger: Where the scores of every epoch go, too.

        Raises:
            FeatcacheError: as `run_training`, or `train_on_devices`.
        """
        interruption, section = Interruption(), self.job.section
        seconds = None if checkpoint_minutes is None else 60 * checkpoint_minutes
        if len(devices) > 1:
            self._run_together(devices, checkpoint_seconds=seconds, progress=progress, logger=logger)
            return
        self.training.plan = replace(
            self.training.plan, checkpoint=self.checkpoint, is_stopping=interruption.is_requested, progress=progress,
            checkpoint_seconds=seconds, gives_up=gives_up,
        )  # fmt: skip
        run_training(
            self.training, device=devices[0].device, mixed=section.mixed, interruption=interruption,
            accumulate=section.accumulate, logger=logger and logger.make(self.job.request.recipe.name, self.name),
        )  # fmt: skip

    def _run_together(self, devices: Sequence[Placement], **settings: Any) -> None:
        """Train on several devices; this process then goes on from the checkpoint that they leave."""
        require_arithmetic(self.job.section.mixed, devices[0].device)
        if is_over(self.training):
            return
        if self.resumed_from is None:  # where each of them begins
            self.checkpoint.save(self.training.checkpoint_tensors({}), self.training.state.to_json())
        train_on_devices(self, devices, **settings)
        _resume(self.training, self.checkpoint)


def prepare_training(job: FinetuneJob, images: Sequence[SplitImages], *, restart: bool = False) -> PreparedTraining:
    """Return a training at its checkpoint; where it has none, at its beginning.

    Args:
        job: What is asked for.
        images: Train and, where there is one, val.
        restart: Remove the checkpoint first.

    Raises:
        CacheError: the checkpoint is damaged, or the network is not that of the head that it starts from.
        FeatcacheError: as `Start.load`.
    """
    train, val = images[0], images[1] if len(images) > 1 else None
    loaded = job.start.load()
    names = name_tensors(loaded)
    training = _begin(job, loaded, train, val)
    checkpoint = checkpoint_of(job, images)
    if restart:
        checkpoint.remove()
    return PreparedTraining(job, training, loaded, names, checkpoint, _resume(training, checkpoint))


def _begin(job: FinetuneJob, loaded: Any, train: SplitImages, val: SplitImages | None) -> Training:
    """Return the training at its beginning."""
    head, section = job.start.head, job.section
    config = head_config(section, "none" if head is None else head.head.config.normalize, job.loss)
    network = TrainableNetwork(
        loaded, job.start.layer, job.start.source.layer_width(job.start.layer), len(train.listing.classes),
        train.transform, unfreeze=section.unfreeze, normalize=config.normalize,
    )  # fmt: skip
    weights = class_weights_of(config, train)
    at_start = None
    if head is not None:
        objective = make_objective(config, train.labels, len(train.listing.classes))
        network.load_head(*objective.layer_of(head.head))
        at_start = head.scores(job.request)
        sample = digest_column(list(train.digests[:SAMPLE]))
        pixels = next(train.batches([torch.arange(len(sample))]))
        require_same_network(network, head.store, sample, pixels)
    plan = FinetunePlan(
        config=config, schedule=Schedule(config, len(train), section.accumulate), train=train, val=val,
        select=job.select, layer_decay=section.layer_decay, ema=section.ema, augmentation=_augmentation(job, train),
        class_weights=weights,
    )  # fmt: skip
    return Training(network, plan, at_start)


def class_weights_of(config: HeadConfig, train: SplitImages) -> tuple[float, ...]:
    """Return the weight of each class in the loss, or of the images that have each label; () where all are alike.

    Args:
        config: Says how they are weighted.
        train: The training images.
    """
    if config.class_weights == "none":
        return ()
    if config.targets == LABELS:
        has = train.labels.double().sum(dim=0).numpy()
        return tuple(balanced_label_weights(has, len(train)).tolist())
    counts = np.bincount(train.labels.numpy(), minlength=len(train.listing.classes))
    return tuple(class_weights(config, counts).tolist())


def _augmentation(job: FinetuneJob, train: SplitImages) -> TrainingAugmentation | None:
    """Return what is done to the training images; None where that is nothing."""
    if not job.augmentation.is_any:
        return None
    return TrainingAugmentation(job.augmentation, train.transform, job.section.seed)


def _resume(training: Training, checkpoint: Checkpoint) -> int | None:
    """Go on from the checkpoint, and return in which epoch, from 0; None where there is none."""
    found = checkpoint.load()
    if found is None:
        return None
    try:
        training.resume(*found)
    except (ValueError, KeyError) as error:
        raise CacheError(
            f"{checkpoint.folder}: this is no checkpoint of this training: {error}; remove the folder, and it begins "
            f"again"
        ) from None
    return training.state.epoch


def checkpoint_of(job: FinetuneJob, images: Sequence[SplitImages]) -> Checkpoint:
    """Return the place of a training's checkpoint.

    Args:
        job: What is asked for.
        images: Train and, where there is one, val.
    """
    return Checkpoint(job.request.folder, training_name(identify_training(job, images)))
