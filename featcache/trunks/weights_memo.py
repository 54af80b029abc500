"""`weights.json`: (architecture, weights asked for, the file's stat) -> sha256 of the tensors.

A memory, never the truth: where it is lost or damaged, the weights are read and hashed once more.
"""

import dataclasses
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import Stat, make_folder, now, publish, racy, seal_document, stat_of
from featcache.trunks.documents import WEIGHTS, RememberedWeights

WEIGHTS_MEMO_NAME = "weights.json"


@dataclasses.dataclass(frozen=True, slots=True)
class WeightsMemo:
    """The memory of one cache."""

    cache: Path

    def find(self, arch: str, asked: str, file: Path | None, *, vouched: bool) -> str | None:
        """The tensors' sha256, if these very weights were hashed before; 64 hex digits.

        `vouched`: the name alone stands for one content (torchvision's names do, with their hash check), so that a
        cache can be used where the file itself is not.
        """
        status = stat_of(str(file)) if file else None
        for entry in self._entries():
            if (entry.arch, entry.asked) == (arch, _name(asked, file, vouched=vouched)) and (
                entry.stat == status or (vouched and status is None)
            ):
                return entry.sha256
        return None

    def file_sha256(self, arch: str, file: Path) -> str | None:
        """The sha256 of the bytes of this very file, 64 hex digits; None where nobody took it."""
        status = stat_of(str(file))
        for entry in self._entries():
            if (entry.arch, entry.asked) == (arch, _name("", file, vouched=False)):
                return entry.file_sha256 if status is not None and entry.stat == status else None
        return None

    def remember(
        self, arch: str, asked: str, file: Path | None, sha256: str, *, vouched: bool, before: Stat | None,
        file_sha256: str = "",
    ) -> None:  # fmt: skip
        """Note the hash of what was just read, and whose stat was `before` the reading.

        `file_sha256`: of its bytes, where somebody took it.

        A file that was replaced meanwhile is not noted, nor one too young to be told from its next version.
        """
        status = stat_of(str(file)) if file else None
        if status and (racy(status, now()) or (status != before and not vouched)):
            return
        name = _name(asked, file, vouched=vouched)
        others = [entry for entry in self._entries() if (entry.arch, entry.asked) != (arch, name)]
        kept = [entry.model_dump(mode="json", exclude_none=False) for entry in others]
        entry = {"arch": arch, "asked": name, "stat": list(status) if status else None, "sha256": sha256}
        kept.append({**entry, "file_sha256": file_sha256} if file_sha256 else entry)
        make_folder(self.cache)
        publish(self.cache / WEIGHTS_MEMO_NAME, seal_document({"format": 1, "weights": kept}), replace=True)

    def entries(self) -> list[tuple[str, str, str]]:
        """Architecture, weights as they were asked for (of a file, its path), and the tensors' sha256, of each."""
        return [(entry.arch, entry.asked, entry.sha256) for entry in self._entries()]

    def _entries(self) -> list[RememberedWeights]:
        try:
            return WEIGHTS.read(self.cache / WEIGHTS_MEMO_NAME).weights
        except CacheError:
            return []


def _name(asked: str, file: Path | None, *, vouched: bool) -> str:
    return asked if vouched or file is None else str(file.absolute())
