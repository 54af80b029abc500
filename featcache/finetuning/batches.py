"""What each step of an epoch gets: pixels, augmented by numbers of their own, and labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from featcache.finetuning.images import SplitImages
from featcache.finetuning.schedule import Schedule, derive_seed

_IMAGES, _BATCHES = 1, 2  # purposes of random numbers

ImageAugmentation = Callable[[Tensor, torch.Generator], Tensor]  # (3, height, width) uint8 -> the same
# (n, 3, height, width) float and (n,) labels -> the same pixels mixed, and (n, classes) shares of each class
BatchAugmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to training images; nothing by default."""

    of_image: ImageAugmentation | None = None
    of_batch: BatchAugmentation | None = None


class EpochBatches:
    """The batches of one epoch, from a batch on; each time the same ones."""

    def __init__(
        self, images: SplitImages, schedule: Schedule, augmentation: Augmentation, *, epoch: int, first: int = 0
    ) -> None:
        """Prepare an epoch; nothing is read yet.

        Args:
            images: Those of train.
            schedule: Says which images each batch has.
            augmentation: What is done to them.
            epoch: From 0.
            first: The batch to begin with: those before it are done.
        """
        self.images, self.augmentation, self.epoch, self.first = images, augmentation, epoch, first
        self.seed = schedule.config.seed
        self.order = schedule.order(epoch)[first:]
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels (n, 3, height, width), labels (n,), and what is to be predicted: the labels, or shares."""
        for number, (rows, pixels) in enumerate(zip(self.order, self.images.batches(self.order), strict=True)):
            labels = self.labels[rows]
            yield self._augment(pixels, rows, labels, self.first + number)

    def _augment(self, pixels: Tensor, rows: Tensor, labels: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch as the network gets it; which draws an image has depends on the epoch and the image alone."""
        if self.augmentation.of_image is not None:
            for place, row in enumerate(rows.tolist()):
                drawing = torch.Generator().manual_seed(derive_seed(self.seed, _IMAGES, self.epoch, row))
                pixels[place] = self.augmentation.of_image(pixels[place], drawing)
        if self.augmentation.of_batch is None:
            return pixels, labels, labels
        drawing = torch.Generator().manual_seed(derive_seed(self.seed, _BATCHES, self.epoch, batch))
        mixed, shares = self.augmentation.of_batch(pixels.float(), labels, drawing)
        return mixed, labels, shares
