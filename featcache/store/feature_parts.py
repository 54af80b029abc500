"""What `--features` says: the layers whose embeddings stand side by side, each of a trunk that may be named.

`cls+mean` are layers of one trunk. `timm:tf_efficientnet_lite0/pooled+resnet34/pooled` are layers of two: TRUNK/LAYER,
where a trunk's name may have slashes of its own; a store's name, or the start of its fingerprint, stands for its trunk.
"""

import re
from dataclasses import dataclass

from featcache.errors import UsageError
from featcache.trunks import LAYER_PATTERN

_EXAMPLES = "cls+mean, or resnet34/pooled+vit_b_16/cls"


@dataclass(frozen=True, slots=True)
class FeaturePart:
    """One part of `--features`."""

    trunk: str  # an architecture, a store's name, or the start of its fingerprint; "" where none is named
    layer: str

    def __str__(self) -> str:
        return f"{self.trunk}/{self.layer}" if self.trunk else self.layer


def parse_features(text: str) -> tuple[FeaturePart, ...]:
    """Return the parts of `--features`, in their order.

    Args:
        text: As a person types it.

    Raises:
        UsageError: a part is none, or stands there twice.
    """
    parts = tuple(_parse_part(word.strip(), text) for word in text.split("+"))
    if twice := [part for number, part in enumerate(parts) if part in parts[:number]]:
        once = "+".join(map(str, dict.fromkeys(parts)))
        error = UsageError(f"--features {text}: {twice[0]} stands there twice; name each part once")
        raise error.correct("--features", once)
    return parts


def _parse_part(word: str, text: str) -> FeaturePart:
    trunk, slash, layer = word.rpartition("/")
    if not re.fullmatch(LAYER_PATTERN, layer) or (slash and not trunk):
        found = f"found {layer!r}" if layer else "a layer is missing"
        raise UsageError(
            f"--features {text}: {found}, expected layers such as cls, mean, pooled, cls@-2, grid4 or name:MODULE, "
            f"joined by a plus sign, each alone or as TRUNK/LAYER: {_EXAMPLES}"
        )
    return FeaturePart(trunk, layer)
