"""Heads that are torch modules: what they are made of, and what is kept of one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
