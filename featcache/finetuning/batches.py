"""What each step of an epoch gets: pixels, augmented where that is asked for, and labels."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.images import SplitImages
from featcache.finetuning.schedule import Schedule


class EpochBatches:
    """The batches of one epoch, from a batch on; each time the same ones."""

    def __init__(
        self, images: SplitImages, schedule: Schedule, augmentation: TrainingAugmentation | None, *, epoch: int,
        first: int = 0,
    ) -> None:  # fmt: skip
        """Prepare an epoch; nothing is read yet.

        Args:
            images: Those of train.
            schedule: Says which images each batch has.
            augmentation: What is done to them; None: nothing.
            epoch: From 0.
            first: The batch to begin with: those before it are done.
        """
        self.images, self.augmentation, self.epoch = images, augmentation, epoch
        self.order = schedule.order(epoch)[first:]
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels (n, 3, height, width), labels (n,), and what is to be predicted: the labels, or shares."""
        for rows, pixels in zip(self.order, self.images.batches(self.order), strict=True):
            labels = self.labels[rows]
            yield (pixels, labels, labels) if self.augmentation is None else self._augment(pixels, rows, labels)

    def _augment(self, pixels: Tensor, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch as the network gets it; what is drawn depends on the epoch and on the images alone."""
        assert self.augmentation is not None  # noqa: S101 (the caller has looked)
        digests = [self.images.digests[row] for row in rows.tolist()]
        for place, digest in enumerate(digests):
            shown = self.augmentation.augment(pixels[place].numpy(), digest, self.epoch)
            pixels[place] = torch.from_numpy(shown)
        if not self.augmentation.mixes:
            return pixels, labels, labels
        targets = functional.one_hot(labels, len(self.images.listing.classes)).float()
        mixed, shares = self.augmentation.mix(pixels.float(), targets, digests, self.epoch)
        return mixed, labels, shares
