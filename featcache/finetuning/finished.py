"""A training that is done: what its result is, so that the same call shows it again and trains nothing.

<cache>/finetuned/finished/<name>.json

The document is written last, when trunk and head are kept. Where either is gone, the training is not done.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.files import (
    FORMAT,
    Count,
    Document,
    DocumentKind,
    FolderName,
    MissingError,
    Seconds,
    is_present,
    make_folder,
    publish,
    remove_file,
    seal_document,
)
from featcache.files.objects import working_place
from featcache.finetuning.state import TrainingState
from featcache.heads.saved import MODEL_DOCUMENTS, heads_folder
from featcache.store import FeatureStore, find_stores
from featcache.trunks import FINETUNED_FOLDER

_WAY_OUT = "remove it, and the network is trained again"


class FinishedDocument(Document):
    """What finished/<name>.json says."""

    weights: FolderName  # the file of the trunk, beside the folder of these documents
    store: FolderName  # of its embeddings
    head: FolderName
    learning: Count  # parameters
    parameters: Count
    seconds: Seconds
    state: Annotated[dict[str, Any], Field(min_length=1)]  # as the last checkpoint had it


FINISHED = DocumentKind(FinishedDocument, "result of a training", _WAY_OUT)


@dataclass(frozen=True, slots=True, eq=False)
class FinishedTraining:
    """A training that is done, and whose trunk and head are there."""

    name: str  # of the training
    document: FinishedDocument
    state: TrainingState
    weights: Path
    head: Path  # its folder
    store: FeatureStore


def _place(cache: Path, name: str) -> Path:
    return working_place(cache / FINETUNED_FOLDER / "finished" / f"{name}.json", cache)


def write_finished(cache: Path, name: str, state: TrainingState, **document: Any) -> None:
    """Write down that a training is done.

    Args:
        cache: The cache folder.
        name: Of the training, as its checkpoint has it.
        state: How far it came.
        **document: The other keys of the document.

    Raises:
        MachineError: the disk refuses.
    """
    path = _place(cache, name)
    make_folder(path.parent)
    publish(path, seal_document({"format": FORMAT, **document, "state": state.to_json()}), replace=True)


def forget_finished(cache: Path, name: str) -> None:
    """Remove what says that a training is done; its trunk and its head stay.

    Args:
        cache: The cache folder.
        name: Of the training.
    """
    if is_present(path := _place(cache, name)):
        remove_file(path)


def find_finished(request: DatasetRequest, name: str) -> FinishedTraining | None:
    """Return a training that is done; None where it is not, or where its trunk or its head is gone.

    Args:
        request: The data set and its cache.
        name: Of the training.

    Raises:
        CacheError: the document is damaged.
    """
    path = _place(request.folder, name)
    try:
        document = FINISHED.read(path)
        state = TrainingState.from_json(document.state)
    except MissingError:
        return None
    except ValueError as error:
        raise CacheError(f"{path}: this cannot be read by this version: {error}; {_WAY_OUT}") from None
    weights = working_place(request.folder / FINETUNED_FOLDER / document.weights, request.folder)
    stores = {store.name: store for store in find_stores(request.folder, request.stat_log)}
    store = stores.get(document.store)
    if store is None or not is_present(weights):
        return None
    head = heads_folder(store, request.recipe.name, request.variant) / document.head
    if not any(is_present(head / file) for file in MODEL_DOCUMENTS):
        return None
    return FinishedTraining(name, document, state, weights, head, store)
