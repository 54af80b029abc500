"""`weights.json`: (architecture, weights asked for, the file's stat) -> sha256 of the tensors.

A memory, never the truth: where it is lost or damaged, the weights are read and hashed once more.
"""

import dataclasses
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.files import (
    FileStat,
    is_racy,
    make_folder,
    now_ns,
    publish,
    read_file_stat,
    seal_document,
    wait_while_racy,
)
from featcache.trunks.documents import WEIGHTS, RememberedWeights

_LONGEST_WAIT = 0.03  # seconds; enough where a file system keeps fractions of a second

WEIGHTS_MEMO_NAME = "weights.json"
_NAMED_SETTINGS = {"arch", "weights", "image_size", "transform", "interpolate_positions", "cnn"}


@dataclasses.dataclass(frozen=True, slots=True)
class WeightsMemo:
    """The hashes of weights that one cache remembers."""

    cache: Path
    is_read_only: bool = False  # nothing is noted: for what only looks at a cache, or has none

    def find(self, arch: str, asked: str, file: Path | None, *, vouched: bool) -> str | None:
        """Return the tensors' sha256, 64 hex digits, if these very weights were hashed before; else None.

        Args:
            arch: The architecture's name.
            asked: How the weights are asked for.
            file: The file that holds them; None where there is none.
            vouched: The name alone stands for one content (torchvision's names do, with their hash check), so that a
                cache can be used where the file itself is not.
        """
        status = read_file_stat(str(file)) if file else None
        for entry in self._entries():
            if (entry.arch, entry.asked) == (arch, _key(asked, file, vouched=vouched)) and (
                entry.stat == status or (vouched and status is None)
            ):
                return entry.sha256
        return None

    def find_facts(self, arch: str, asked: str, file: Path | None) -> dict[str, Any] | None:
        """Return what is remembered of a library's network with these very weights; None where nothing is.

        Args:
            arch: The network's name.
            asked: How it and its weights are asked for, and with which version of the library.
            file: The file that holds them; None where the name alone stands for one content.
        """
        status = read_file_stat(str(file)) if file else None
        for entry in self._entries():
            if (entry.arch, entry.asked) == (arch, asked) and entry.stat == status:
                return entry.facts
        return None

    def is_remembered(self, arch: str, sha256: str, file: Path) -> bool:
        """Return whether a library's network had these tensors from this very file.

        Args:
            arch: The network's name, in specs.
            sha256: Of the tensors.
            file: The checkpoint; one that has changed by its stat is not remembered.
        """
        status = read_file_stat(str(file))
        return status is not None and any(
            (entry.arch, entry.sha256, entry.stat) == (arch, sha256, status)
            and (entry.facts or {}).get("settings", {}).get("weights") == str(file.absolute())
            for entry in self._entries()
        )

    def file_sha256(self, arch: str, file: Path) -> str | None:
        """Return the sha256 of the bytes of this very file, 64 hex digits; None where it is not remembered.

        Args:
            arch: The name of the architecture that it was read as.
            file: The checkpoint; one that is gone, or has changed by its stat, is not remembered.
        """
        status = read_file_stat(str(file))
        for entry in self._entries():
            if (entry.arch, entry.asked) == (arch, _key("", file, vouched=False)):
                return entry.file_sha256 if status is not None and entry.stat == status else None
        return None

    def remember(
        self, arch: str, asked: str, file: Path | None, sha256: str, *, vouched: bool, before: FileStat | None,
        read_at: int, file_sha256: str = "", key: str = "", facts: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Note the hash of what was just read.

        A file that was replaced meanwhile is not noted, nor one too young to be told from its next version.

        Args:
            arch: The architecture's name.
            asked: How the weights were asked for.
            file: The file that holds them; None where there is none.
            sha256: Of the tensors.
            vouched: As for `find`.
            before: The file's stat, before it was read.
            read_at: `now_ns` before it was read.
            file_sha256: Of the file's bytes, where it was taken; else "".
            key: What stands for the weights, where it is not their name or file.
            facts: Of a library's network, as JSON.

        Raises:
            MachineError: the cache cannot be written to.
        """
        if self.is_read_only:
            return
        status = read_file_stat(str(file)) if file else None
        if status and (is_racy(status, read_at) or (status != before and not vouched)):
            return
        key = key or _key(asked, file, vouched=vouched)
        others = [entry for entry in self._entries() if (entry.arch, entry.asked) != (arch, key)]
        kept = [entry.model_dump(mode="json", exclude_none=False) for entry in others]
        entry = {"arch": arch, "asked": key, "stat": list(status) if status else None, "sha256": sha256}
        entry |= {"file_sha256": file_sha256} if file_sha256 else {}
        kept.append({**entry, "facts": facts} if facts else entry)
        make_folder(self.cache)
        publish(self.cache / WEIGHTS_MEMO_NAME, seal_document({"format": 1, "weights": kept}), replace=True)

    def entries(self) -> list[tuple[str, str, str]]:
        """Return of each: the architecture, how the weights were asked for (a file: its path), the tensors' sha256."""
        return [(entry.arch, entry.asked, entry.sha256) for entry in self._entries()]

    def settings_of(self, arch: str, sha256: str) -> list[dict[str, Any]]:
        """Return how networks of libraries with these tensors were asked for, as settings of a [trunk] section.

        Args:
            arch: The network's name, in specs.
            sha256: Of the tensors.
        """
        entries = [entry for entry in self._entries() if (entry.arch, entry.sha256) == (arch, sha256)]
        noted = [entry.facts.get("settings") for entry in entries if entry.facts]
        return [settings for settings in noted if isinstance(settings, dict) and settings.keys() <= _NAMED_SETTINGS]

    def _entries(self) -> list[RememberedWeights]:
        try:
            return WEIGHTS.read(self.cache / WEIGHTS_MEMO_NAME).weights
        except CacheError:
            return []


def _key(asked: str, file: Path | None, *, vouched: bool) -> str:
    """Return what stands for weights in the memory: a name, or a file's path."""
    return asked if vouched or file is None else str(file.absolute())


def look_at_settled(file: Path | None) -> tuple[int, FileStat | None]:
    """Return the time and a file's stat; of one that was written just now, once its stat would show another change."""
    looked_at, status = now_ns(), read_file_stat(str(file)) if file else None
    if status is not None and is_racy(status, looked_at):
        wait_while_racy(status, looked_at, _LONGEST_WAIT)
        looked_at, status = now_ns(), read_file_stat(str(file))
    return looked_at, status
