"""Embeddings and labels of a split, in memory or streamed from disk; and as a file for other tools."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
