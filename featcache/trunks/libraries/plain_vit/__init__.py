"""Networks of libraries that are plain Vision Transformers, brought to the one form that the fast forward runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
