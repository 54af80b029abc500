"""Estimators of scikit-learn on disk, as files of skops that are checked before anything of them is built."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
