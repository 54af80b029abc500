"""TrunkSpec: everything that can change a byte of an embedding, and nothing else. No torch here."""

import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from featcache.images import ImageTransform


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkSpec:
    """The identity of a store.

    Not in it, because they must not matter: batch size, workers, device, engine, shard size, paths. Versions and
    hardware may matter a little; they are recorded beside the spec as provenance.
    """

    arch: str  # "vit_b_16"
    weights_sha256: str  # of the trunk's tensors, not of the file that carried them
    transform: ImageTransform
    layer: Literal["cls"] = "cls"  # the class token after the final LayerNorm
    decoder: Literal["pillow"] = "pillow"  # bit-equal to Pillow with torchvision's transform
    compute: Literal["float32", "bfloat16"] = "float32"
    stored: Literal["float32", "float16"] = "float32"

    def to_json(self) -> dict[str, Any]:
        """The spec as plain values; a field at its default is left out, so a new field changes no old fingerprint."""
        return _without_defaults(self)

    def fingerprint(self) -> str:
        """sha256 of the canonical JSON, 64 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "TrunkSpec":
        """The inverse of `to_json`.

        Raises:
            TypeError, KeyError: a key that this version does not know, or one that is missing.
        """
        transform = dict(document["transform"])
        transform["mean"], transform["std"] = tuple(transform["mean"]), tuple(transform["std"])
        return cls(**{**document, "transform": ImageTransform(**transform)})


def _without_defaults(value: Any) -> dict[str, Any]:
    found = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.default is not MISSING and item == field.default:
            continue
        found[field.name] = _without_defaults(item) if hasattr(item, "__dataclass_fields__") else item
    return found
