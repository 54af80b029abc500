"""Workers on other machines: where they run, how many fit, and what becomes of one that is lost. Ray is the engine.

`options` say which cluster and what a worker gets of it; `pool` keeps a number of workers at work, on whichever engine
has the interface that `workers` states; `ray_cluster` is the one that imports Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
