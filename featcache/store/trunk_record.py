"""`trunk.json`: which trunk a store belongs to, and, apart from that, where each part of it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.files import FORMAT, publish, seal_document
from featcache.store.documents import TRUNK as DOCUMENT
from featcache.trunks import TrunkSpec

TRUNK = "trunk.json"
TAIL = 8  # hex digits of the spec's sha256 at the end of a store's folder


@dataclass(frozen=True, slots=True, eq=False)
class TrunkRecord:
    """What `trunk.json` says: the spec, how its weights were asked for, and where each part was made."""

    spec: TrunkSpec
    asked: str  # "IMAGENET1K_V1", a file's name, "random"
    weights: str = ""  # the same with a file's whole path; "" in stores that an earlier version made
    made: tuple[Mapping[str, Any], ...] = ()  # versions and hardware; a shard's line in the log names its place here


def read_trunk(root: Path) -> TrunkRecord:
    """What trunk.json says.

    Raises:
        CacheError: it is missing, damaged, of another format, or of another trunk than the folder's name says.
    """
    path = root / TRUNK
    document = DOCUMENT.read(path)
    try:
        spec = TrunkSpec.from_json(document.spec)
    except ValueError as error:
        raise CacheError(
            f"{path}: this version of featcache does not know this trunk: {error}; use the featcache that made it, or "
            f"another --cache"
        ) from None
    tail = spec.fingerprint()[:TAIL]
    if not root.name.endswith(f"-{tail}"):
        raise CacheError(
            f"{path}: it describes trunk {tail}, and the folder is that of another; give the folder its name back, "
            f"which ends in -{tail}"
        )
    return TrunkRecord(spec, document.asked, document.weights, tuple(document.made))


def write_trunk(root: Path, trunk: TrunkRecord) -> None:
    """Publish trunk.json anew."""
    document = {
        "format": FORMAT,
        "asked": trunk.asked,
        "spec": trunk.spec.to_json(),
        "made": list(trunk.made),
    } | ({"weights": trunk.weights} if trunk.weights else {})
    publish(root / TRUNK, seal_document(document), replace=True)
