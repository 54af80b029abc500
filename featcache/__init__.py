"""featcache: run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.

The names below are loaded when they are first used: `import featcache` imports neither torch nor NumPy.
"""

import warnings

import lazy_loader

from featcache._version import __version__ as __version__

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_RENAMED = {"Folds": "FoldsEvaluation", "Paired": "PairedEvaluation", "difference": "evaluate_pair"}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        warnings.warn(f"featcache.{name} is called featcache.{_RENAMED[name]} now", DeprecationWarning, stacklevel=2)
    elif name not in __all__:
        raise AttributeError(f"module 'featcache' has no attribute {name!r}")
    return _load(_RENAMED.get(name, name))
