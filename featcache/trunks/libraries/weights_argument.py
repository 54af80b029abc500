"""What `--weights` names, of a library's network."""

import os
from typing import Literal

from featcache.trunks import RANDOM, is_weights_file

PRETRAINED = "pretrained"


def classify_weights(weights: str) -> Literal["random", "file", "published"]:
    """Return whether weights are random ones, a file (or folder), or published under a name."""
    if weights == RANDOM:
        return "random"
    return "file" if is_weights_file(weights) or os.path.isdir(weights) else "published"
