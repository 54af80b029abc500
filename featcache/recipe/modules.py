"""Which head is trained, and the settings of those that are torch modules; `head` has what all heads share."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.settings import Setting

LINEAR, ATTENTION, TEMPORAL = "linear", "attention", "temporal"
OWN_HEAD = "package.module:Class"  # what stands for all heads of one's own
ON_VECTORS = ("linear", "mlp", OWN_HEAD)  # heads that take an embedding as one vector
_WORD = r"[A-Za-z_]\w*"
OWN_HEAD_PATTERN = rf"{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*(@[0-9a-f]{{8}})?"
_WIDTHS = r"[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){0,7}"


def is_own_head(head: str) -> bool:
    """Return whether a head is named by what makes it, `package.module:Class`: importing that runs code.

    Args:
        head: as `--head` has it.
    """
    return re.fullmatch(OWN_HEAD_PATTERN, head, re.ASCII) is not None


@dataclass(frozen=True, kw_only=True)
class ModuleSettings:
    """What stands on the embeddings: one linear layer, or a torch module with settings of its own."""

    head: Annotated[
        Literal["linear", "mlp", "attention", "temporal"],
        Setting(
            "What is trained on the embeddings: a linear layer, a multilayer perceptron, attention over an image's "
            "tokens, a head over clips in time order, or a torch.nn.Module of your own, typed and never in a recipe.",
            short="",
            other_pattern=OWN_HEAD_PATTERN,
            other_form=OWN_HEAD,
        ),
    ] = "linear"
    hidden: Annotated[
        str,
        Setting(
            "Units of each hidden layer: 2048, or 512,256 for two layers (512x256 in --grid).",
            several=True,
            heads=("mlp",),
            pattern=_WIDTHS,
            form="one to eight numbers from 1 to 99,999, separated by commas",
            is_numbers=True,
        ),
    ] = "2048"
    activation: Annotated[
        Literal["relu", "gelu", "silu", "tanh"],
        Setting("The function behind each hidden layer.", several=True, heads=("mlp",), short=""),
    ] = "relu"
    dropout: Annotated[
        float,
        Setting(
            "The share of a hidden layer's units that each step of the training leaves out.",
            ge=0,
            lt=1,
            several=True,
            heads=("mlp",),
        ),
    ] = 0.0
    batch_norm: Annotated[
        bool,
        Setting(
            "Normalise each hidden unit over the batch, before its activation.",
            several=True,
            heads=("mlp",),
            short="batchnorm",
        ),
    ] = False
    queries: Annotated[
        int,
        Setting(
            "Learned queries of attention over tokens; 0: one for each class.",
            ge=0,
            le=64,
            several=True,
            heads=("attention",),
        ),
    ] = 8
    tokens: Annotated[
        int,
        Setting(
            "Tokens of an image; of a grid layer they follow from its name (grid4: 16).",
            ge=0,
            le=65_536,
            heads=("attention", OWN_HEAD),
            unstated="those of the grid",
        ),
    ] = 0
    frames: Annotated[
        int,
        Setting(
            "Frames of a clip that a head over clips looks at; of a longer clip as many, evenly spread.",
            ge=1,
            le=1024,
            heads=("temporal",),
        ),
    ] = 32
    over_time: Annotated[
        Literal["attention", "convolution", "mean"],
        Setting(
            "How the frames of a clip become one: attention that knows the time, a small convolution over time, or "
            "their mean.",
            several=True,
            heads=("temporal",),
            short="",
        ),
    ] = "attention"
