"""What each step of an epoch gets: pixels, augmented where that is asked for, and labels."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.images import SplitImages
from featcache.finetuning.ranks import ALONE, Ranks
from featcache.finetuning.schedule import Schedule


class EpochBatches:
    """The batches of one epoch, from a batch on; each time the same ones."""

    def __init__(
        self, images: SplitImages, schedule: Schedule, augmentation: TrainingAugmentation | None, *, epoch: int,
        first: int = 0, ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        """Prepare an epoch; nothing is read yet.

        Args:
            images: Those of train.
            schedule: Says which images each batch has.
            augmentation: What is done to them; None: nothing.
            epoch: From 0.
            first: The batch to begin with: those before it are done.
            ranks: Which rows of each batch this process gets.
        """
        self.images, self.augmentation, self.epoch, self.ranks = images, augmentation, epoch, ranks
        self.order = schedule.order(epoch)[first:]
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels (n, 3, height, width), labels, and what is to be predicted: the labels, or shares."""
        is_mixing = self.augmentation is not None and self.augmentation.mixes  # pairs are made in the whole batch
        order = self.order if is_mixing else [self.ranks.part(rows) for rows in self.order]
        with ThreadPoolExecutor(self.images.workers) as threads:
            for rows, pixels in zip(order, self.images.batches(order), strict=True):
                labels = self.labels[rows]
                if self.augmentation is None:
                    yield pixels, labels, labels
                    continue
                shown, labels, targets = self._augment(self.augmentation, pixels, rows, threads)
                own = self.ranks.part if is_mixing else _all
                yield own(shown), own(labels), own(targets)

    def _augment(
        self, augmentation: TrainingAugmentation, pixels: Tensor, rows: Tensor, threads: ThreadPoolExecutor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch as the network gets it; what is drawn depends on the epoch and on the images alone."""
        digests, labels = [self.images.digests[row] for row in rows.tolist()], self.labels[rows]
        shown = threads.map(augmentation.augment, pixels.numpy(), digests, repeat(self.epoch))
        augmented = torch.from_numpy(np.stack(list(shown)))
        if not augmentation.mixes:
            return augmented, labels, labels
        classes = len(self.images.listing.classes)
        targets = labels if labels.is_floating_point() else functional.one_hot(labels, classes).float()
        mixed, shares = augmentation.mix(augmented.float(), targets, digests, self.epoch)
        return mixed, labels, shares


def _all(rows: Tensor) -> Tensor:
    return rows
