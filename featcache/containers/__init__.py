"""Files that hold many images: tar files. Which images are in one, and the bytes of each, read in place.

An image in a container is addressed by the container's path, `#`, and its key there. Nothing is ever unpacked to disk,
and a key never becomes a path.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
