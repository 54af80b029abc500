"""What `--weights` names, of a library's network."""

import os
from typing import Literal

from featcache.files import expand_home
from featcache.recipe import OWN_WEIGHTS, is_own_weights
from featcache.trunks import RANDOM, is_weights_file

PRETRAINED = "pretrained"
WeightsKind = Literal["random", "file", "published"]


def name_weights(arch: str, weights: str) -> tuple[str, WeightsKind]:
    """Return the name of weights, which of those that a module comes with is "own", and their kind.

    Args:
        arch: As `--arch` has it.
        weights: As typed.
    """
    return (
        (OWN_WEIGHTS, "published")
        if is_own_weights(arch, weights)
        else (weights, classify_weights(expand_home(weights)))
    )


def classify_weights(weights: str) -> WeightsKind:
    """Return whether weights are random ones, a file (or folder), or published under a name."""
    if weights == RANDOM:
        return "random"
    return "file" if is_weights_file(weights) or os.path.isdir(weights) else "published"
