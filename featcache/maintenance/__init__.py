"""Keeping a cache in order: verifying it, repairing it, removing what it does not need, and saying what it holds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
