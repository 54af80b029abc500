"""`trunk.json`: which trunk a store belongs to, and, apart from that, where each part of it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.store import publish
from featcache.store.sealed import seal_document, unseal_document
from featcache.trunks.spec import TrunkSpec

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class TrunkRecord:
    """What `trunk.json` says: the spec, how its weights were asked for, and where each part was made."""

    spec: TrunkSpec
    asked: str  # "IMAGENET1K_V1", a file's name, "random"
    made: tuple[Mapping[str, Any], ...] = ()  # versions and hardware of each extract that added rows


def read_trunk(root: Path) -> TrunkRecord:
    """What trunk.json says.

    Raises:
        CacheError: it is missing, damaged, or of another format.
    """
    path = root / "trunk.json"
    try:
        document = unseal_document(path.read_bytes())
    except OSError as error:
        raise CacheError(f"{path}: no store here: {error.strerror}") from None
    if document is None:
        raise CacheError(f"{path}: this file is damaged: it does not match its checksum")
    if document.get("format") != FORMAT:
        raise CacheError(
            f"{path}: a store of format {document.get('format')}, this featcache reads {FORMAT}; "
            f"use the featcache that made it, or another --cache"
        )
    try:
        spec = TrunkSpec.from_json(document["spec"])
        return TrunkRecord(spec, document["asked"], tuple(document["made"]))
    except (KeyError, TypeError) as error:
        raise CacheError(f"{path}: this version of featcache does not know this trunk: {error}") from None


def write_trunk(root: Path, trunk: TrunkRecord) -> None:
    """Publish trunk.json anew."""
    document = {
        "format": FORMAT,
        "asked": trunk.asked,
        "spec": trunk.spec.to_json(),
        "made": list(trunk.made),
    }
    publish.publish(root / "trunk.json", seal_document(document), replace=True)
