"""TrunkSpec: everything that can change a byte of an embedding, and nothing else. No torch here."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

from featcache.media import MOST_VIEWS, Decoder, ImageTransform, View

# A bare name is torchvision's; library:name, with the slashes of a hub; package.module:callable.
ARCH_PATTERN = (
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99})?)?"
)
LAYER_PATTERN = r"(cls|mean)(@-[1-9][0-9]?)?|pooled|tokens|grid[1-9][0-9]?|name:[A-Za-z0-9_.]{1,200}"
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # as Pillow has them


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkSpec:
    """The identity of a store.

    Not in it, because they must not matter: batch size, workers, device, engine, shard size, paths. Versions and
    hardware may matter a little; they are recorded beside the spec as provenance.
    """

    arch: str  # "vit_b_16"
    weights_sha256: str  # of the trunk's tensors, not of the file that carried them
    transform: ImageTransform
    layer: str = "cls"  # the class token after the final LayerNorm; others: `layers`
    compute: Literal["float32", "bfloat16"] = "float32"
    stored: Literal["float32", "float16"] = "float32"
    positions: Literal["own", "interpolated"] = "own"  # position embeddings: the weights', or made of another size's
    config: str = ""  # sha256 of the library's configuration, where the name alone does not say what is computed
    view: View | None = None  # which augmentation of each image; None: the plain image

    @property
    def decoder(self) -> Decoder:
        """What decodes the images: the default is bit-equal to Pillow with torchvision's transform."""
        return self.transform.decoder

    @property
    def refusal(self) -> str:
        """Why an image without a finite embedding has none, as far as is known."""
        refused = "the GPU cannot decode it (--decode exact may), or " if self.decoder == "nvjpeg" else ""
        return f"{refused}its embedding is not finite, or too large to be stored"

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values; a field at its default is left out: a new one changes no old fingerprint."""
        document = _without_defaults(self)
        decoder = document["transform"].pop("decoder", None)  # it is read with the transform, but stands beside it
        return document if decoder is None else {**document, "decoder": decoder}

    def fingerprint(self) -> str:
        """Return the sha256 of the canonical JSON, 64 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, document: Any) -> "TrunkSpec":
        """Return the spec that `to_json` wrote.

        Args:
            document: Parsed JSON from a file that may be anybody's: every key and value of it is checked.

        Raises:
            ValueError: a key or a value that this version does not know, one that is missing, or a field that stands
                there at its default.
        """
        values = _checked(document, _SPEC, "spec")
        transform = _checked(values["transform"], _TRANSFORM, "transform")
        if "decoder" in values:
            transform["decoder"] = values.pop("decoder")
        transform["mean"], transform["std"] = tuple(transform["mean"]), tuple(transform["std"])
        view = View(**_checked(values["view"], _VIEW, "view")) if "view" in values else None
        spec = cls(**{**values, "transform": ImageTransform(**transform), "view": view})
        parts, canonical = [name for name in ("transform", "view") if name in values], spec.to_json()
        left_out = _at_default(document, canonical) or ", ".join(
            filter(None, (_at_default(values[part], canonical[part]) for part in parts))
        )
        if left_out:
            raise ValueError(f"its {left_out} is at the default, where it has to be left out")
        return spec


def check_transform(transform: ImageTransform) -> None:
    """Raise an error unless this is a transform that a spec can hold.

    Args:
        transform: What is done to an image.

    Raises:
        ValueError: a value is none; the message says which, and what was expected.
    """
    document = _without_defaults(transform)
    document.pop("decoder", None)
    _checked(document, _TRANSFORM, "transform")


def _one_of(*known: Any) -> Callable[[Any], str]:
    """A rule: one of these values, of their type."""
    words = " or ".join(json.dumps(value) for value in known)
    return lambda value: "" if any(type(value) is type(one) and value == one for one in known) else words


def _matches(pattern: str, words: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, str) and re.fullmatch(pattern, value) else words


