"""How figures and names are written, in messages, in tables and on pages: each in one way."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
