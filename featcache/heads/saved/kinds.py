"""The kinds of model that a folder can hold, and how any of them is read."""

from pathlib import Path

from featcache.files import is_present
from featcache.heads.saved import classifier_folder, linear, target_model
from featcache.heads.saved.model import ModelKind, SavedModel
from featcache.store import FeatureStore

KINDS = (
    classifier_folder.KIND,
    target_model.KIND,
    linear.KIND,
)  # a folder that holds none of their documents is read as one of the last kind
MODEL_DOCUMENTS = tuple(kind.document for kind in KINDS)


def load_model(folder: Path, store: FeatureStore, *, device: str = "cpu") -> SavedModel:
    """Return the model of a folder, ready to predict. Nothing in the folder is executed.

    Args:
        folder: `<store>/heads/<data set>/<variant>/<name>`.
        store: The store that it was trained on; k-NN reads its rows from there.
        device: Where a model that can use a GPU predicts.

    Raises:
        CacheError: there is none, or a damaged one, or one of a newer format.
        MachineError: the rows of k-NN do not fit into memory.
    """
    return _kind_of(folder).load(folder, store, device)


def describe_model(folder: Path) -> SavedModel:
    """Return the model of a folder as its document describes it, without what is large.

    Args:
        folder: As for `load_model`.

    Raises:
        CacheError: as `load_model`.
    """
    return _kind_of(folder).describe(folder)


def check_model(folder: Path) -> None:
    """Hold every file of a model's folder against its document.

    Raises:
        CacheError: as `load_model`.
    """
    _kind_of(folder).check(folder)


def model_document(folder: Path) -> Path:
    """Return the document that is published last, and without which a folder holds no model."""
    return folder / _kind_of(folder).document


def has_model(folder: Path) -> bool:
    """Whether a model was saved whole: one of the documents that are published last is there."""
    return any(is_present(folder / document) for document in MODEL_DOCUMENTS)


def _kind_of(folder: Path) -> ModelKind:
    return next((kind for kind in KINDS if is_present(folder / kind.document)), KINDS[-1])
