"""Stage two: heads and classifiers on embeddings, and the convex optimum that linear heads are held against."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
