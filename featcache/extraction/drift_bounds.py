"""How far two embeddings of the same image may stand apart for their trunks to count as the same."""

from dataclasses import dataclass
from typing import Any

from featcache.text import counted


@dataclass(frozen=True, slots=True)
class DriftBound:
    """What still counts as the same trunk; `bench/drift.py` has the measurements, docs/format.md states them."""

    cosine: float  # 1 - cosine of the two embeddings of any image
    mean_cosine: float  # the mean of them over all images that are compared
    norm: float  # how far the ratio of their norms is from 1, of any image


# Between what another batch size, thread count, engine or instruction set does and what another transform does. In
# bfloat16 single images of a trained network move by several times the mean, so the mean tells the two apart.
BOUNDS = {"float32": DriftBound(1e-6, 1e-6, 1e-5), "bfloat16": DriftBound(1e-3, 1.5e-4, 1e-2)}

FEW = 8  # images; over fewer the mean may be twice as much


@dataclass(frozen=True, slots=True)
class DriftComparison:
    """What a comparison gave, over the images that could be compared."""

    compared: int  # images; 0 where none of those that the store holds is still there
    cosine: float = 0.0  # 1 - cosine, of the worst image
    mean_cosine: float = 0.0  # the mean of it
    norm: float = 0.0  # |ratio of the norms - 1|, of the worst image
    worst: str = ""  # the path of the image that is furthest off its bound
    digest: bytes = b""  # … and its digest

    def is_within_bound(self, compute: str) -> bool:
        """Return whether this is the same trunk, as far as the bound of its precision says."""
        bound = BOUNDS[compute]  # nan is within nothing
        mean = self.allowed_mean(compute)
        return self.cosine <= bound.cosine and self.mean_cosine <= mean and self.norm <= bound.norm

    def allowed_mean(self, compute: str) -> float:
        """Return what the mean of 1 - cosine may be: over few images a single one makes it."""
        return BOUNDS[compute].mean_cosine * (1 if self.compared >= FEW else 2)

    def to_json(self) -> dict[str, Any]:
        """Return it as trunk.json and `--json` have it."""
        return {
            "compared": self.compared,
            "cosine_distance": self.cosine,
            "mean_cosine_distance": self.mean_cosine,
            "norm_change": self.norm,
        }

    def describe(self, compute: str) -> str:
        """Return it in words, with the bound of this precision."""
        bound, mean = BOUNDS[compute], self.allowed_mean(compute)
        return (
            f"{counted(self.compared, 'image')} compared: 1 - cosine {self.mean_cosine:.1e} on average (allowed in "
            f"{compute}: {mean:.1e}) and at most {self.cosine:.1e} (allowed: {bound.cosine:.0e}), norm "
            f"changed by at most {self.norm:.1e} (allowed: {bound.norm:.0e})"
        )
