"""Batches of one size, so that no bit of a row depends on how many images stand beside it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# A CPU's kernels are chosen by the size of the batch, in float32 with other last bits: measured between batches of 8
# and 32 in the linear layers of AlexNet and VGG, in squeeze-and-excitation, and in the 1x1 convolutions of
# EfficientNet-Lite0. Eight images at a time they are always the same kernels (see `vit.SAME_ROWS`).
ROWS = 8


def split_batch(batch: "Tensor") -> "list[Tensor]":
    """Return a batch as parts of `ROWS` images each; zeros stand behind the last.

    Args:
        batch: (n, …).
    """
    import torch

    missing = -len(batch) % ROWS
    padded = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]) if missing else batch
    return [padded[start : start + ROWS] for start in range(0, len(padded), ROWS)]
