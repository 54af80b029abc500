"""Our pixels, held against a library's own, before the first image is embedded."""

from typing import TYPE_CHECKING

import numpy as np

from featcache.errors import MachineError
from featcache.media import ImageTransform, make_pillow_image, resize_and_crop

if TYPE_CHECKING:
    from featcache.trunks.libraries.base import LoadedNetwork

_SIZES = ((231, 167), (167, 231), (500, 333), (301, 643), (97, 97))  # (width, height); odd, upright, lying, small
_SPARES = (1, 2, 3, 4)  # pixels more than the shorter edge, at which libraries round a crop's corner differently


def require_equal_pixels(network: "LoadedNetwork", transform: ImageTransform, arch: str) -> None:
    """Refuse a network whose own preprocessing gives other pixels than ours.

    Args:
        network: It, with its library's own transform.
        transform: Ours.
        arch: What a message calls it.

    Raises:
        MachineError: a pixel differs by more than the rounding of its normalised value.
    """
    if network.own_pixels is None:
        return
    mean, std = (np.array(values, dtype=np.float64)[:, None, None] for values in (transform.mean, transform.std))
    noise = np.random.default_rng(0)
    spares = [(transform.resize + spare, transform.resize) for spare in _SPARES]
    for width, height in [*_SIZES, *spares]:
        drawn = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        ours = resize_and_crop(drawn, transform)
        theirs = np.asarray(network.own_pixels(make_pillow_image(drawn)), dtype=np.float64)
        if theirs.shape != ours.shape:
            raise MachineError(
                f"{arch}: its own preprocessing gives {theirs.shape[2]} x {theirs.shape[1]} pixels of an image of "
                f"{width} x {height}, ours {ours.shape[2]} x {ours.shape[1]}: it cannot be reproduced"
            )
        different = int((np.rint((theirs * std + mean) * 255) != ours).sum())
        if different:
            raise MachineError(
                f"{arch}: its own preprocessing gives other pixels than ours ({different:,} of {ours.size:,} of an "
                f"image of {width} x {height}): its resizing cannot be reproduced; --transform states another one"
            )
