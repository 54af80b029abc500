"""Images and videos: bytes become checked pixels. Only this package decodes on a CPU."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
