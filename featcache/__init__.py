"""featcache: run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.

The names below are loaded when they are first used: `import featcache` imports neither torch nor NumPy.
"""

import lazy_loader

from featcache._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
