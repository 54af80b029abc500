"""Batch normalisations folded into the convolutions before them: a frozen network computes the same in fewer passes."""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from torch import nn

Replaced = tuple[Any, str, nn.Module]  # a module, the name of a part of it, and what that part was


class FoldedNorm(nn.Identity):
    """Stands where a batch normalisation stood."""


def fold_batch_norms(module: nn.Module, read: Collection[nn.Module] = ()) -> list[Replaced]:
    """Fold every batch normalisation that stands behind a convolution into it, in place.

    Which do is read from the order in which a module's parts were made: whoever calls this holds what the network gives
    against what it gave.

    Args:
        module: In evaluation mode.
        read: Modules whose output is a layer. A convolution among them is kept beside the folded one, as its part
            `unfolded`, which gives what the convolution gave.

    Returns:
        What was replaced, for `restore`.
    """
    replaced: list[Replaced] = []
    for parent, (first, convolution), (second, norm) in list(_neighbours(module)):
        replaced += [(parent, first, convolution), (parent, second, norm)]
        folded: Any = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
        if any(part is convolution for part in read):
            folded.unfolded = convolution
        setattr(parent, first, folded)
        # timm's normalisations bring their activation.
        rest = {"drop": norm.drop, "act": norm.act} if hasattr(norm, "act") else {}
        setattr(parent, second, nn.Sequential(OrderedDict(folded=FoldedNorm(), **rest)))
    return replaced


def restore(replaced: list[Replaced]) -> None:
    """Undo `fold_batch_norms`.

    Args:
        replaced: What it returned.
    """
    for parent, name, part in replaced:
        setattr(parent, name, part)


def _neighbours(module: nn.Module) -> Iterator[tuple[Any, tuple[str, Any], tuple[str, Any]]]:
    """Yield each convolution with the batch normalisation made next: their parent, and their names in it."""
    for parent in module.modules():
        parts = list(parent.named_children())
        for first, second in pairwise(parts):
            if isinstance(first[1], nn.Conv2d) and isinstance(second[1], nn.BatchNorm2d) and _fit(first[1], second[1]):
                yield parent, first, second


def _fit(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return convolution.out_channels == norm.num_features and norm.running_mean is not None
