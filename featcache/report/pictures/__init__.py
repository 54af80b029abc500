"""PNG files: an evaluation as matrix and bars, predictions as a contact sheet, a video as a strip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
