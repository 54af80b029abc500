"""Keeping a cache well: what is wrong in it, mending it, and tidying it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
