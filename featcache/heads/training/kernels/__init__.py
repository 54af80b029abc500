"""Steps of a stack of heads as loops that LLVM compiles, and the team of threads that runs them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
