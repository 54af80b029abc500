"""ObjectVersion: which version of an object was read, and which names of objects featcache can have written."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What an object store says of an object: enough to know whether it is still the one that was read."""

    size: int  # bytes
    modified_ns: int  # by the clock of the object store, nanoseconds since 1970
    e_tag: str | None
    version: str | None

    @property
    def condition(self) -> dict[str, str]:
        """What a put names in order to replace this very version."""
        tags = {"e_tag": self.e_tag, "version": self.version}
        return {name: tag for name, tag in tags.items() if tag is not None}


def version_of(entry: Any) -> ObjectVersion:
    """Return what obstore says of an object.

    Args:
        entry: As obstore gives it.
    """
    modified_ns = int(entry["last_modified"].timestamp() * 1e6) * 1000
    return ObjectVersion(entry["size"], modified_ns, entry["e_tag"], entry["version"])


def is_name(name: str) -> bool:
    """Return whether a part of a listed key is the name of something that featcache can have written.

    Args:
        name: What stands between two slashes.
    """
    return name not in ("", ".", "..") and "/" not in name and name.isprintable() and "\\" not in name
