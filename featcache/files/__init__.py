"""Durable files: published whole, read safely, sealed, locked, appended to.

Writing: `publishing`, and nothing else in featcache writes to a cache; `lock`. Reading what anybody may have put there:
`safe_read`, of a cache `cache_files`, past the page cache `direct_io`. What files hold: `sealed` JSON, `documents` with
a schema, `append_log` and the `stat_log` that is one, `tensors`. Whether a file has changed: `file_stat`. What people
type: paths with a `home`, and `encoding`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
