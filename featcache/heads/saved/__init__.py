"""Saved models: heads and classifiers on disk, the log of the runs that made them, and finding one of them again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
