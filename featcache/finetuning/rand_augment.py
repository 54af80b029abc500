"""RandAugment (Cubuk et al., 2020), as torchvision's transforms v2 has it: two operations of fourteen on each image."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from featcache.media import ViewDraws

OPERATIONS_AN_IMAGE = 2
MAGNITUDES = 31  # from 0 to 30
_NEAREST = InterpolationMode.NEAREST
_SHIFT = 150 / 331  # of the edge, at magnitude 30


def apply_rand_augment(image: Tensor, magnitude: int, draws: ViewDraws) -> Tensor:
    """Return an image with two operations on it, each drawn from all of them.

    Args:
        image: (3, height, width) uint8.
        magnitude: 0 … 30.
        draws: Where the numbers come from.
    """
    for _ in range(OPERATIONS_AN_IMAGE):
        name = OPERATIONS[draws.below(len(OPERATIONS))]
        image = apply_operation(image, name, magnitude, is_negative=draws.between(0, 1) < 0.5)
    return image


def apply_operation(image: Tensor, name: str, magnitude: int, *, is_negative: bool) -> Tensor:
    """Return an image with one operation on it.

    Args:
        image: (3, height, width) uint8.
        name: One of `OPERATIONS`.
        magnitude: 0 … 30.
        is_negative: Whether it goes the other way, of those that have two.
    """
    if name in _ONE_WAY:
        return _ONE_WAY[name](image, magnitude)
    largest, apply = _TWO_WAYS[name]
    edge = {"TranslateX": image.shape[2], "TranslateY": image.shape[1]}.get(name, 1)
    strength = _spread(0.0, largest * edge, magnitude)
    return apply(image, -strength if is_negative else strength)


def _spread(first: float, last: float, magnitude: int) -> float:
    """Return the strength of a magnitude, evenly spread, rounded to float32 as torchvision's is."""
    return float(torch.linspace(first, last, MAGNITUDES)[magnitude])


def _shear(image: Tensor, strength: float, *, axis: int) -> Tensor:
    shear = [0.0, 0.0]
    shear[axis] = math.degrees(math.atan(strength))
    return _move(image, shear=shear, center=[0, 0])


def _translate(image: Tensor, strength: float, *, axis: int) -> Tensor:
    shift = [0, 0]
    shift[axis] = int(strength)
    return _move(image, translate=shift)


def _move(
    image: Tensor, *, translate: Sequence[int] = (0, 0), shear: Sequence[float] = (0.0, 0.0), center: Any = None
) -> Tensor:
    moved: Tensor = functional.affine(
        image, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), interpolation=_NEAREST,
        center=center,
    )  # fmt: skip
    return moved


def _adjust(image: Tensor, strength: float, *, adjust: Callable[[Tensor, float], Tensor]) -> Tensor:
    return adjust(image, 1.0 + strength)


def _rotate(image: Tensor, strength: float) -> Tensor:
    rotated: Tensor = functional.rotate(image, strength, interpolation=_NEAREST)
    return rotated


def _posterize(image: Tensor, magnitude: int) -> Tensor:
    posterized: Tensor = functional.posterize(image, bits=round(8 - magnitude / ((MAGNITUDES - 1) / 4)))
    return posterized


def _solarize(image: Tensor, magnitude: int) -> Tensor:
    solarized: Tensor = functional.solarize(image, threshold=255.0 * _spread(1.0, 0.0, magnitude))
    return solarized


_ONE_WAY: dict[str, Callable[[Tensor, int], Tensor]] = {  # of an image and the magnitude
    "Identity": lambda image, _: image,
    "AutoContrast": lambda image, _: functional.autocontrast(image),
    "Equalize": lambda image, _: functional.equalize(image),
    "Posterize": _posterize,
    "Solarize": _solarize,
}
# The strength at magnitude 30, and what it does.
_TWO_WAYS: dict[str, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "ShearX": (0.3, partial(_shear, axis=0)),
    "ShearY": (0.3, partial(_shear, axis=1)),
    "TranslateX": (_SHIFT, partial(_translate, axis=0)),
    "TranslateY": (_SHIFT, partial(_translate, axis=1)),
    "Rotate": (30.0, _rotate),
    "Brightness": (0.9, partial(_adjust, adjust=functional.adjust_brightness)),
    "Color": (0.9, partial(_adjust, adjust=functional.adjust_saturation)),
    "Contrast": (0.9, partial(_adjust, adjust=functional.adjust_contrast)),
    "Sharpness": (0.9, partial(_adjust, adjust=functional.adjust_sharpness)),
}
OPERATIONS = (*_ONE_WAY, *_TWO_WAYS)
