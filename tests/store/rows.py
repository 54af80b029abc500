"""Images that are numbers: their digests, their embeddings, and stores of them."""

import hashlib

import numpy as np

from featcache.files.stat_log import StatLog
from featcache.store.index import pack_digests
from featcache.store.listings import ExtractedListing
from featcache.store.store import FeatureStore
from tests.builders import extracted, listing

DIM = 5
KEY = ("digits", "all", "train")


def again(store: FeatureStore) -> FeatureStore:
    """The same store as the next process sees it, with what this one remembers of files forgotten."""
    return FeatureStore.open(store.root, StatLog(store.cache / "nothing"))


def digest_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def digests_of(numbers) -> np.ndarray:
    return pack_digests([digest_of(number) for number in numbers])


def embeddings_of(numbers, shift: float = 0.0) -> np.ndarray:
    """The embedding of image `number`: its own pseudo-random row."""
    rows = [np.random.default_rng(number).standard_normal(DIM) + shift for number in numbers]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def put(store: FeatureStore, *parts, shift: float = 0.0) -> FeatureStore:
    """One shard for each part."""
    with store.writer() as writer:
        for numbers in parts:
            writer.append(digests_of(numbers), embeddings_of(numbers, shift))
            writer.flush()
    return again(store)


def an_extract(numbers, split: str = "train") -> ExtractedListing:
    paths = tuple(f"{split}/0/{number}.png" for number in numbers)
    rows = listing([0] * len(numbers), split=split, data_set="digits", root="/data", classes=("0",), paths=paths)
    return extracted(rows, digests_of(numbers))
