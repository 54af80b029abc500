"""Stage two: linear heads, and the convex optimum that they are held against."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
