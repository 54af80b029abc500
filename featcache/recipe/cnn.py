"""The settings of the network `cnn`: a recipe's [trunk.cnn] section."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.settings import Setting

CNN = "cnn"  # as `--arch` has it
CNN_BLOCKS = 5
_EDGE = "(?:1|3|5|7|9|11)"


@dataclass(kw_only=True)
class CnnSettings:
    """A plain convolutional network: five blocks of convolution and pooling, and a dense layer."""

    filters: Annotated[int, Setting("Filters of the first block.", ge=1, le=1024, option=False)] = 32
    progression: Annotated[
        Literal["constant", "doubling", "halving"],
        Setting("How the number of filters goes on from each block to the next.", option=False),
    ] = "doubling"
    filter_size: Annotated[
        str,
        Setting(
            "Edge of the filters, pixels: 3 for all five blocks, or 7,5,5,3,3, one for each.",
            pattern=rf"{_EDGE}(?:,{_EDGE}){{{CNN_BLOCKS - 1}}}|{_EDGE}",
            form="one odd number from 1 to 11, or five of them separated by commas",
            is_numbers=True,
            option=False,
        ),
    ] = "3"
    activation: Annotated[
        Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "tanh"],
        Setting("The function behind each convolution, and behind the dense layer.", option=False),
    ] = "relu"
    batch_norm: Annotated[
        bool, Setting("Normalise what a convolution gives over the batch, before its activation.", option=False)
    ] = True
    dense: Annotated[
        int, Setting("Units of the dense layer, which is what a head reads.", ge=1, le=99_999, option=False)
    ] = 256
    dropout: Annotated[
        float,
        Setting("The share of the dense layer's units that a training step leaves out.", ge=0, lt=1, option=False),
    ] = 0.0
