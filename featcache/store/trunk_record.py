"""`trunk.json`: which trunk a store belongs to, and, apart from that, where each part of it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.files import FORMAT, publish, seal_document
from featcache.store.documents import TRUNK
from featcache.trunks import TrunkSpec

TRUNK_FILE = "trunk.json"
FINGERPRINT_DIGITS = 8  # hex digits of the spec's sha256 at the end of a store's folder


@dataclass(frozen=True, slots=True, eq=False)
class TrunkRecord:
    """What `trunk.json` says: the spec, how its weights were named, and where each part was made."""

    spec: TrunkSpec
    weights_name: str  # "IMAGENET1K_V1", a file's name, "random"; the key `asked`
    weights_path: str = ""  # the same with a file's whole path, the key `weights`; "" in stores of earlier versions
    # Versions and hardware, the key `made`; a shard's line in the log says which entry computed its rows.
    provenance: tuple[Mapping[str, Any], ...] = ()


def read_trunk(root: Path) -> TrunkRecord:
    """Return what the trunk.json in a store's folder says.

    Args:
        root: The store's folder, under its own name: the fingerprint in it is compared.

    Raises:
        CacheError: it is missing, damaged, of another format, or of another trunk than the folder's name says.
    """
    path = root / TRUNK_FILE
    document = TRUNK.read(path)
    try:
        spec = TrunkSpec.from_json(document.spec)
    except ValueError as error:
        raise CacheError(
            f"{path}: this version of featcache does not know this trunk: {error}; use the featcache that made it, or "
            f"another --cache"
        ) from None
    tail = spec.fingerprint()[:FINGERPRINT_DIGITS]
    if not root.name.endswith(f"-{tail}"):
        raise CacheError(
            f"{path}: it describes trunk {tail}, but the folder is named after another; give the folder its own name, "
            f"which ends in -{tail}"
        )
    return TrunkRecord(spec, document.asked, document.weights, tuple(document.made))


def write_trunk(root: Path, trunk: TrunkRecord) -> None:
    """Publish the trunk.json in a store's folder anew.

    Raises:
        MachineError: the disk refuses; the old one stands.
    """
    document = {
        "format": FORMAT,
        "asked": trunk.weights_name,
        "spec": trunk.spec.to_json(),
        "made": list(trunk.provenance),
    } | ({"weights": trunk.weights_path} if trunk.weights_path else {})
    publish(root / TRUNK_FILE, seal_document(document), replace=True)
