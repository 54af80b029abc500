"""Views: seeded augmentations of an image, as torchvision's transforms v2 has them, that depend on nothing else.

What happens to an image is drawn from the view's seed and number and the digest of the image's file: not from the
order of the files, the split, the machine, or the version of any library. `view_pixels` does it; nothing is imported
here that takes long, since every spec may have a view.
"""

import hashlib
import math
import re
from dataclasses import dataclass, fields
from decimal import Decimal

from featcache.errors import UsageError

DEFAULT_STRENGTHS = {"flip": 0.5, "crop": 0.08, "color": 0.4}
MOST_VIEWS = 99
_RATIO = (3 / 4, 4 / 3)  # width to height of a crop, RandomResizedCrop's
_LOG_4_3 = Decimal("0.28768207245178092744")
_TRIES = 10  # at a crop that lies within the image, RandomResizedCrop's
_HUE_SHARE = 4  # the hue moves by a quarter of the strength, in turns of the colour wheel
_EXPECTED = "none, or flip, crop and color separated by commas, each with or without a strength, as flip,crop=0.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One of the views of every image. Without flip, crop and color it is the plain image."""

    number: int  # from 1; other views are drawn independently
    seed: int = 0
    flip: float = 0.0  # the probability of a horizontal flip
    crop: float = 0.0  # the smallest share of the image's area that a random crop has; 0: the trunk's own crop
    color: float = 0.0  # how far brightness, contrast and saturation may move from 1; the hue moves a quarter of it

    @property
    def augment(self) -> str:
        """What is done, in the words of `--augment`; the views of one set have it in common."""
        words = [
            name if getattr(self, name) == usual else f"{name}={getattr(self, name):.15g}"
            for name, usual in DEFAULT_STRENGTHS.items()
            if getattr(self, name)
        ]
        return ",".join([*(words or ["none"]), *([f"seed={self.seed}"] if self.seed else [])])

    def __str__(self) -> str:
        """Return which view of which set it is, in words."""
        return f"view {self.number} of {self.augment}"


def make_views(augment: str, count: int) -> tuple[View, ...]:
    """Return views 1 to `count` of a set.

    Args:
        augment: "none", or flip, crop and color with commas between them, each with or without a strength:
            "flip,crop=0.3,color"; and "seed=1" for another draw.
        count: How many.

    Raises:
        UsageError: a word that is none of these, twice the same, or a strength out of its range.
    """
    values: dict[str, float] = {}
    for word in augment.replace(" ", "").split(","):
        name, equals, text = word.partition("=")
        if word == "none":
            continue
        if name not in (*DEFAULT_STRENGTHS, "seed") or name in values or bool(equals) != bool(text):
            raise _refusal(augment, word)
        values[name] = _strength(augment, name, text)
    if "none" in augment and values.keys() - {"seed"}:
        raise _refusal(augment, "none")
    seed = int(values.pop("seed", 0))
    return tuple(View(number=number, seed=seed, **values) for number in range(1, count + 1))


def _strength(augment: str, name: str, text: str) -> float:
    """Return the strength that a word of `--augment` has, its usual one where none is typed."""
    if name == "seed":
        if re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
            return int(text)
        raise _refusal(augment, f"seed={text}")
    if not text:
        return DEFAULT_STRENGTHS[name]
    try:
        value = float(text)
    except ValueError:
        raise _refusal(augment, f"{name}={text}") from None
    if not 0 < value <= 1:
        raise UsageError(f"--augment {augment}: found {name}={text}, expected a strength above 0 and at most 1")
    return value


def _refusal(augment: str, word: str) -> UsageError:
    return UsageError(f"--augment {augment}: found {word!r}, expected {_EXPECTED}").correct("--augment", "flip,crop")


class ViewDraws:
    """Numbers that follow from a view's seed and number, an image's digest, and what they are drawn for."""

    def __init__(self, view: View, digest: bytes, purpose: str) -> None:
        """Start the numbers of one purpose.

        Args:
            view: Has the seed and the number.
            digest: Of the image's file, 32 bytes.
            purpose: What is drawn: other purposes have other numbers.
        """
        self._start = f"featcache view 1\0{view.seed}\0{view.number}\0{purpose}\0".encode() + digest
        self._count = 0

    def between(self, low: float, high: float) -> float:
        """Return the next number, evenly distributed over low … high.

        Args:
            low: The least.
            high: The largest.
        """
        self._count += 1
        block = hashlib.sha256(self._start + self._count.to_bytes(4, "big")).digest()
        return low + (high - low) * ((int.from_bytes(block[:8], "big") >> 11) / 2**53)

    def below(self, count: int) -> int:
        """Return the next whole number, from 0 to count - 1.

        Args:
            count: How many there are.
        """
        return min(int(self.between(0, count)), count - 1)


def draw_crop(view: View, size: tuple[int, int], digest: bytes) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a view's crop, pixels, as torchvision's RandomResizedCrop draws it.

    Args:
        view: Whose `crop` is the smallest share of the area.
        size: (width, height) of the image, pixels.
        digest: Of the image's file, 32 bytes.
    """
    draws, (width, height) = ViewDraws(view, digest, "crop"), size
    for _ in range(_TRIES):
        area = width * height * draws.between(view.crop, 1.0)
        # Decimal rounds exp correctly everywhere, which C's libraries need not.
        ratio = float((Decimal(draws.between(-1.0, 1.0)) * _LOG_4_3).exp())
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = draws.below(height - down + 1)
            return draws.below(width - across + 1), top, across, down
    return _centre_crop(width, height)


def _centre_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the largest crop in the middle whose ratio is permitted: of images too long for any other."""
    narrowest, widest = _RATIO
    if width / height < narrowest:
        across, down = width, round(width / narrowest)
    elif width / height > widest:
        across, down = round(height * widest), height
    else:
        across, down = width, height
    return (width - across) // 2, (height - down) // 2, across, down


def draw_flip(view: View, digest: bytes) -> bool:
    """Return whether a view shows an image mirrored.

    Args:
        view: Whose `flip` is the probability.
        digest: Of the image's file, 32 bytes.
    """
    return view.flip > 0 and ViewDraws(view, digest, "flip").between(0, 1) < view.flip


def draw_colors(view: View, digest: bytes) -> list[tuple[str, float]]:
    """Return what is done to the colours in which order, as torchvision's ColorJitter draws it: (name, factor) each.

    Args:
        view: Whose `color` is the strength.
        digest: Of the image's file, 32 bytes.
    """
    if not view.color:
        return []
    draws, strength = ViewDraws(view, digest, "color"), view.color
    factors = {name: draws.between(1 - strength, 1 + strength) for name in ("brightness", "contrast", "saturation")}
    factors["hue"] = draws.between(-strength / _HUE_SHARE, strength / _HUE_SHARE)
    places = {name: draws.between(0, 1) for name in factors}
    return sorted(factors.items(), key=lambda item: places[item[0]])


VIEW_FIELDS = tuple(field.name for field in fields(View))
