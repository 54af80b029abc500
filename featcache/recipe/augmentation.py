"""The settings of augmentation: a recipe's [augmentation] section. Of each, 0 is that it is not done."""

from dataclasses import dataclass
from typing import Annotated

from featcache.recipe.settings import Setting


@dataclass(kw_only=True)
class AugmentationSettings:
    """What is done to training images, drawn anew in each epoch; val and test stay as they are."""

    flip: Annotated[float, Setting("The probability of a horizontal flip.", ge=0, le=1, option=False)] = 0.0
    vertical_flip: Annotated[float, Setting("The probability of a vertical flip.", ge=0, le=1, option=False)] = 0.0
    crop: Annotated[
        float,
        Setting(
            "The smallest share of an image's area that a random crop has; 0 is the network's own crop.",
            ge=0,
            le=1,
            option=False,
        ),
    ] = 0.0
    color: Annotated[
        float,
        Setting(
            "How far brightness, contrast and saturation may move from 1; the hue moves a quarter of it, in turns of "
            "the colour wheel.",
            ge=0,
            le=1,
            option=False,
        ),
    ] = 0.0
    rotation: Annotated[
        float, Setting("The largest angle that an image is turned by, degrees, either way.", ge=0, le=180, option=False)
    ] = 0.0
    randaugment: Annotated[
        int,
        Setting("The magnitude of RandAugment's two operations on each image; 9 is usual.", ge=0, le=30, option=False),
    ] = 0
    erase: Annotated[
        float,
        Setting("The probability that a rectangle of 2 to 33 % of an image is erased.", ge=0, le=1, option=False),
    ] = 0.0
    mixup: Annotated[
        float,
        Setting(
            "alpha of mixup: images are mixed in pairs by a share drawn from Beta(alpha, alpha), and so are their "
            "labels; 0.2 is usual.",
            ge=0,
            le=100,
            option=False,
        ),
    ] = 0.0
    cutmix: Annotated[
        float,
        Setting(
            "alpha of CutMix: a rectangle of another image is pasted, and the labels are mixed by area; 1 is usual. "
            "With mixup, each batch draws one of the two.",
            ge=0,
            le=100,
            option=False,
        ),
    ] = 0.0
