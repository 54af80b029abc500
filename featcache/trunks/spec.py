"""TrunkSpec: everything that can change a byte of an embedding, and nothing else. No torch here."""

import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

from featcache.images import Decoder, ImageTransform


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
    compute: Literal["float32", "bfloat16"] = "float32"
    stored: Literal["float32", "float16"] = "float32"

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
        """The spec as plain values; a field at its default is left out, so a new field changes no old fingerprint."""
        document = _without_defaults(self)
        decoder = document["transform"].pop("decoder", None)  # it is read with the transform, but stands beside it
        return document if decoder is None else {**document, "decoder": decoder}

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
        if "decoder" in transform:
            raise TypeError("unexpected keyword argument 'decoder' in transform: it stands beside it")
        document = dict(document)
        if "decoder" in document:
            transform["decoder"] = document.pop("decoder")
            if transform["decoder"] not in get_args(Decoder):
                raise TypeError(f"unexpected decoder {transform['decoder']!r}")
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
