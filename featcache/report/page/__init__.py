"""The report as one HTML file that needs no network, no server and, but for sorting and clicking, no JavaScript."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
