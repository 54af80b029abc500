"""What a training is given: on what it is trained, how, and whom it tells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.images import SplitImages
from featcache.finetuning.ranks import ALONE, Ranks
from featcache.finetuning.schedule import Schedule
from featcache.heads import EpochRow, HeadConfig


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
    ranks: Ranks = ALONE  # this process among those that train together
