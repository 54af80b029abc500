"""What the documents about weights may say."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from featcache.files import Document, DocumentKind, Sha256, SingleLine, StatNumbers, Text, as_tuple


class RememberedWeights(Document):
    """One entry of weights.json."""

    arch: SingleLine
    asked: Text
    stat: Annotated[StatNumbers | None, BeforeValidator(as_tuple)]
    sha256: Sha256
    file_sha256: Sha256 | None = None  # of the bytes of the file, where somebody took it
    facts: dict[str, Any] | None = None  # of a library's network: what names its stores without importing the library


class WeightsDocument(Document):
    """weights.json: the hashes of weights files that were read."""

    weights: list[RememberedWeights]


WEIGHTS = DocumentKind(WeightsDocument, "memory of weights", "the weights are hashed once more")
