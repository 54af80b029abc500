"""Augmentation of training images, which depends on nothing but a seed, the epoch and the image.

What happens to an image in an epoch is drawn as that of a view is: from the seed, the number of the epoch and the
digest of the image's file. So a run that was stopped and goes on draws the same, in whatever order and thread, and no
generator of torch's moves. Flips, crops and colours are those of view 1, 2, … of `extract --views`, bit by bit; the
rest is torchvision's transforms v2, in the order of its presets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featcache.media import ImageTransform, View, ViewDraws, augment_pixels, resize_and_crop
from featcache.recipe import AugmentationSection

if TYPE_CHECKING:
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]

_TRIES = 10  # at a rectangle that is smaller than the image, RandomErasing's
_AREAS = (0.02, 0.33)  # shares of the image that a rectangle covers, RandomErasing's …
_RATIOS = (0.3, 3.3)  # … and its height to its width


@dataclass(frozen=True, slots=True)
class TrainingAugmentation:
    """What is done to the training images of a run."""

    settings: AugmentationSection
    transform: ImageTransform  # the trunk's own, which val and test get
    seed: int = 0

    @property
    def crops(self) -> bool:
        """Whether images are wanted whole, for random crops, and not as the trunk's own crop leaves them."""
        return self.settings.crop > 0

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, and with them their targets."""
        return self.settings.mixup > 0 or self.settings.cutmix > 0

    def augment(self, pixels: Pixels, digest: bytes, epoch: int) -> Pixels:
        """Return an image as an epoch shows it, (3, height, width) uint8 of the trunk's input.

        Args:
            pixels: (3, height, width) uint8, RGB, of any size: what random crops are taken from.
            digest: Of the image's file, 32 bytes.
            epoch: From 0.
        """
        view, rows = self._view(epoch), pixels.transpose(1, 2, 0)
        if not view.crop and pixels.shape[1:] != self.transform.input_size:
            rows = resize_and_crop(np.ascontiguousarray(rows), self.transform).transpose(1, 2, 0)
        augmented = augment_pixels(rows, view, self.transform, digest)
        settings = self.settings
        if not (settings.vertical_flip or settings.rotation or settings.randaugment or settings.erase):
            return augmented
        return self._augment_further(augmented, view, digest)

    def mix(self, pixels: "Tensor", targets: "Tensor", digests: Sequence[bytes], epoch: int) -> "tuple[Tensor, Tensor]":
        """Return a batch with its images mixed in pairs, each with the one before it, and their targets likewise.

        Args:
            pixels: (n, 3, height, width) floating point.
            targets: (n, classes) floating point: the share that an image has of each class.
            digests: Of the images' files, n.
            epoch: From 0.
        """
        kinds = [name for name in ("mixup", "cutmix") if getattr(self.settings, name)]
        if not kinds:
            return pixels, targets
        draws = ViewDraws(self._view(epoch), digests[0], "mix")
        kind = kinds[draws.below(len(kinds))]
        alpha = getattr(self.settings, kind)
        share = float(np.random.Generator(np.random.PCG64(draws.below(2**53))).beta(alpha, alpha))
        if kind == "mixup":
            return mix_pairs(pixels, share), mix_pairs(targets, share)
        pasted, share = paste_boxes(pixels, draw_box(pixels.shape[2:], share, draws))
        return pasted, mix_pairs(targets, share)

    def _view(self, epoch: int) -> View:
        settings = self.settings
        return View(number=epoch + 1, seed=self.seed, flip=settings.flip, crop=settings.crop, color=settings.color)

    def _augment_further(self, pixels: Pixels, view: View, digest: bytes) -> Pixels:
        """Return what torchvision's transforms that views lack make of an image, (3, height, width) uint8."""
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        from featcache.finetuning.rand_augment import apply_rand_augment

        settings, image = self.settings, torch.from_numpy(pixels)
        if ViewDraws(view, digest, "vertical_flip").between(0, 1) < settings.vertical_flip:
            image = functional.vertical_flip(image)
        if settings.rotation:
            angle = ViewDraws(view, digest, "rotation").between(-settings.rotation, settings.rotation)
            image = functional.rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
        if settings.randaugment:
            image = apply_rand_augment(image, settings.randaugment, ViewDraws(view, digest, "randaugment"))
        draws = ViewDraws(view, digest, "erase")
        if draws.between(0, 1) < settings.erase and (box := draw_rectangle(pixels.shape[1:], draws)):
            colour = torch.tensor([round(255 * value) for value in self.transform.mean], dtype=torch.uint8)
            image = functional.erase(image, *box, colour.clamp(0, 255)[:, None, None])
        erased: Pixels = image.contiguous().numpy()
        return erased


def draw_rectangle(size: Sequence[int], draws: ViewDraws) -> tuple[int, int, int, int] | None:
    """Return (top, left, height, width) of what is erased, pixels, as torchvision's RandomErasing draws it.

    Args:
        size: (height, width) of the image, pixels.
        draws: Where the numbers come from.

    Returns:
        The rectangle; None where none was drawn that is smaller than the image.
    """
    height, width = size
    for _ in range(_TRIES):
        area = height * width * draws.between(*_AREAS)
        ratio = math.exp(draws.between(*map(math.log, _RATIOS)))
        down, across = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < down < height and 0 < across < width:
            return draws.below(height - down + 1), draws.below(width - across + 1), down, across
    return None


def mix_pairs(values: "Tensor", share: float) -> "Tensor":
    """Return each item of a batch mixed with the one before it, the first with the last.

    Args:
        values: (n, …) floating point.
        share: What an item keeps of itself, 0 … 1.
    """
    return values.roll(1, 0).mul_(1 - share).add_(values * share)


def draw_box(size: Sequence[int], share: float, draws: ViewDraws) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of what CutMix pastes, pixels, cut off at the image's edges.

    Args:
        size: (height, width) of the images, pixels.
        share: What an image keeps of itself, were the box not cut off.
        draws: Where the numbers come from.
    """
    height, width = size
    x, y, half = draws.below(width), draws.below(height), 0.5 * math.sqrt(1 - share)
    across, down = int(half * width), int(half * height)
    return max(0, x - across), max(0, y - down), min(width, x + across), min(height, y + down)


def paste_boxes(pixels: "Tensor", box: tuple[int, int, int, int]) -> "tuple[Tensor, float]":
    """Return images with a box of the image before each, and the share that each keeps of itself.

    Args:
        pixels: (n, 3, height, width).
        box: (left, top, right, bottom), pixels.
    """
    left, top, right, bottom = box
    pasted = pixels.clone()
    pasted[..., top:bottom, left:right] = pixels.roll(1, 0)[..., top:bottom, left:right]
    return pasted, 1 - (right - left) * (bottom - top) / (pixels.shape[2] * pixels.shape[3])
