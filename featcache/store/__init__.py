"""Embeddings on disk: immutable shards, a log, and listings as they were extracted."""

from featcache.store import dealt
from featcache.store.catalog import broken, cache_folder, choose, create, find
from featcache.store.check import Problem
from featcache.store.listings import Extracted
from featcache.store.stat_log import StatLog
from featcache.store.store import FeatureStore, is_recorded, recorded_form
from featcache.store.weights_memo import WeightsMemo
from featcache.store.writer import StoreWriter

__all__ = [
    "Extracted",
    "FeatureStore",
    "Problem",
    "StatLog",
    "StoreWriter",
    "WeightsMemo",
    "broken",
    "cache_folder",
    "choose",
    "create",
    "dealt",
    "find",
    "is_recorded",
    "recorded_form",
]
