"""A training of seconds: seeded images in memory, the small trunk, and whatever is asked of it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.augmentation_text import read_augmentation
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.images import SplitImages
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.plan import FinetunePlan
from featcache.finetuning.running import run_training
from featcache.finetuning.schedule import Schedule
from featcache.finetuning.training import Training
from featcache.heads.config import HeadConfig
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, name_trunk
from featcache.trunks.libraries import load_network
from tests.builders import CLASSES, listing
from tests.conftest import ARCH

TRUNK = TrunkSection(arch=ARCH, weights="random", layer=("cls",))


def images(split: str, rows: int) -> SplitImages:
    """Return seeded images of noise, each class of another brightness."""
    source = name_trunk(TRUNK, WeightsMemo(Path(), is_read_only=True))
    drawing = np.random.default_rng([rows, *split.encode()])
    labels = drawing.integers(0, len(CLASSES), rows)
    shape = (rows, *source.transform.shape)
    pixels = (drawing.integers(0, 100, shape) + 70 * labels[:, None, None, None]).astype(np.uint8)
    digests = tuple(bytes([row]) * 32 for row in range(rows))
    return SplitImages(
        listing(labels, split=split), source.transform, np.arange(rows), digests, (), torch.from_numpy(pixels), 1
    )


def augmentation(text: str) -> TrainingAugmentation:
    """Return what is done to the small trunk's images, in the words of `--augment`."""
    source = name_trunk(TRUNK, WeightsMemo(Path(), is_read_only=True))
    return TrainingAugmentation(read_augmentation(text), source.transform)


def training(
    *, unfreeze: int | None = 1, accumulate: int = 1, plan: dict[str, Any] | None = None, **config: Any
) -> Training:
    """Return a training of 20 images at its beginning, in batches of 8."""
    source = name_trunk(TRUNK, WeightsMemo(Path(), is_read_only=True))
    settings = HeadConfig(**{"batch_size": 8, "epochs": 3, "lr": 1e-2, "optimizer": "adamw", **config})
    train, val = images("train", 20), images("val", 9)
    network = TrainableNetwork(
        load_network(source), "cls", source.layer_width("cls"), len(CLASSES), source.transform, unfreeze=unfreeze
    )
    schedule = Schedule(settings, len(train), accumulate)
    return Training(
        network, FinetunePlan(config=settings, schedule=schedule, train=train, val=val, select="loss", **(plan or {}))
    )


def run(of: Training, interruption: Interruption | None = None, logger: Any = None) -> Training:
    """Train to the end, and return the training."""
    run_training(
        of, device="cpu", mixed="none", interruption=interruption or Interruption(),
        accumulate=of.plan.schedule.accumulate, logger=logger,
    )  # fmt: skip
    return of


def resumed(of: Training, checkpoint: Checkpoint) -> Training:
    """Return a training that goes on from a checkpoint."""
    found = checkpoint.load()
    assert found is not None
    of.resume(*found)
    return of
