"""Networks that another library defines: named, built, filled with weights, and read layer by layer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
