"""The checkpoint of a training: its tensors in one safetensors file, named by a sealed document that is written last.

    <cache>/finetuned/unfinished/<name>/    checkpoint.json, tensors-<step>.safetensors

Nothing in it is pickled, and nothing of it is executed. The document holds the sha256 of the tensors; it is replaced
when the new tensors are on disk, and only then the old ones are removed: whenever the power goes, one whole
checkpoint is there.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from featcache.errors import CacheError
from featcache.files import (
    FORMAT,
    Document,
    DocumentKind,
    FolderName,
    MissingError,
    Sha256,
    make_folder,
    publish,
    read_hashed_file,
    remove_empty_folder,
    remove_file,
    seal_document,
    sweep_scratch,
)
from featcache.files.objects import working_place
from featcache.trunks import FINETUNED_FOLDER

if TYPE_CHECKING:
    from torch import Tensor

DOCUMENT = "checkpoint.json"
_WAY_OUT = "remove its folder, and the training begins again"


class CheckpointDocument(Document):
    """checkpoint.json."""

    tensors: FolderName
    sha256: Sha256
    state: Annotated[dict[str, Any], Field(min_length=1)]


CHECKPOINT = DocumentKind(CheckpointDocument, "checkpoint", _WAY_OUT)


class Checkpoint:
    """The place of one training's checkpoint."""

    def __init__(self, cache: Path, name: str) -> None:
        """Name the place; nothing is read or written yet.

        Args:
            cache: The cache folder.
            name: Stands for all that the training is made of.
        """
        self.folder = working_place(cache / FINETUNED_FOLDER / "unfinished" / name, cache)

    def save(self, tensors: Mapping[str, "Tensor"], state: dict[str, Any]) -> None:
        """Replace the checkpoint by this one.

        Args:
            tensors: By name.
            state: JSON values.

        Raises:
            MachineError: the disk refuses; the checkpoint before it is whole.
        """
        from safetensors.torch import save

        data = save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
        name = f"tensors-{state['step']:08d}-{state['batch']:06d}.safetensors"
        make_folder(self.folder)
        publish(self.folder / name, data, replace=True)
        document = {"format": FORMAT, "tensors": name, "sha256": hashlib.sha256(data).hexdigest(), "state": state}
        publish(self.folder / DOCUMENT, seal_document(document), replace=True)
        for old in self.folder.glob("tensors-*.safetensors"):
            if old.name != name:
                remove_file(old)
        sweep_scratch(self.folder)  # of one that was killed while it wrote

    def load(self) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Return the tensors and the state; None where there is no checkpoint.

        Raises:
            CacheError: it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            document = CHECKPOINT.read(self.folder / DOCUMENT)
        except MissingError:
            return None
        path = self.folder / document.tensors
        data = read_hashed_file(path, document.sha256, way_out=_WAY_OUT)
        try:
            return load(data), document.state
        except SafetensorError as error:
            raise CacheError(f"{path}: this checkpoint cannot be read by this version: {error}; {_WAY_OUT}") from None

    def remove(self) -> None:
        """Remove the checkpoint: the training is done, and its result is kept."""
        for file in (*self.folder.glob(DOCUMENT), *self.folder.glob("tensors-*.safetensors")):
            remove_file(file)
        for folder in (self.folder, self.folder.parent):  # of other trainings
            remove_empty_folder(folder)