def _edge(value: Any) -> str:
    return "" if type(value) is int and 1 <= value <= _LARGEST_EDGE else f"a whole number from 1 to {_LARGEST_EDGE}"


def _three(low: float) -> Callable[[Any], str]:
    """A rule: three finite numbers above `low`, for red, green and blue."""

    def rule(value: Any) -> str:
        numbers = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
        if numbers and len(value) == 3 and all(low < item < _LARGEST_EDGE and math.isfinite(item) for item in value):
            return ""
        return f"three numbers above {low:g}"

    return rule


def _share(value: Any) -> str:
    return "" if type(value) in (int, float) and 0 < value <= 1 else "a number above 0 and at most 1"


def _whole(least: int, most: int) -> Callable[[Any], str]:
    """A rule: a whole number from `least` to `most`."""
    return lambda value: (
        "" if type(value) is int and least <= value <= most else f"a whole number from {least} to {most}"
    )


# A rule returns "" for a value that this version knows, else what it expected.
_LARGEST_EDGE = 1 << 14  # pixels
_TRANSFORM: Mapping[str, tuple[bool, Callable[[Any], str]]] = {
    "resize": (True, _edge),
    "crop": (True, _edge),
    "mean": (True, _three(-_LARGEST_EDGE)),
    "std": (True, _three(0)),
    "interpolation": (False, _one_of(*INTERPOLATIONS)),
    "fit": (False, _one_of("shorter", "squash")),
    "height": (False, _edge),
    "resize_height": (False, _edge),
    "placement": (False, _one_of("round", "floor")),
    "antialias": (False, _one_of(True)),
    "exif": (False, _one_of("ignore", "apply")),
    "modes": (False, _one_of("rgb")),
}
_VIEW: Mapping[str, tuple[bool, Callable[[Any], str]]] = {
    "number": (True, _whole(1, MOST_VIEWS)),
    "seed": (False, _whole(0, 10**18 - 1)),
    "flip": (False, _share),
    "crop": (False, _share),
    "color": (False, _share),
}
_SPEC: Mapping[str, tuple[bool, Callable[[Any], str]]] = {
    "arch": (True, _matches(ARCH_PATTERN, "a name of letters, digits, dots, dashes")),
    "weights_sha256": (True, _matches(r"[0-9a-f]{64}", "64 hex digits")),
    "transform": (True, lambda value: "" if isinstance(value, dict) else "an object"),
    "layer": (False, _matches(LAYER_PATTERN, "cls, mean, pooled, cls@-2, tokens, grid2, name:…")),
    "config": (False, _matches(r"[0-9a-f]{64}", "64 hex digits")),
    "positions": (False, _one_of("own", "interpolated")),
    "decoder": (False, _one_of(*get_args(Decoder))),
    "compute": (False, _one_of("float32", "bfloat16")),
    "stored": (False, _one_of("float32", "float16")),
    "view": (False, lambda value: "" if isinstance(value, dict) else "an object"),
}


def _checked(document: Any, known: Mapping[str, tuple[bool, Callable[[Any], str]]], name: str) -> dict[str, Any]:
    if type(document) is not dict:
        raise ValueError(f"its {name} is not an object")
    for key in document:
        if key not in known:
            raise ValueError(f"its {name} has a key {key[:60]!r}, which this version does not know")
    for key, (needed, rule) in known.items():
        if key not in document:
            if needed:
                raise ValueError(f"its {name} has no {key}")
        elif expected := rule(document[key]):
            raise ValueError(f"its {key} is {json.dumps(document[key], default=str)[:60]}, expected {expected}")
    return dict(document)


def _at_default(document: Mapping[str, Any], canonical: Mapping[str, Any]) -> str:
    return ", ".join(sorted(document.keys() - canonical.keys()))


def _without_defaults(value: Any) -> dict[str, Any]:
    found = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.default is not MISSING and item == field.default:
            continue
        found[field.name] = _without_defaults(item) if hasattr(item, "__dataclass_fields__") else item
    return found
