"""A checkpoint's file, whoever saved it -> the tensors of one network, or what the file is instead."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
