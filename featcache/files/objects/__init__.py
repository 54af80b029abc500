"""Caches in an object store: places in it, the operations on a bucket, numbered logs, leases, copies on the local disk.

`ObjectPath` stands where code expects a path; the functions of `files` hand it to what stands here. A library for
object stores is imported with the first operation on a bucket, and never for a local cache.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
