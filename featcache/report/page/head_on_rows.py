"""What the pages of heads on classes, on labels and on numbers have in common: which head, on which rows."""

from typing import Protocol

from featcache.dataset import DatasetRequest
from featcache.features import Features
from featcache.heads.saved import ChosenHead, SavedModel
from featcache.store import FeatureStore


class HeadOnRows(Protocol):
    """A head on a split, whatever its rows have to be predicted."""

    @property
    def request(self) -> DatasetRequest:
        """The data set, its cache, and the stores that are meant."""

    @property
    def store(self) -> FeatureStore:
        """That the head was trained on."""

    @property
    def head(self) -> SavedModel:
        """The head."""

    @property
    def choice(self) -> ChosenHead:
        """How it was chosen, and the run that made it."""

    @property
    def features(self) -> Features:
        """The embeddings of the split."""
