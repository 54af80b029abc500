"""Embeddings on disk: immutable shards, a log, and listings as they were extracted.

What stands on disk: `shard`, `commits`, `listings`, `trunk_record`, `split_assignment`, their `documents`, and `hdf5`.
Reading and writing it: `store`, its `writer` and `index`, and `windows` of embeddings that memory does not hold.
Finding a store: `catalog`, by a `request`; and whether a data set was `moved`.
Keeping one well: `check`, `repair_steps`, `compaction`. For other people's tools: `plain_hdf5`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
